"""Compare: measurements side by side in a table."""

from __future__ import annotations

import enum

from .measurement import Measurement, ordered_unique, select_unit, trim_sigfig, unit_to_english

BEST, GOOD, BAD, NEUTRAL = "\033[92m\033[1m", "\033[34m", "\033[31m", "\033[0m\033[0m"


class Colorize(enum.Enum):
    """Which entries are compared when the best are coloured."""

    NONE = "none"
    COLUMNWISE = "columnwise"
    ROWWISE = "rowwise"


class Compare:
    """A table for each label: a row for each sub_label (and number of threads), a column for each description; medians."""

    def __init__(self, results: list[Measurement]):
        self._results: list[Measurement] = []
        self._trim, self._colorize, self._highlight = False, Colorize.NONE, False
        self.extend_results(results)

    def extend_results(self, results) -> None:
        """Add measurements."""
        for r in results:
            if not isinstance(r, Measurement):
                raise ValueError(f"Expected an instance of `Measurement`, got {type(r)} instead.")
        self._results.extend(results)

    def trim_significant_figures(self) -> None:
        """Show as many digits as the measurements justify."""
        self._trim = True

    def colorize(self, rowwise: bool = False) -> None:
        """Colour the best entries of each column, or row."""
        self._colorize = Colorize.ROWWISE if rowwise else Colorize.COLUMNWISE

    def highlight_warnings(self) -> None:
        """Mark measurements whose times differ much."""
        self._highlight = True

    def print(self) -> None:
        """Print the tables."""
        print(str(self))

    def __str__(self) -> str:
        merged = Measurement.merge(self._results)
        return "\n".join(self._table(label, [m for m in merged if m.label == label])
                         for label in ordered_unique(m.label for m in merged))

    def _table(self, label, results: list[Measurement]) -> str:
        unit, scale = select_unit(min(m.median for m in results))
        columns = ordered_unique(m.description or "" for m in results)
        rows = ordered_unique((m.num_threads, m.env, m.as_row_name) for m in results)
        cells = {((m.num_threads, m.env, m.as_row_name), m.description or ""): m for m in results}
        several = len({env for _, env, _ in rows}) > 1
        names = [f"({env}) {name}" if several else name for _, env, name in rows]
        texts = [[self._text(cells.get((row, column)), scale) for column in columns] for row in rows]
        widths = [max(len(column), *(len(line[i]) for line in texts)) for i, column in enumerate(columns)]
        first = max(len(name) for name in names) + 6
        head = " " * first + "|" + "|".join(f"  {column:^{w}}  " for column, w in zip(columns, widths))
        lines = [f"[{f' {label or str()} ':-^{len(head) - 2}}]", head]
        threads = None
        for row, name, line in zip(rows, names, texts):
            if row[0] != threads:
                threads = row[0]
                lines.append(f"{threads} threads: ".ljust(len(head), "-"))
            found = [self._coloured(f"  {text:>{w}}  ", cells, row, column) for text, w, column in zip(line, widths, columns)]
            lines.append(f"      {name:<{first - 6}}|" + "|".join(found))
        return "\n".join([*lines, "", f"Times are in {unit_to_english(unit)}s ({unit}).", ""])

    def _text(self, m: Measurement | None, scale: float) -> str:
        if m is None:
            return ""
        value = trim_sigfig(m.median / scale, m.significant_figures) if self._trim else m.median / scale
        return f"{value:.1f}" + (" (!)" if self._highlight and m.has_warnings else "")

    def _coloured(self, text: str, cells: dict, row, column) -> str:
        if self._colorize is Colorize.NONE or (row, column) not in cells:
            return text
        along = 0 if self._colorize is Colorize.ROWWISE else 1
        rivals = [m.median for key, m in cells.items() if key[along] == (row, column)[along]]
        ratio = cells[row, column].median / min(rivals)
        colour = BEST if ratio == 1 else GOOD if ratio < 1.25 else BAD if ratio > 5 else ""
        return f"{colour}{text}{NEUTRAL}" if colour else text
