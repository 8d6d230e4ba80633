"""A chain on a GPU: its words for the one kernel that goes through all of its programs (targets/cuda_chain.py)."""

from __future__ import annotations

from ..targets import cuda_chain, ptx
from .chain import Chain

ROUND = 128     # bytes


class Words:
    """The arguments of a kernel with their types. Integers of one sort that are equal share a word: much of what is computed for
    addresses is then computed once."""

    def __init__(self):
        self.args: list = []
        self.types: list[str] = []
        self.known: dict[tuple, int] = {}

    def add(self, arg: tuple, type_: str = "i64", sort: str = "") -> int:
        found = self.known.setdefault((arg, type_, sort), len(self.args))
        if found == len(self.args):
            self.args.append(arg)
            self.types.append(type_)
        return found

    def integer(self, n: int, sort: str) -> int:
        return self.add(("int", n), sort=sort)


class DeviceChain(Chain):
    """The call of a whole chain on a GPU."""

    def assemble(self) -> None:
        chain, words = self.group.chain, Words()
        words.args = [("int", n) for n in (chain.blocks, chain.per_chunk, chain.period)]
        words.types = ["i64"] * cuda_chain.HEADER
        self._align()
        regions = {buffer: nbytes for b in self.all_bodies() for buffer, nbytes in b.clears}
        clears = []
        for buffer, nbytes in regions.items():
            numbers = words.integer(nbytes, "bytes"), words.integer(nbytes // 4, "words")
            clears.append(cuda_chain.Clear(words.add(("ptr", buffer, 0), "ptr"), *numbers))
        phases = self._joined([[self._phase(words, phase) for phase in block] for block in self.phases])
        temporaries = -(-max(b.temporaries for b in self.all_bodies()) // ROUND) * ROUND
        self.program.sizes = chain.blocks, chain.block, chain.rows, chain.per_chunk, temporaries
        slices = cuda_chain.slice_bytes([p for block in phases for phase in block for p in phase.all])
        scratch = None
        if temporaries + slices > chain.room:
            part = self.lowering.part(temporaries * chain.chunks)
            self.writes.add(part)
            scratch = (words.add(("ptr", part, 0), "ptr"), words.integer(temporaries, "bytes"))
        self.args = words.args
        self.kernel = cuda_chain.ChainKernel(words.types, phases, clears, scratch, temporaries, chain.chunks)
        self._release()

    def _phase(self, words: Words, phase) -> cuda_chain.Phase:
        parts, looks = ([[self._part(words, body, call) for call in body.calls] for body in bodies]
                        for bodies in (phase.bodies, phase.looks))
        if phase.tiles is None:
            return cuda_chain.Phase(parts[0])
        tiles = words.integer(phase.tiles, "tiles")
        flags = self._flags(words, phase.looks[0]) if phase.looks and phase.tiles else None
        whole, last = parts[0] if phase.tiles else [], parts[-1] if len(parts) > bool(phase.tiles) else []
        both = cuda_chain.merged("tile", whole, last) if whole and last else None
        look = looks[0] if flags else []
        if both is not None and flags:
            look = cuda_chain.merged("tile", *looks)
        if both is not None and look is not None:
            return cuda_chain.Phase(both, tiles, uneven=True, look=look, flags=flags)
        return cuda_chain.Phase(whole, tiles, last, look=looks[0] if flags else [], flags=flags)

    @staticmethod
    def _flags(words: Words, body) -> tuple:
        """(the word of the place of the flags that a look leaves, that of their number)."""
        window, count = next((body.windows[id(n)], n.numel) for n, out in zip(body.nodes, body.live) if out)
        return words.integer(body.place_held(window)[0], "offset"), words.integer(count, "flags")

    @staticmethod
    def _joined(blocks: list) -> list:
        """The phases of whole blocks and of a shorter last one as one list, where the programs are the same."""
        shapes = [[phase._replace(parts=(), last=(), look=(), flags=phase.flags is None) for phase in block] for block in blocks]
        if len(blocks) == 1 or shapes[0] != shapes[1]:
            return blocks
        found = []
        for whole, short in zip(*blocks):
            pairs = (whole.parts, short.parts), (list(whole.last), list(short.last)), (list(whole.look), list(short.look))
            parts = [cuda_chain.merged("block", a, b) for a, b in pairs]
            if None in parts:
                return blocks
            flags = whole.flags and cuda_chain.either("block", whole.flags, short.flags)
            found.append(whole._replace(parts=parts[0], last=parts[1], look=parts[2], flags=flags))
        return [found]

    def _align(self) -> None:
        """Put what shorter blocks and tiles hold where whole ones hold it, if they are computed alike."""
        for block in self.phases:
            for phase, first in zip(block, self.phases[0]):
                for b, model in ((b, getattr(first, which)[0]) for which in ("bodies", "looks") for b in getattr(phase, which)):
                    if b.offsets.keys() == model.offsets.keys() and b.held.keys() == model.held.keys():
                        b.offsets, b.held, b.temporaries = model.offsets, model.held, model.temporaries

    def _part(self, words: Words, body, call) -> cuda_chain.Part:
        places, unaligned = [], set()
        for slot, arg in enumerate(call.args):
            place, whole = self._place(words, body, arg)
            places.append(place)
            if not whole:
                unaligned.add(slot)
        plain = [a[1] if a[0] == "int" else 0 for a in call.args]
        (kernel,) = ptx.build_all([call.program])
        return cuda_chain.part_of(kernel, places, plain, lambda slot: slot not in unaligned, lambda n: words.integer(n, "lanes"))

    def _place(self, words: Words, body, arg: tuple) -> tuple[cuda_chain.Place, bool]:
        """(where an argument comes from, whether it is an address that is always a multiple of 16)."""
        if arg[0] == "num":
            node, j = arg[1]
            return cuda_chain.Place(words.add(("num", (body.origin[node], j), arg[2]), "double" if arg[2].kind == "f" else "i64")), False
        if arg[0] == "int":
            return cuda_chain.Place(words.add(arg)), False
        _, buffer, offset = arg
        if buffer[0] == "held":
            at, turn = body.place_held(buffer[1])
            turn = words.integer(turn, "turn") if turn else None
            return cuda_chain.Place(words.integer(at + offset, "offset"), True, turn=turn), offset % 16 == 0
        if buffer[0] != "window":
            at = body.offsets[buffer] + offset
            return cuda_chain.Place(words.integer(at, "offset"), True), at % 16 == 0
        window = body.windows[buffer[1]]
        size = window.source.dtype.itemsize
        word = words.add(("ptr", body.outer(window.source), offset), "ptr")
        steps = tuple((words.integer(divisor, "divisor"), words.integer(modulus, "modulus"), words.integer(n * size, "bytes"))
                      for divisor, modulus, n in window.steps)
        chunked = words.integer(window.chunked * size, "bytes") if window.chunked else None
        tile = words.integer(window.tile * size, "bytes") if window.tile else None
        moves = [offset, window.chunked * size, window.tile * size, *(n * size for *_, n in window.steps)]
        return cuda_chain.Place(word, False, steps, chunked, tile), not any(m % 16 for m in moves)
