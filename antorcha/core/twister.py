"""Many words of the Mersenne Twister at once, by a loop program of our own.

The generator of Matsumoto and Nishimura (1998) makes 624 words from the last 624. Each depends on words 1 and 397 further on, so the
new block is made in three stretches whose words are independent of each other, which LLVM turns into vector instructions.
"""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from ..base import dtype as dt
from ..loops import ir

N, M = 624, 397
_U32 = dt.uint32


def _word(value: int) -> ir.Op:
    return ir.const(value, _U32)


def _mixed(upper: ir.Op, lower: ir.Op) -> ir.Op:
    """The top bit of one word before the other bits of the next, times the twist matrix."""
    y = (upper & 0x80000000) | (lower & 0x7FFFFFFF)
    return (y >> 1) ^ ir.select((y & 1).ne(0), _word(0x9908B0DF), _word(0))


def _tempered(y: ir.Op) -> ir.Op:
    y = y ^ (y >> 11)
    y = y ^ ((y << 7) & 0x9D2C5680)
    y = y ^ ((y << 15) & 0xEFC60000)
    return y ^ (y >> 18)


def _block(source: int, target: int, out: int, tag: str, first: ir.Op) -> list[ir.Op]:
    """One new block of 624 words, and its tempered form."""
    def at(slot, i):
        return ir.load(slot, i, _U32)

    def stretch(name, start, stop, other):
        i = ir.index(f"{name}{tag}") + start
        value = other(i) ^ _mixed(at(source, i), at(source, i + 1))
        return ir.loop(f"{name}{tag}", "vector", ir.integer(stop - start), ir.store(target, i, value))

    last = ir.integer(N - 1)
    t = ir.index(f"t{tag}")
    return [
        stretch("a", 0, N - M, lambda i: at(source, i + M)),
        stretch("b", N - M, 2 * (N - M), lambda i: at(target, i - (N - M))),
        stretch("c", 2 * (N - M), N - 1, lambda i: at(target, i - (N - M))),
        ir.store(target, last, at(target, ir.integer(M - 1)) ^ _mixed(at(source, last), at(target, ir.integer(0)))),
        ir.loop(f"t{tag}", "vector", ir.integer(N), ir.store(out, first + t, _tempered(at(target, t)))),
    ]


def program() -> ir.Program:
    """Pairs of blocks: from one half of the state to the other and back."""
    p = ir.Program()
    a, b = p.slot("inout", _U32, "state"), p.slot("inout", _U32, "other")
    out, pairs = p.slot("out", _U32, "words"), p.slot("extent", dt.int64, "pairs")
    first = ir.index("pair") * (2 * N)
    body = _block(a, b, out, "0", first) + _block(b, a, out, "1", first + N)
    p.body = [ir.loop("once", "parallel", ir.integer(1), ir.loop("pair", "serial", ir.arg(pairs), *body))]
    return p


@functools.cache
def _kernel():
    from ..targets import llvm

    kernel = llvm.build(program())
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(kernel.address)


def words(state: np.random.RandomState, n: int, out: np.ndarray | None = None) -> np.ndarray:
    """The next n words of NumPy's generator, which is left as if it had drawn them."""
    out = np.empty(n, np.uint32) if out is None else out
    done = min(n, N - state.get_state()[2])
    out[:done] = state.randint(0, 2 ** 32, done, np.uint32)
    pairs = (n - done) // (2 * N)
    if pairs:
        keys = state.get_state()[1].astype(np.uint32)
        other = np.empty(N + 1, np.uint32)
        keys = np.append(keys, np.uint32(0))    # reading one past a block is harmless
        arguments = np.array([keys.ctypes.data, other.ctypes.data, out.ctypes.data + 4 * done, pairs], np.int64)
        _kernel()(arguments.ctypes.data, 0, 1, None)
        state.set_state(("MT19937", keys[:N], N, 0, 0.0))
        done += pairs * 2 * N
    if done < n:
        out[done:] = state.randint(0, 2 ** 32, n - done, np.uint32)
    return out
