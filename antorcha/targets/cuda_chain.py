"""A chain (loops/chain.py) as one kernel for a GPU: what lies between its operators stays in shared memory.

A block of threads takes a chunk of the chain's blocks of rows, one after the other, and goes through the parts of the body in order, with
a barrier after each. The rows of a loop are shared out to groups of lanes (a warp at most where lanes add up); a product is computed
tile by tile. Temporaries lie in shared memory behind what products need, or, where they are too large for that, in memory of the
block's own, of which the second-level cache keeps what is in use.

The kernel's words are numbered by `Place`: each slot of a part has a word, which for memory outside of the chain moves from block to block.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import NamedTuple

from ..loops import ir
from . import ptx
from .cuda_contract import ContractionKernel, Tile, attributes
from .llvm import llvm_type
from .ptx import ARCHITECTURES, FEW_WORDS, MOST_WORDS, THREADS, WARP, Kernel, Launch, PtxEmitter, _power, extent_of, module, start

HEADER = 3      # words: blocks, blocks of a chunk, blocks after which one is the shorter


class Choice(NamedTuple):
    """In place of the number of a word: that for whole blocks (or tiles), and that for a shorter last one. `of`: "block" or "tile"."""

    of: str
    whole: int | Choice
    short: int | Choice


class Place(NamedTuple):
    """Where a slot's value comes from: `word`; of an address also the words (divisor, modulus, bytes) of each step from block to block
    and the words of the bytes from chunk to chunk and from tile to tile (None: none). `inner`: the word is an offset into the chain's
    temporaries; `turn`: the word of the bytes that it is further on after every other tile that was computed (None: none)."""

    word: int | Choice
    inner: bool = False
    steps: tuple = ()
    chunked: int | Choice | None = None
    tile: int | Choice | None = None
    turn: int | Choice | None = None


class Part(NamedTuple):
    """One program of the body. `lanes`: the word that says how many share a row; `tile`: of a product."""

    kernel: Kernel
    places: tuple
    lanes: int = -1
    tile: Tile | None = None


def either(of: str, a, b):
    """Two tuples of words as one. ValueError where they are of different kinds."""
    if a == b:
        return a
    if isinstance(a, tuple) and not isinstance(a, Choice):
        if not isinstance(b, tuple) or isinstance(b, Choice) or len(a) != len(b):
            raise ValueError
        return tuple(either(of, x, y) for x, y in zip(a, b))
    if a is None or b is None or isinstance(a, bool):
        raise ValueError
    return Choice(of, a, b)


def merged(of: str, whole: list[Part], short: list[Part]) -> list[Part] | None:
    """The parts for whole blocks (or tiles) and for a shorter one as one list; None if their programs differ."""
    if len(whole) != len(short):
        return None
    found = []
    for p, q in zip(whole, short):
        if p.kernel.key != q.kernel.key:
            return None
        try:
            places = tuple(Place(*either(of, tuple(x), tuple(y))) for x, y in zip(p.places, q.places))
        except ValueError:
            return None
        tile = p.tile and replace(p.tile, wide=p.tile.wide and q.tile.wide)
        found.append(p._replace(places=places, tile=tile))
    return found


class Phase(NamedTuple):
    """Programs of a block that are carried out one after the other: once, or for each of as many tiles as the word `tiles` says (None:
    once), the last of which is shorter if `uneven`, and then `last` for a shorter tile with programs of its own. `look`: programs before
    those of a tile that set `flags` (the words of their place and number); where none is set the tile is left out."""

    parts: list
    tiles: int | None = None
    last: list = ()
    uneven: bool = False
    look: list = ()
    flags: tuple | None = None

    @property
    def all(self) -> list:
        return [*self.look, *self.parts, *self.last]


class Clear(NamedTuple):
    """Words of a region that is 0 at the beginning of a chunk: its address, bytes from chunk to chunk, 32-bit words."""

    address: int
    step: int
    count: int


def lanes_of(kernel: Kernel, words: list[int]) -> int:
    """How many lanes share a row of a part, told by sizes alone."""
    plan = kernel.plan
    if not plan.widths:
        return 1
    width = max(1, *(extent_of(e, words) for e in plan.widths))
    return min(_power(width), THREADS if plan.splits else WARP)


def slice_bytes(parts, architecture: int = ARCHITECTURES[-1]) -> int:
    """Shared memory that products and sums need, a multiple of 128 bytes."""
    most = 8 * WARP
    for part in parts:
        if part.tile:
            most = max(most, part.kernel.emitter(part.tile, architecture).shared_bytes)
        else:
            sums = {o.attr for loop in part.kernel.plan.top.args for o in _statements(loop) if o.kind == "update"}
            most = max(most, 8 * WARP * len(sums))
    return -(-most // 128) * 128


def _statements(s: ir.Op):
    yield s
    if s.kind in ("loop", "when"):
        for b in s.args[1:]:
            yield from _statements(b)


class ChainKernel:
    """`types`: of the words. `bodies`: the phases for a block, and for a shorter one if there are such. `scratch`: the words (address,
    bytes of a chunk) of temporaries that do not fit into shared memory, or None. `temporaries`: their bytes."""

    def __init__(self, types: list[str], bodies: list[list[Phase]], clears: list[Clear], scratch: tuple[int, int] | None, temporaries: int,
                 chunks: int):
        if len(types) > MOST_WORDS:
            raise NotImplementedError(f"cuda: expected a kernel of at most {MOST_WORDS} arguments; received {len(types)}. "
                                      "Compute fewer tensors at once.")
        self.types, self.bodies, self.clears, self.scratch, self.temporaries = types, bodies, clears, scratch, temporaries
        self.chunks = chunks
        shape = [[(len(phase.parts), phase.tiles, len(phase.last), phase.uneven, phase.flags) for phase in body] for body in bodies]
        parts = [(part.kernel.key, part.places, part.lanes, part.tile) for part in self.parts()]
        self.key = repr(("chain", types, shape, clears, scratch, parts))

    def parts(self) -> list[Part]:
        return [part for body in self.bodies for phase in body for part in phase.all]

    def ir(self, architecture: int = ARCHITECTURES[-1]) -> str:
        emitter = ChainEmitter(self, architecture)
        return module([emitter.function()], [emitter.e], None) + attributes(1)

    def ptx(self, architecture: int = ARCHITECTURES[-1]) -> str:
        """See `Kernel.ptx`."""
        return ptx.assemble(self.key, lambda: self.ir(architecture), architecture, len(self.types) > FEW_WORDS)

    assembly = ptx

    def fitted(self, words) -> ChainKernel:
        return self

    def slices(self, architecture: int) -> int:
        return slice_bytes(self.parts(), architecture)

    def entry(self, words, architecture: int = ARCHITECTURES[-1]) -> str:
        return "kernel"

    def launch(self, words, architecture: int = ARCHITECTURES[-1]) -> Launch:
        shared = self.slices(architecture) + (0 if self.scratch else self.temporaries)
        return Launch((self.chunks, 1), (THREADS, 1), shared)


class ChainEmitter:
    """Writes the kernel."""

    def __init__(self, kernel: ChainKernel, architecture: int):
        self.kernel, self.architecture = kernel, architecture
        self.e = start(PtxEmitter(ir.Program()))
        self.tile, self.short = "0", {}
        self.done = "%done"             # address: how many tiles of this phase were computed
        self.e.allocas.append("  %done = alloca i64")
        self.before = kernel.slices(architecture)       # bytes of shared memory before the temporaries

    def function(self) -> str:
        e, kernel = self.e, self.kernel
        self.thread = e.register("tid.x")
        self.chunk = e.wide(e.register("ctaid.x"))
        self._clear()
        blocks, per_chunk, period = (f"%w{i}" for i in range(HEADER))
        first = e.i64("mul", self.chunk, per_chunk)
        end = e.call("llvm.smin.i64", "i64", ("i64", blocks), ("i64", e.i64("add", first, per_chunk)))
        with e.steps(first, end, "1") as self.block:
            last = e.set(f"icmp eq i64 {e.i64('urem', e.i64('add', self.block, 1), period)}, 0")
            self.short["block"] = last
            if len(kernel.bodies) == 1:
                self._body(kernel.bodies[0])
            else:
                with e.only_if(e.set(f"xor i1 {last}, true")):
                    self._body(kernel.bodies[0])
                with e.only_if(last):
                    self._body(kernel.bodies[1])
        e.line("ret void")
        return e.function(f"ptx_kernel void @kernel({', '.join(f'{t} %w{i}' for i, t in enumerate(kernel.types))})", "#1")

    def _clear(self) -> None:
        e = self.e
        for region in self.kernel.clears:
            at = self._moved(f"%w{region.address}", e.i64("mul", self.chunk, f"%w{region.step}"))
            with e.steps(e.wide(self.thread), f"%w{region.count}", str(THREADS)) as i:
                e.line(f"store i32 0, ptr {e.set(f'getelementptr inbounds i32, ptr {at}, i64 {i}')}, align 4")
        if self.kernel.clears:
            e.call_void("llvm.nvvm.barrier0")

    def _moved(self, pointer: str, nbytes: str) -> str:
        return self.e.set(f"getelementptr inbounds i8, ptr {pointer}, i64 {nbytes}")

    # -- parts --------------------------------------------------------------------------------------------------

    def _body(self, phases: list[Phase]) -> None:
        e = self.e
        for phase in phases:
            if phase.tiles is None:
                self._parts(phase.parts)
                continue
            whole = f"%w{phase.tiles}"
            e.line(f"store i64 0, ptr {self.done}")
            if phase.parts:
                with e.steps("0", e.i64("add", whole, 1) if phase.uneven else whole, "1") as self.tile:
                    self.short["tile"] = e.set(f"icmp eq i64 {self.tile}, {whole}")
                    self._tile(phase)
            self.tile = whole
            if phase.last:
                self._parts(phase.last)
                self._count()

    def _tile(self, phase: Phase) -> None:
        if phase.flags is None:
            self._parts(phase.parts)
            self._count()
            return
        self._parts(phase.look)
        with self.e.only_if(self._any(*phase.flags)):
            self._parts(phase.parts)
            self._count()

    def _count(self) -> None:
        e = self.e
        e.line(f"store i64 {e.i64('add', e.set(f'load i64, ptr {self.done}'), 1)}, ptr {self.done}")

    def _any(self, place, number) -> str:
        """Whether some flag is set. Every warp looks at all; the barrier is for those that set them next."""
        e, found = self.e, self.e.variable("i8", "0")
        first, thread = self._inner(self._word(place)), e.wide(self._thread())
        with e.steps(e.i64("and", thread, WARP - 1), self._word(number), str(WARP)) as i:
            flag = e.set(f"load i8, ptr {e.set(f'getelementptr inbounds i8, ptr {first}, i64 {i}')}, align 1")
            e.line(f"store i8 {e.set(f'or i8 {flag}, ' + e.set(f'load i8, ptr {found}'))}, ptr {found}")
        own = e.set(f"icmp ne i8 {e.set(f'load i8, ptr {found}')}, 0")
        some = e.call("llvm.nvvm.vote.any.sync", "i1", ("i32", "-1"), ("i1", own))
        e.call_void("llvm.nvvm.barrier0")
        return some

    def _word(self, word) -> str:
        """The value of a word, for this block and tile."""
        if not isinstance(word, Choice):
            return f"%w{word}"
        first = word
        while isinstance(first, Choice):
            first = first.whole
        t = self.kernel.types[first]
        return self.e.set(f"select i1 {self.short[word.of]}, {t} {self._word(word.short)}, {t} {self._word(word.whole)}")

    def _parts(self, parts: list[Part]) -> None:
        for part in parts:
            program = part.kernel.program
            self.e.restart(program, None if part.tile else part.kernel.plan)
            self.thread = self.e.thread = self._thread()
            self.e.slots = {i: self._slot(slot, place) for i, (slot, place) in enumerate(zip(program.slots, part.places))}
            if part.tile:
                part.kernel.emitter(part.tile, self.architecture, self.e).all_tiles()
            else:
                self._loops(part)
            self.e.call_void("llvm.nvvm.barrier0")

    def _thread(self) -> str:
        """The number of this thread, read anew: what follows from it is then computed where it is needed, not for all parts at once."""
        return self.e.set('call i32 asm sideeffect "mov.u32 $0, %tid.x;", "=r"()')

    def _slot(self, slot: ir.Slot, place: Place) -> str:
        e, word = self.e, self._word(place.word)
        if slot.role not in ir.BUFFER_ROLES:
            t = llvm_type(slot.dtype)
            if t in ("i64", "double"):
                return word
            return e.set(f"fptrunc double {word} to {t}" if slot.dtype.kind == "f" else f"trunc i64 {word} to {t}")
        if place.inner and place.turn is not None:
            odd = e.i64("mul", e.i64("and", e.set(f"load i64, ptr {self.done}"), 1), self._word(place.turn))
            return self._inner(e.i64("add", word, odd))
        if place.inner:
            return self._inner(word)
        moves = []
        for divisor, modulus, nbytes in place.steps:
            digit = e.i64("urem", e.i64("udiv", self.block, self._word(divisor)), self._word(modulus))
            moves.append(e.i64("mul", digit, self._word(nbytes)))
        moves += [e.i64("mul", at, self._word(n)) for n, at in ((place.chunked, self.chunk), (place.tile, self.tile)) if n is not None]
        return self._moved(word, functools.reduce(lambda a, b: e.i64("add", a, b), moves)) if moves else word

    def _inner(self, offset: str) -> str:
        e = self.e
        if self.kernel.scratch:
            address, step = self.kernel.scratch
            return self._moved(self._moved(f"%w{address}", e.i64("mul", self.chunk, f"%w{step}")), offset)
        at = e.i64("add", offset, self.before)
        place = e.set(f"getelementptr inbounds i8, ptr addrspace(3) @shared, i64 {at}")
        return e.set(f"addrspacecast ptr addrspace(3) {place} to ptr")

    def _loops(self, part: Part) -> None:
        """A parallel loop: rows in turn for groups of lanes."""
        e, top = self.e, part.kernel.plan.top
        lanes = e.set(f"trunc i64 %w{part.lanes} to i32")
        lane, row = e.set(f"urem i32 {self.thread}, {lanes}"), e.set(f"udiv i32 {self.thread}, {lanes}")
        e.share(lane, lanes, lane, lanes, row)
        with e.steps(e.wide(row), e.expression(top.args[0]), e.wide(e.set(f"udiv i32 {THREADS}, {lanes}"))) as p:
            outer, e.memo = e.memo, dict(e.memo)
            e.indices[top.attr[0]] = p
            e.lane_wise = not part.kernel.plan.widths
            e.statements(top.args[1:])
            e.memo = outer


def part_of(kernel: Kernel, places: list[Place], words: list[int], aligned, lanes) -> Part:
    """A part for these arguments. `lanes(n)` gives the word that holds n; `aligned` as in `ContractionKernel.block_tile`."""
    if isinstance(kernel, ContractionKernel):
        return Part(kernel, tuple(places), -1, kernel.block_tile(words, aligned))
    return Part(kernel, tuple(places), lanes(lanes_of(kernel, words)))


