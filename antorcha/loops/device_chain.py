"""A chain on a GPU: its words for the one kernel that goes through all of its programs (targets/cuda_chain.py)."""

from __future__ import annotations

from ..targets import cuda_chain, ptx
from .chain import Chain

ROUND = 128     # bytes


class Words:
    """The arguments of a kernel, with their types."""

    def __init__(self):
        self.args: list = []
        self.types: list[str] = []

    def add(self, arg: tuple, type_: str = "i64") -> int:
        self.args.append(arg)
        self.types.append(type_)
        return len(self.args) - 1

    def integer(self, n: int) -> int:
        return self.add(("int", n))


class DeviceChain(Chain):
    """The call of a whole chain on a GPU."""

    def assemble(self) -> None:
        chain, bodies, words = self.group.chain, self.bodies, Words()
        for n in (chain.blocks, chain.per_chunk, chain.period):
            words.integer(n)
        clears = [cuda_chain.Clear(words.add(("ptr", buffer, 0), "ptr"), words.integer(nbytes), words.integer(nbytes // 4))
                  for buffer, nbytes in bodies[0].clears]
        parts = [[self._part(words, body, call) for call in body.calls] for body in bodies]
        temporaries = -(-max(b.temporaries for b in bodies) // ROUND) * ROUND
        slices = cuda_chain.slice_bytes([p for body in parts for p in body])
        scratch = None
        if temporaries + slices > chain.room:
            part = self.lowering.part(temporaries * chain.chunks)
            self.writes.add(part)
            scratch = (words.add(("ptr", part, 0), "ptr"), words.integer(temporaries))
        self.args = words.args
        self.kernel = cuda_chain.ChainKernel(words.types, parts, clears, scratch, temporaries, chain.chunks)
        self._release()

    def _part(self, words: Words, body, call) -> cuda_chain.Part:
        places, unaligned = [], set()
        for slot, arg in enumerate(call.args):
            place, whole = self._place(words, body, arg)
            places.append(place)
            if not whole:
                unaligned.add(slot)
        plain = [a[1] if a[0] == "int" else 0 for a in call.args]
        (kernel,) = ptx.build_all([call.program])
        return cuda_chain.part_of(kernel, places, plain, lambda slot: slot not in unaligned, words.integer)

    def _place(self, words: Words, body, arg: tuple) -> tuple[cuda_chain.Place, bool]:
        """(where an argument comes from, whether it is an address that is always a multiple of 16)."""
        if arg[0] == "num":
            node, j = arg[1]
            return cuda_chain.Place(words.add(("num", (body.origin[node], j), arg[2]), "double" if arg[2].kind == "f" else "i64")), False
        if arg[0] == "int":
            return cuda_chain.Place(words.add(arg)), False
        _, buffer, offset = arg
        if buffer[0] != "window":
            at = body.offsets[buffer] + offset
            return cuda_chain.Place(words.integer(at), True), at % 16 == 0
        window = body.windows[buffer[1]]
        size = window.source.dtype.itemsize
        word = words.add(("ptr", body.outer(window.source), offset), "ptr")
        steps = tuple((words.integer(divisor), words.integer(modulus), words.integer(n * size)) for divisor, modulus, n in window.steps)
        chunked = words.integer(window.chunked * size) if window.chunked else -1
        moves = [offset, window.chunked * size, *(n * size for *_, n in window.steps)]
        return cuda_chain.Place(word, False, steps, chunked), not any(m % 16 for m in moves)
