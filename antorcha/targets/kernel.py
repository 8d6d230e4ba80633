"""Kernels: programs compiled once per text, and how their work is divided."""

from __future__ import annotations

import functools

from ..loops import ir
from ..runtime import jit, pool
from .formula import Formula
from .llvm import emit

_WORK = 8192        # elementary operations worth a chunk of their own


def _work(s: ir.Op) -> ir.Op:
    """About how many elementary operations a statement costs, as an expression of arguments."""
    if s.kind not in ("loop", "when"):
        return ir.integer(2)
    work = ir.integer(0)
    for inner in s.args[1:]:
        work = work + _work(inner)
    if s.kind == "when":
        return work
    return _iterations(s.args[0]) * work


def _iterations(extent: ir.Op) -> ir.Op:
    """How many iterations a loop has; where that differs from one iteration of an outer loop to the next, a bound if it has one."""
    if _is_known(extent):
        return ir.maximum(extent, 0)
    bounds = [a for a in extent.args if _is_known(a)] if extent.kind == "min" else []
    return bounds[0] if bounds else ir.integer(64)


def _is_known(e: ir.Op) -> bool:
    """Whether an expression is one of arguments alone."""
    try:
        Formula(e)
    except KeyError:
        return False
    return True


def even(tiles: int, most: int) -> int:
    """How many tiles a thread takes at a time: the largest number, not above `most`, of which each thread gets about as many."""
    threads = pool.get_num_threads()
    share = -(-tiles // threads)

    def largest(grain: int) -> int:
        chunks = -(-tiles // grain)
        return min(tiles, -(-chunks // threads) * grain)

    return next(grain for grain in range(max(1, most), 0, -1) if largest(grain) <= share + share // 32)


class Kernel:
    """A compiled program, once it is loaded. `key` determines its code."""

    address = 0

    def __init__(self, program: ir.Program, text: str):
        self.program, self.text = program, text
        self.key = text
        self._launches: dict[tuple, tuple] = {}

    def load(self) -> None:
        self.address = jit.load(self.key, self.ir)

    def modules(self) -> list[tuple]:
        """(key, what makes its IR) of each module that it is loaded from, the longest first."""
        return [(self.key, self.ir)]

    def ir(self) -> str:
        return emit(self.program)

    def assembly(self) -> str:
        return jit.assembly(self.ir())

    def launch(self, words: tuple) -> tuple[int, int, int]:
        """(tiles, grain, bytes of scratch memory of each thread) for these arguments."""
        key = pool.get_num_threads(), words
        found = self._launches.get(key)
        if found is None:
            if len(self._launches) > 256:
                self._launches.clear()
            found = self._launches[key] = self.tiles(words), self.grain(words), self.scratch(words)
        return found

    @functools.cached_property
    def tiles(self) -> Formula:
        """Iterations of the parallel loop, of the arguments."""
        return Formula(self.program.body[0].args[0])

    @functools.cached_property
    def work(self) -> Formula:
        return Formula(_work(self.program.body[0]))

    def grain(self, words) -> int:
        """How many of them a thread takes at a time."""
        tiles, total = self.tiles(words), self.work(words)
        if total <= 2 * _WORK or tiles <= 1:
            return max(tiles, 1)
        return even(tiles, int(tiles * max(_WORK, total / 16) / total))

    def scratch(self, words) -> int:
        """Bytes of scratch each thread needs."""
        return max([words[i] + size(words) * itemsize for i, size, itemsize in self._held], default=0)

    @functools.cached_property
    def _held(self) -> list[tuple]:
        return [(i, Formula(s.size), s.dtype.itemsize) for i, s in enumerate(self.program.slots) if s.size is not None]


_kernels: dict[str, Kernel] = {}


def build(program: ir.Program) -> Kernel:
    """The kernel of a program; equal texts share one."""
    return build_all([program])[0]


def build_all(programs: list[ir.Program]) -> list[Kernel]:
    """The kernels of programs; what has to be compiled is compiled side by side."""
    unbuilt = {id(program): program for program in programs if program.kernel is None}
    texts = {key: program.text() for key, program in unbuilt.items()}
    new = {text: _kernel(unbuilt[key], text) for key, text in texts.items() if text not in _kernels}
    jit.prepare(dict([module for kernel in new.values() for module in kernel.modules()]).items())
    for text, kernel in new.items():
        kernel.load()
        _kernels[text] = kernel
    for key, program in unbuilt.items():
        program.kernel = _kernels[texts[key]]
    return [program.kernel for program in programs]


def _kernel(program: ir.Program, text: str) -> Kernel:
    if program.body[0].kind == "contract":
        from . import gemm
        return gemm.ContractionKernel(program, text)
    return Kernel(program, text)
