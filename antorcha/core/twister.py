"""The Mersenne Twister of Matsumoto and Nishimura (1998), by loop programs of our own.

Word n+624 of its state is made of the words n, n+1 and n+397. So 224 words on end do not depend on each other: LLVM makes them by vector
instructions. The state kept here is eight blocks of 624 words, made at once, behind the last block before them; what is drawn are
words of the state, tempered.
"""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from ..base import dtype as dt
from ..loops import ir
from ..runtime.buffer import address_of

N, M = 624, 397     # words of a block; how far the middle word is
AHEAD = 8 * N       # words made at once
SOME = 64           # words that `few` finds at once
STRIDE = 224        # words that are independent of each other: less than N - M, and whole vectors
WORK = 2            # elementary operations that a word takes
_U32 = dt.uint32


def _mixed(upper: ir.Op, lower: ir.Op) -> ir.Op:
    """The top bit of one word before the other bits of the next, times the twist matrix."""
    y = (upper & 0x80000000) | (lower & 0x7FFFFFFF)
    return (y >> 1) ^ ir.select((y & 1).ne(0), ir.const(0x9908B0DF, _U32), ir.const(0, _U32))


def _tempered(y: ir.Op) -> ir.Op:
    y = y ^ (y >> 11)
    y = y ^ ((y << 7) & 0x9D2C5680)
    y = y ^ ((y << 15) & 0xEFC60000)
    return y ^ (y >> 18)


def _twist(state: int) -> list[ir.Op]:
    """The next `AHEAD` words of the state."""
    k, j = ir.index("k"), ir.index("j")
    here = ir.index("c") * STRIDE + j

    def at(i):
        return ir.load(state, i, _U32)

    count = ir.minimum(ir.integer(AHEAD) - ir.index("c") * STRIDE, ir.integer(STRIDE))
    return [ir.loop("k", "vector", ir.integer(N), ir.store(state, k, at(k + AHEAD))),
            ir.loop("c", "serial", ir.integer(-(-AHEAD // STRIDE)),
                    ir.loop("j", "vector", count, ir.store(state, here + N, at(here + M) ^ _mixed(at(here), at(here + 1)))))]


def _program(results: dt.dtype, each: int, result, *constants: str) -> ir.Program:
    """n results of `each` words, `result(i, *constants)` of those from word i of the state on: of the words there are, then of new
    ones."""
    p = ir.Program()
    p.slot("inout", _U32, "state")
    out = p.slot("out", results, "out")
    position, n = (ir.arg(p.slot("extent", dt.int64, name)) for name in ("position", "n"))
    given = [ir.arg(p.slot("scalar", _U32, name), _U32) for name in constants]
    i, first, per = ir.index("i"), ir.value("first", dt.int64), ir.integer(AHEAD // each)
    done = first + ir.index("s") * per
    left = ir.rem(position, ir.integer(each))       # words at the end that make no whole result

    def store(place, word):
        return ir.store(out, place, result(word, *given))

    p.body = [ir.loop("once", "parallel", ir.integer(1),
                      ir.accumulator("first", "set", ir.minimum(n, (ir.integer(AHEAD) - position) / ir.integer(each))),
                      ir.loop("i", "vector", first, store(i, position + N + i * each)),
                      ir.loop("s", "serial", (n - first + per - 1) / per, *_twist(0),
                              ir.loop("i", "vector", ir.minimum(n - done, per), store(done + i, ir.integer(N) - left + i * each))))]
    return p


def words_program() -> ir.Program:
    """n words."""
    return _program(_U32, 1, lambda i: _tempered(ir.load(0, i, _U32)))


def below_program() -> ir.Program:
    """Whether each of n 53-bit numbers (21 bits of one word before all of the next) lies below a threshold, likewise in two words."""
    def result(i, high, low):
        top, rest = _tempered(ir.load(0, i, _U32)) & 0x1FFFFF, _tempered(ir.load(0, i + 1, _U32))
        return (top < high) | (top.eq(high) & (rest < low))
    return _program(dt.bool_, 2, result, "high", "low")


_Arguments = ctypes.c_int64 * 6


@functools.cache
def _kernel(program):
    from ..targets.kernel import Function

    return Function(program())


class Twister:
    """A twister seeded with 32 bits. `state`: the block before, then `AHEAD` words, of which `position` have been drawn."""

    def __init__(self, seed: int):
        word = seed & 0xFFFFFFFF
        keys = [word] + [word := (1812433253 * (word ^ word >> 30) + i) & 0xFFFFFFFF for i in range(1, N)]
        self.state, self.position = np.zeros(N + AHEAD, np.uint32), AHEAD
        self._address = self.state.ctypes.data
        self._first, self._next = 0, []     # the position of some words that come next, and these
        self.restore((keys, N))

    def _draw(self, program, n: int, each: int, address: int, *constants: int) -> None:
        words = _Arguments(self._address, address, self.position, n, *constants)
        _kernel(program)(ctypes.addressof(words), WORK * n * each)
        end = self.position + n * each
        if end > AHEAD:
            self._next = []
        self.position = end if end <= AHEAD else (end - 1) % AHEAD + 1

    def words(self, n: int, out: np.ndarray | None = None) -> np.ndarray:
        """The next n words, in `out` (uint32) if it is given."""
        out = np.empty(n, np.uint32) if out is None else out
        if n:
            self._draw(words_program, n, 1, address_of(out))
        return out

    def few(self, n: int) -> list[int]:
        """The next n words as integers, for few of them: those of several calls are found at once."""
        at = self.position - self._first
        if not 0 <= at <= len(self._next) - n:
            position = self.position
            if position + max(n, SOME) > AHEAD:
                return self.words(n).tolist()
            self._first, self._next, at = position, self.words(max(n, SOME)).tolist(), 0
            self.position = position
        self.position += n
        return self._next[at:at + n]

    def below(self, n: int, threshold: int, address: int) -> None:
        """Write at `address`, as n bytes, which of the next n 53-bit numbers are less than the threshold; of each pair of words the
        first is the high half."""
        if n:
            self._draw(below_program, n, 2, address, threshold >> 32, threshold & 0xFFFFFFFF)

    def saved(self) -> tuple[np.ndarray, int]:
        """(the 624 words of the block that is being drawn from, how many of them have been drawn)."""
        block = max(self.position - 1, 0) // N
        return self.state[N * (block + 1):N * (block + 2)].copy(), self.position - N * block

    def restore(self, state: tuple) -> None:
        """Go back to what `saved` returned."""
        keys, position = state
        self.state[AHEAD:] = keys
        self.position = AHEAD - N + position
        self._next = []
