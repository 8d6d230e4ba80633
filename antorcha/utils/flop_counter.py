"""torch.utils.flop_counter: how many floating point operations matrix products and convolutions take."""

from __future__ import annotations

import math
from collections import Counter

from ..explaining import Observer
from ..graph import tape


def _flops(node) -> int:
    """Two for each product of a sum of products, of which every contraction is made."""
    _, m, n, _ = node.static.dims
    batch_and_rows, others = node.views[0].shape, node.views[1].shape
    columns = others[node.static.dims[0]:node.static.dims[0] + n]
    return 2 * math.prod(batch_and_rows) * math.prod(columns)


class FlopCounterMode(Observer):
    """A context that counts what is computed within it, forward and backward.

    mods, depth and custom_mapping are taken for PyTorch's sake: what is recorded does not tell which module asked for it, so there is
    one table, "Global". display: print it at the end.
    """

    def __init__(self, mods=None, depth: int = 2, display: bool = True, custom_mapping=None):
        self.display, self._counts, self._counting = display, Counter(), False

    def __enter__(self) -> FlopCounterMode:
        super().__enter__()
        self._counts.clear()
        self._counting = True
        return self

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        self._counting = False
        if self.display and error[0] is None:
            print(self.get_table())

    def _observe(self, nodes: list, *args, **kwargs) -> None:
        for node in nodes:
            if node.op.family == "contraction":
                self._counts[node.op.name] += _flops(node)
        self._flush(nodes, *args, **kwargs)

    def get_total_flops(self) -> int:
        """All that was counted so far, what is recorded and not yet computed included."""
        if self._counting:
            tape.flush()
        return sum(self._counts.values())

    def get_flop_counts(self) -> dict:
        """{"Global": {operator: operations}}."""
        self.get_total_flops()
        return {"Global": dict(self._counts)}

    def get_table(self, depth: int | None = None) -> str:
        """The counts as text."""
        rows = [("Global", self.get_total_flops()), *((f" - {name}", count) for name, count in self._counts.items())]
        return "\n".join([f"{'Module':<24}{'FLOP':>20}", *(f"{name:<24}{count:>20,}" for name, count in rows)])
