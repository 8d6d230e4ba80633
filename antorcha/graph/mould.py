"""Plans that differ from one another in numbers alone: from the one that was made first the others are cast.

Of a plan's words the extents, strides and offsets vary, of its kernels how many tiles they have, of its buffers the sizes. Everything else,
which is most, is shared. The memory of temporaries is laid out with some room, so that a sequence that grows by one is not laid out anew.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..loops.plan import Extern, Layout, Plan
from .node import leaf_form

ROOM = 8            # temporaries are laid out for an eighth more than they take


class Mould:
    """Casts plans like `plan`. Of what a variant (`family.Variant`) knows: `calls` its steps, `results`, `forms` and `temporaries` with the
    numbers in them replaced by places among all numbers; a step done by NumPy, which has no words, is filled in for each plan.
    `steps(numbers)`: the steps of a plan, for `explain`."""

    def __init__(self, plan: Plan, calls: list, results: list, forms: list, temporaries: list, steps: Callable):
        self.plan, self.calls, self.steps = plan, calls, steps
        self.results, self.forms = results, forms
        self.hosts = {step: call for step, call in zip(plan.steps, calls) if isinstance(step, Extern)}
        self.integer_at, self.integer = _columns([(start + at, k) for start, call in zip(plan.starts, calls) for at, k in call.integers], 2)
        self.words = plan.words.copy()      # while there are no addresses in them
        self.varying = self._alike()
        self.checks = [check for call in calls for check in call.checks]
        self.kept = [(b, first, last) for b, first, last, _ in temporaries]
        self.size = np.array([k for *_, k in temporaries], np.int64)
        self.laid = np.zeros(len(temporaries), np.int64)
        self._pointers({b: n for n, (b, *_) in enumerate(temporaries)})

    def _pointers(self, number: dict) -> None:
        """How the offsets of the plan's pointers come about: a constant, a number, or where a temporary lies."""
        offsets, moved, within = [], [], []
        for call in self.calls:
            varying = {at: k for at, _, k in call.pointers}
            for at, arg in enumerate(call.args):
                if arg[0] not in ("ptr", "status"):
                    continue
                here = len(offsets)
                offsets.append(int(arg[2]) if arg[0] == "ptr" and at not in varying else 0)
                if at in varying:
                    moved.append((here, varying[at]))
                if arg[0] == "ptr" and arg[1] in number:
                    within.append((here, number[arg[1]]))
        self.offset = np.array(offsets, np.int64)
        status = self.plan.pointer_row == self.plan.arena_row + 1
        self.offset[status] = self.plan.pointer_offset[status]
        self.moved_at, self.moved = _columns(moved, 2)
        self.within_at, self.within = _columns(within, 2)

    def cast(self, numbers: tuple) -> Plan:
        """The plan with these numbers."""
        values = np.array(numbers, np.int64)
        self._lay_out(values[self.size])
        words = self.words.copy()
        words[self.integer_at] = values[self.integer]
        offsets = self.offset.copy()
        offsets[self.moved_at] += values[self.moved]
        offsets[self.within_at] += self.places[self.within]
        return self.plan.cast(
            words, offsets, self._launches(words, numbers), lambda: self.steps(numbers), arena_bytes=self.arena_bytes, offsets=self.offsets,
            results=[(i, numbers[k]) for i, k in self.results], forms=[leaf_form(numbers[k], dtype) for _, dtype, k in self.forms],
            segments=[self.hosts[s].fill(numbers) if isinstance(s, Extern) else s for s in self.plan.segments],
            checks=[(i, j, numbers[k]) for i, j, k in self.checks])

    def _lay_out(self, sizes: np.ndarray) -> None:
        """Room for temporaries of these sizes: what there is, if it suffices and is not too much. Each keeps what others have had: where
        many vary by themselves (rows told by an expert each), there is soon room for all."""
        short = (sizes > self.laid).any()
        much = self.laid.sum() > 2 * sizes.sum()
        if len(sizes) and (short or much) or not hasattr(self, "offsets"):
            wanted = sizes + sizes // ROOM
            self.laid = wanted if much else np.maximum(self.laid, wanted)
            layout = Layout()
            self.arena_bytes = layout.place({b: (first, last, n) for (b, first, last), n in zip(self.kept, self.laid.tolist())})
            self.offsets = layout.offsets
            self.places = np.array([layout.offsets[b] for b, *_ in self.kept], np.int64)

    def _alike(self) -> list[tuple]:
        """(call, where its words begin, the rows of launches) of those calls whose numbers vary: calls of one kernel and the same numbers,
        such as the layers of a network, are launched alike."""
        found: dict[tuple, tuple] = {}
        native = [(call, start) for call, start, step in zip(self.calls, self.plan.starts, self.plan.steps) if step not in self.hosts]
        for row, (call, start) in enumerate(native):
            if call.varies:
                found.setdefault((call.launch or call.call.kernel, *call.integers), (call, start, []))[2].append(row)
        return list(found.values())

    def _launches(self, words: np.ndarray, numbers: tuple) -> np.ndarray:
        """Tiles, grain and scratch memory of each step."""
        found = self.plan.launches.copy()
        for call, start, rows in self.varying:
            found[rows] = call.kernel(numbers).launch(tuple(words[start:start + len(call.args)].tolist()))
        return found


def _columns(rows: list, count: int) -> list[np.ndarray]:
    return list(np.array(rows, np.int64).reshape(-1, count).T)
