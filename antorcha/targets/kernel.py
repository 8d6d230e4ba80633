"""Kernels: programs compiled once per text, and how their work is divided."""

from __future__ import annotations

import ctypes
import functools

from ..base import config
from ..loops import ir
from ..runtime import jit, pool
from .formula import Formula
from .llvm import emit

_WORK = 8192        # elementary operations worth a chunk of their own
_DRAFT = 1 << 20    # such operations that a draft takes less time for than the optimised code takes to be compiled


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
    draft = False       # whether it may run as a draft

    def __init__(self, program: ir.Program, text: str):
        self.program, self.text = program, text
        self.key = text
        self._launches: dict[tuple, tuple] = {}

    def load(self, draft: bool = False) -> None:
        """Before the kernel is called; as a draft, if there is nothing better yet."""
        self.address = jit.link(self.modules(draft)[-1])["kernel"]
        self.draft = draft and bool(self._drafted())

    def modules(self, draft: bool = False) -> list[jit.Module]:
        """What it is loaded from, the longest first and its own last; with drafts, if it may run as one."""
        return [jit.Module(self.key, self.ir, self.ir if draft else None)]

    def _drafted(self) -> list[str]:
        """The modules that run as drafts."""
        return [module.key for module in self.modules() if jit.drafted(module.key)]

    def finish(self, now: bool = False) -> None:
        """Have it optimised, in the background unless `now`."""
        if self.draft:
            (jit.finish_now if now else jit.finish)(self._drafted())
            self.draft = bool(self._drafted())

    def is_long(self, words) -> bool:
        """Whether a draft would take too long for these arguments."""
        return self.work(words) > _DRAFT

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
            if self.draft and self.is_long(words):
                self.finish(now=True)
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
_CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


def build(program: ir.Program) -> Kernel:
    """The kernel of a program; equal texts share one."""
    return build_all([program])[0]


def build_all(programs: list[ir.Program], words: list | None = None) -> list[Kernel]:
    """The kernels of programs; what has to be compiled is compiled side by side. `words`: of each the arguments that it is called with
    first, as far as they are integers, or how much work that is, or None. Where it is little a draft will do, until it is asked for
    again."""
    texts = {number: program.text() for number, program in {id(p): p for p in programs if p.kernel is None}.items()}
    found: list[Kernel] = []
    new: dict[str, Kernel] = {}
    long: dict[Kernel, bool] = {}
    for program, arguments in zip(programs, words or [None] * len(programs)):
        text = texts.get(id(program), "")
        kernel = program.kernel or _kernels.get(text) or new.get(text)
        if kernel is None:
            kernel = new[text] = _kernel(program, text)
        found.append(kernel)
        if arguments is None or not config.drafts or long.get(kernel):
            long[kernel] = True
        else:
            long[kernel] = arguments > _DRAFT if isinstance(arguments, int) else kernel.is_long(arguments)
    modules: dict[str, jit.Module] = {}
    for kernel in new.values():
        for module in kernel.modules(not long[kernel]):
            if module.draft is None or module.key not in modules:
                modules[module.key] = module
    jit.prepare(modules.values())
    jit.finish_now([module.key for kernel in long if long[kernel] for module in kernel.modules()])
    for kernel in long:
        kernel.finish()     # if it was there before
    for text, kernel in new.items():
        kernel.load(not long[kernel])
        _kernels[text] = kernel
    for program, kernel in zip(programs, found):
        program.kernel = kernel
    return found


class Function:
    """A program of one parallel iteration, to be called from Python."""

    def __init__(self, program: ir.Program):
        self.program = program
        self.kernel: Kernel | None = None

    def __call__(self, words: int, work: int) -> None:
        """Call it with the arguments at an address; `work`: how many elementary operations that is, about."""
        if self.kernel is None:
            (self.kernel,) = build_all([self.program], [work])
            self.call = _CALL(self.kernel.address)
        elif self.kernel.draft:
            self.kernel.finish(now=work > _DRAFT)
        self.call(words, 0, 1, None)


def _kernel(program: ir.Program, text: str) -> Kernel:
    if program.body[0].kind == "contract":
        from . import gemm
        return gemm.ContractionKernel(program, text)
    return Kernel(program, text)
