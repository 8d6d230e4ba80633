"""A chain of kernels run for one block of rows after another, with what lies between them in the memory of one thread.

The kernels are those of the body, the graph of one block. A chain's arguments hold all of theirs and say how they change from
block to block (targets/chain.py); the target's runner goes through them.
"""

from __future__ import annotations

import numpy as np

from ..base import config
from ..runtime.buffer import memory
from ..targets.chain import HEADER, PATCH, ChainKernel
from . import interp
from .blocks import Blocks
from .body import Held, Window
from .plan import Layout, rounded
from .view import view
from .writer import Call


def chain(lowering, group) -> list[Call]:
    if group.chain.room is None:
        return [Chain(lowering, group)]
    from .device_chain import DeviceChain

    return [DeviceChain(lowering, group)]


class Phase:
    """The calls of one stage (body.py): `bodies` and `looks` as there. `tiles`: how often the first is repeated, None for once."""

    def __init__(self, lowering, tiles: int | None, bodies: list, looks: list):
        self.tiles = tiles
        self.bodies, self.looks = ([_Body(lowering, fusion, body) for fusion, body in pairs] for pairs in (bodies, looks))

    @property
    def all(self) -> list:
        return [*self.looks, *self.bodies]


def _phases(lowering, stages: list, held: dict) -> list[Phase]:
    """The phases of a block. `held`: bytes that live from stage to stage, as in `Tiling.held`; they lie before what is temporary."""
    phases = [Phase(lowering, *stage) for stage in stages]
    alive: dict = {}
    for k, phase in enumerate(phases):
        for number, so_far in {key for b in phase.all for key in b.holds}:
            first, _, _ = alive.get((number, so_far), (k, k, 0))
            alive[number, so_far] = (first, k, (1 + so_far) * rounded(held[number, so_far]))
    layout = Layout()
    before = layout.place(alive)
    for b in (b for phase in phases for b in phase.all):
        b.held = {key: (at, rounded(held[key])) for key, at in layout.offsets.items()}
        b.temporaries += before
        b.offsets = {name: before + offset for name, offset in b.offsets.items()}
    return phases


