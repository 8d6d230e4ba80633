"""FileCheck: whether a text says certain things in a certain order."""

from __future__ import annotations


class FileCheck:
    """Rules for a text, in the order in which it must fulfil them; `run` raises RuntimeError where it does not.

    check: comes somewhere after what was found before. check_next: on the following line. check_same: later on the same line.
    check_not: not between what was found before and what is found next. check_count: so often; `exactly`: no more often in the rest.
    """

    def __init__(self):
        self._rules: list[tuple] = []

    def _add(self, *rule) -> FileCheck:
        self._rules.append(rule)
        return self

    def check(self, text: str) -> FileCheck:
        return self._add("check", text)

    def check_next(self, text: str) -> FileCheck:
        return self._add("next", text)

    def check_same(self, text: str) -> FileCheck:
        return self._add("same", text)

    def check_not(self, text: str) -> FileCheck:
        return self._add("not", text)

    def check_count(self, text: str, count: int, exactly: bool = False) -> FileCheck:
        for _ in range(count):
            self.check(text)
        return self._add("not", text) if exactly else self

    def check_dag(self, text: str) -> FileCheck:
        return self._add("dag", text)

    def run(self, test_string: str) -> None:
        """Go through the rules."""
        at, absent = 0, []
        begin_of_dag = 0
        for kind, text in self._rules:
            if kind == "not":
                absent.append(text)
                continue
            if kind != "dag":
                begin_of_dag = at
            found = self._find(kind, text, test_string, begin_of_dag if kind == "dag" else at)
            self._absent(absent, test_string, at, found)
            absent = []
            at = max(at, found + len(text))
        self._absent(absent, test_string, at, len(test_string))

    @staticmethod
    def _find(kind: str, text: str, whole: str, at: int) -> int:
        begin, end = at, len(whole)
        line_end = whole.find("\n", at)
        line_end = end if line_end < 0 else line_end
        if kind == "same":
            end = line_end
        elif kind == "next":
            begin = line_end + 1
            end = whole.find("\n", begin)
            end = len(whole) if end < 0 else end
        found = whole.find(text, begin, end)
        if found < 0:
            raise RuntimeError(f'Expected to find "{text}" ({kind}) from line {whole.count(chr(10), 0, at) + 1} on; the text is:\n{whole}')
        return found

    @staticmethod
    def _absent(texts: list, whole: str, begin: int, end: int) -> None:
        for text in texts:
            if whole.find(text, begin, end) >= 0:
                raise RuntimeError(f'Expected not to find "{text}" between lines {whole.count(chr(10), 0, begin) + 1} and '
                                   f"{whole.count(chr(10), 0, end) + 1}; the text is:\n{whole}")