class Chain(Call):
    """The call of a whole chain. `phases`: for a block, and for the last one if it is shorter, what is computed for it in order."""

    def __init__(self, lowering, group):
        super().__init__(ChainProgram(self), [], group)
        self.lowering = lowering
        self.phases = [_phases(lowering, stages, held) for stages, held in group.bodies]
        self.reads = set().union(*(b.reads for b in self.all_bodies()))
        self.writes = set().union(*(b.writes for b in self.all_bodies()))

    def all_bodies(self) -> list:
        return [b for phases in self.phases for phase in phases for b in phase.all]

    def calls(self) -> list[Call]:
        """Those of a block."""
        return [c for phase in self.phases[0] for c in phase.bodies[0].calls]

    def parts(self) -> tuple:
        return tuple(c for b in self.all_bodies() for c in b.calls)

    def stored(self) -> set:
        return self.writes - {b.outer_of(buffer) for b in self.all_bodies() for c in b.calls for buffer in c.reads}

    def stream(self, buffers: set) -> None:
        for b in self.all_bodies():
            for c in b.calls:
                c.stream({buffer for buffer in c.stored() if b.outer_of(buffer) in buffers})

    def assemble(self) -> None:
        """Write the arguments; see the top of the file."""
        chain, bodies = self.group.chain, self.all_bodies()
        clears = bodies[0].clears
        self.program.sizes = chain.blocks, chain.block, chain.rows, chain.per_chunk, bodies[0].temporaries
        words = max(len(c.args) for c in self.parts())
        before = 64 * -(-8 * words // 64)
        temporaries = max(b.temporaries for b in bodies)
        calls = [b.records(before) for b in bodies]
        first = HEADER + 3 * len(clears)
        second = first + len(calls[0]) if len(bodies) > 1 else first
        self.args = [("int", n) for n in (chain.blocks, chain.per_chunk, len(clears), first, len(bodies[0].calls), second,
                                          len(bodies[-1].calls), before + temporaries)]
        for buffer, nbytes in clears:
            self.args += [("ptr", buffer, 0), ("int", nbytes), ("int", nbytes)]
        for words in calls:
            self.args += words
        needs = [c.kernel.scratch([a[1] if a[0] == "int" else 0 for a in c.args]) for c in self.parts() if c.kernel]
        own = max(8, *needs, 0)     # the least is for a kernel's note (runtime/pool.py)
        if config.target != "interp":
            self.kernel = ChainKernel(self.program, chain.chunks, before + temporaries + own)
        self._release()

    def _release(self) -> None:
        """A plan is kept: let go the recording, and with it the memory of its leaves."""
        self.lowering = None
        self.group.bodies = self.group.begins = []
        self.group.chain.release()
        for b in self.all_bodies():
            b.release()


class _Body:
    """The calls for one block, or a stage of one. Their memory is outside (through windows), held from stage to stage, or temporary in the
    thread's scratch memory. `holds`: what is held, as (number, whether a sum so far); `held`: where it lies, with its bytes."""

    def __init__(self, lowering, fusion, body):
        from .lower import Lowering

        self.windows, self.outer, self.nodes, self.live = body.windows, lowering.buffer_of, body.nodes, body.live
        self.origin = body.origin
        nodes = fusion.nodes

        def buffer_of(n):
            if id(n) in self.windows:
                return place_of(n)
            i = n.index
            while i in body.alias:
                i = body.alias[i]
            if i < len(body.nodes) and id(body.nodes[i]) in self.windows:
                return place_of(body.nodes[i])      # grouping has put another node in its place
            return ("inner", i)

        def place_of(n):
            window = self.windows[id(n)]
            return ("held", window) if isinstance(window, Held) else ("window", id(n))

        inner = Lowering(fusion, buffer_of)
        inner.in_place = {*body.alias.values()}
        self.calls = [c for g in fusion.groups for c in inner.lower(g)]
        found: dict = {}
        for k, c in enumerate(self.calls):
            for b in (*c.reads, *c.writes):
                if b[0] in ("part", "inner"):
                    nbytes = inner.parts[b[1]] if b[0] == "part" else nodes[b[1]].numel * nodes[b[1]].dtype.itemsize
                    found[b] = (found.get(b, (k,))[0], k, nbytes)
        layout = Layout()
        places = _taken_over(self.calls, found)
        self.temporaries = layout.place({b: entry for b, entry in found.items() if places[b] == b})
        self.offsets = {b: layout.offsets[place] for b, place in places.items()}
        self.holds = {(w.number, w.which != "value") for w in self.windows.values() if isinstance(w, Held)}
        self.held: dict = {}
        used = {b[1] for c in self.calls for b in (*c.reads, *c.writes) if b[0] == "window"}
        self.reads = {self.outer(w.source) for k, w in self.windows.items() if k in used}
        self.clears = []
        self.writes = set()
        for n, out in zip(body.nodes, body.live):
            w = self.windows[id(n)] if out else None
            if isinstance(w, Window):
                self.writes.add(self.outer(w.source))
                if w.chunked:
                    self.clears.append((self.outer(w.source), w.chunked * w.source.dtype.itemsize))

    def outer_of(self, buffer):
        """The buffer that a block sees through a window; None for what is its own."""
        return self.outer(self.windows[buffer[1]].source) if buffer[0] == "window" else None

    def place_held(self, held: Held) -> tuple[int, int]:
        """(where memory that is held lies, bytes to where it lies after another tile, and back again)."""
        at, turn = self.held[held.number, held.which != "value"]
        if held.which in ("old", "end"):
            return at, turn
        return (at + turn, -turn) if held.which == "new" else (at, 0)

    def release(self) -> None:
        self.windows = self.outer = self.clears = self.reads = self.writes = self.nodes = self.live = None

    def records(self, before: int) -> list:
        """The calls as words of the chain; temporaries lie `before` bytes into the scratch memory."""
        found: list = []
        for number, c in enumerate(self.calls):
            words, patches = [], []
            for at, arg in enumerate(c.args):
                if arg[0] == "ptr":
                    words.append(self._place(arg, at, before, patches))
                elif arg[0] == "num":
                    node, j = arg[1]
                    words.append(("num", (self.origin[node], j), arg[2]) if self.origin else constant(self.nodes[node].inputs[j], arg[2]))
                else:
                    words.append(arg)
            plain = [w[1] if w[0] == "int" else 0 for w in words]
            function, tiles = (c.kernel.address, c.kernel.tiles(plain)) if c.kernel else (number, 0)
            found += [("int", n) for n in (function, tiles, len(words), len(patches))]
            found += words
            found += [("int", n) for p in patches for n in p]
        return found

    def _place(self, arg, at: int, before: int, patches: list) -> tuple:
        _, buffer, offset = arg
        if buffer[0] != "window":
            patches.append((at, 1, 1, 1, 0, 0))
            return ("int", before + self.offsets[buffer] + offset)
        w = self.windows[buffer[1]]
        size = w.source.dtype.itemsize
        for divisor, modulus, elements in w.steps:
            patches.append((at, 0, divisor, modulus, elements * size, 0))
        if w.chunked:
            patches.append((at, 0, 1, 1, 0, w.chunked * size))
        return ("ptr", self.outer(w.source), offset + w.start * size)


def constant(number, dtype) -> tuple:
    """A number as a word."""
    return "int", int(np.array(number, np.float64 if dtype.kind == "f" else np.int64).view(np.int64))


def recurrence(lowering, group) -> list[Call]:
    """The states to begin with are put where the first step reads them; then the steps are a chain."""
    return [_copied(lowering, group, *pair) for pair in group.begins] + [Chain(lowering, group)]


def _copied(lowering, group, source, v, out, start: int) -> Call:
    """A value, read through a map, to where another has it from element `start` on."""
    w = lowering.writer()
    domain = (v.numel,)
    loops = Blocks(w, domain)
    value = w.load(lowering.buffer_of(source), source.dtype, view(domain, (1,), v.offset))
    store = w.put(lowering.buffer_of(out), out.dtype, view(domain, (1,), start), value)
    return w.finish([loops.around(loops.inside([store]))], group)


def _taken_over(calls: list[Call], found: dict) -> dict:
    """buffer -> the one whose memory it takes over, or itself: the last call that reads that one writes it, each element after what was at
    its place has been read. So a block takes fewer lines of cache. `found`: as for `Layout.place`; what lies longer now does so there."""
    places = {b: b for b in found}
    for b, (first, last, nbytes) in list(found.items()):
        call = calls[first]
        for a, at in call.read_at.items():
            if at and a in found and found[a][1:] == (first, nbytes) and found[a][0] < first and b in call.written_at:
                v, order = call.written_at[b]
                if v is at[0] and at[1] <= order:
                    place = places[b] = places[a]
                    found[a] = (found[a][0], -1, nbytes)        # nobody else takes it
                    found[place] = (found[place][0], last, nbytes)
                    break
    return places


class ChainProgram:
    """The loop programs of a chain, as text and for the interpreter. `sizes`: blocks, rows of one, rows, blocks a parallel iteration,
    bytes between."""

    def __init__(self, call: Chain, sizes: tuple = ()):
        self.call, self.sizes = call, sizes

    def text(self) -> str:
        text = "for each of {} blocks of {} rows (of {}), {} blocks a parallel iteration, {} bytes between:\n".format(*self.sizes)
        if self.call.group.kind == "recurrence":
            blocks, rows, _, steps, between = self.sizes
            several = f"each of {steps} steps, " if steps > 1 else ""
            text = f"for {several}{blocks // steps} x {rows} rows in parallel, {between} bytes between:\n"
        for phase in self.call.phases[0]:
            if phase.tiles is not None:
                text += f"for each of {phase.tiles} tiles{' and a shorter one' if len(phase.bodies) > (phase.tiles > 0) else ''}:\n"
                if phase.looks:
                    text += "\n".join(c.program.text() for c in phase.looks[0].calls) + "\nand, if any of these is true:\n"
            text += "\n".join(c.program.text() for c in phase.bodies[0].calls) + "\n"
        return text

    def interpret(self, words: list[int]) -> None:
        """What the target's runner does."""
        blocks, per_chunk, clears = words[:3]
        scratch = np.zeros(words[7] + 64, np.uint8)
        base = -(-scratch.ctypes.data // 64) * 64
        for chunk in range(-(-blocks // per_chunk)):
            for k in range(clears):
                address, step, nbytes = words[HEADER + 3 * k:HEADER + 3 * k + 3]
                memory(address + chunk * step, nbytes, np.dtype(np.uint8))[:] = 0
            for block in range(chunk * per_chunk, min(blocks, (chunk + 1) * per_chunk)):
                last = block == blocks - 1
                at, count = words[5:7] if last else words[3:5]
                for _ in range(count):
                    function, _, n, patches = words[at:at + 4]
                    local = words[at + 4:at + 4 + n]
                    at += 4 + n
                    for _ in range(patches):
                        word, relative, divisor, modulus, step, chunked = words[at:at + PATCH]
                        local[word] += relative * base + block // divisor % modulus * step + chunk * chunked
                        at += PATCH
                    interp.run(self.call.all_bodies()[-1 if last else 0].calls[function].program, local)
