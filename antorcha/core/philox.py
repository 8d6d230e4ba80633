"""Random numbers drawn on a GPU: Philox 4x32-10 of Salmon, Moraes, Dror and Shaw ("Parallel random numbers: as easy as 1, 2, 3", 2011).

Number i of a draw is made of the four words at counter (i, offset) under the key `seed`, so each is computed wherever it is needed, in the
kernel that needs it. A draw advances the offset by 4, as PyTorch's generator does for four words of each thread; seed and offset are the
state. PyTorch's numbers depend on how many multiprocessors the card has; these do not, and are others.

Seed and offset are arguments of kernels, so drawing anew makes no new plan. While a CUDA graph is captured they are read from memory that
each replay fills in anew, so that no replay repeats the numbers of another.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from ..base import dtype as dt
from ..graph import tape
from ..graph.node import Node, Static, dense, leaf, view
from ..loops import ir
from ..ops.layout import meta
from ..ops.record import scalar_op
from ..runtime.cache import blake2b
from .generator import Generator
from .tensor import Tensor, make

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
STEP = 4                # by which a draw advances the offset
_U32, _U64 = dt.uint32, dt.uint64


def _halves(x: ir.Op) -> tuple[ir.Op, ir.Op]:
    """The low and the high 32 bits of an int64."""
    x = x.bitcast(_U64)
    return x.cast(_U32), (x >> 32).cast(_U32)


def words(seed: ir.Op, offset: ir.Op, i: ir.Op) -> list[ir.Op]:
    """The four words at a counter, as loop program expressions."""
    counter, key = [*_halves(offset), *_halves(i)], list(_halves(seed))
    for _ in range(ROUNDS):
        (low0, high0), (low1, high1) = (_halves((c.cast(_U64) * m).bitcast(dt.int64)) for c, m in zip(counter[::2], MULTIPLIERS))
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0]
        key = [k + w for k, w in zip(key, WEYL)]
    return counter


def _bits(seed, base, extra, i):
    """64 random bits."""
    low, high, *_ = words(seed, base + extra, i)
    return ((high.cast(_U64) << 32) | low.cast(_U64)).bitcast(dt.int64)


def _uniform32(which: int):
    """A multiple of 2**-24 in [0, 1)."""
    return lambda seed, base, extra, i: (words(seed, base + extra, i)[which] >> 8).cast(dt.float32) * 2.0 ** -24


def _uniform64(which: int):
    """A multiple of 2**-53 in [0, 1)."""
    def scalar(seed, base, extra, i):
        low, high = words(seed, base + extra, i)[2 * which:2 * which + 2]
        return (((high.cast(_U64) << 32) | low.cast(_U64)) >> 11).cast(dt.float64) * 2.0 ** -53
    return scalar


def _below(seed, base, extra, threshold, i):
    """Whether 53 random bits are less than a threshold."""
    return ((_bits(seed, base, extra, i).bitcast(_U64) >> 11).bitcast(dt.int64)) < threshold


def _ranged(seed, base, extra, low, span, i):
    """An integer in [low, low + span)."""
    return ir.rem((_bits(seed, base, extra, i).bitcast(_U64) >> 1).bitcast(dt.int64), span) + low


BITS, BELOW, RANGED = (scalar_op(f"philox_{name}", f, True) for name, f in (("bits", _bits), ("below", _below), ("ranged", _ranged)))
UNIFORM = {d: [scalar_op(f"philox_uniform{k}", f(k), True) for k in (0, 1)]
           for d, f in ((dt.float32, _uniform32), (dt.float64, _uniform64))}


def signed(n: int) -> int:
    """64 bits as a signed integer."""
    return (n + 2 ** 63) % 2 ** 64 - 2 ** 63


class DeviceGenerator(Generator):
    """A generator whose numbers are made on its GPU. Draws are tensors of one dimension that are not computed yet. What draws an uncertain
    number of words (`host`) is drawn on the CPU."""

    def manual_seed(self, seed: int):
        super().manual_seed(seed)
        self._offset = 0
        self._captured: tuple | None = None     # while a graph is captured: (the state in memory, the offset at its beginning)
        return self

    @property
    def name(self) -> str:
        from ..ops.placement import device_name
        return device_name(self._device)

    # -- state --------------------------------------------------------------------------------------------------

    def get_offset(self) -> int:
        """How many words each number's counter has advanced by; a multiple of 4."""
        return self._offset

    def set_offset(self, offset: int) -> None:
        if offset < 0 or offset % STEP:
            raise RuntimeError(f"set_offset: offset must be a multiple of 4: expected one that is not negative; received {offset}.")
        self._offset = offset

    def get_state(self):
        """Seed and offset, 8 bytes each, as PyTorch's generators for GPUs give them."""
        from .arrays import tensor
        return tensor(np.frombuffer(struct.pack("<Qq", self._seed, self._offset), np.uint8).copy())

    def set_state(self, state) -> DeviceGenerator:
        raw = bytes(state.tolist())
        if len(raw) != 16:
            raise RuntimeError(f"set_state: RNG state is wrong size: expected 16 bytes (seed and offset); received {len(raw)}. "
                               "Give a state of a generator for GPUs.")
        self._seed, self._offset = struct.unpack("<Qq", raw)
        return self

    def snapshot(self) -> tuple:
        return self._seed, self._offset

    def rewind(self, snapshot: tuple) -> None:
        self._seed, self._offset = snapshot

    def clone_state(self) -> DeviceGenerator:
        return DeviceGenerator(self._device).set_state(self.get_state())

    def __reduce__(self):
        return _restored, (str(self._device), self.get_state())

    # -- captured graphs ----------------------------------------------------------------------------------------

    def begin_capture(self, buffer) -> None:
        """From now on, seed and offset are read from memory, two int64 that `replayed` gives for each replay."""
        self._captured = leaf(buffer, 2, dt.int64), self._offset

    def end_capture(self) -> int:
        """How far a replay advances the offset. Nothing has been drawn yet."""
        (_, before), self._captured = self._captured, None
        self._offset, drawn = before, self._offset - before
        return drawn

    def replayed(self, drawn: int) -> np.ndarray:
        """The state for a replay that draws as much as `end_capture` said."""
        state = np.array([signed(self._seed), self._offset], np.int64)
        self._offset += drawn
        return state

    # -- draws --------------------------------------------------------------------------------------------------

    def _drawn(self, ops: list, n: int, d: dt.dtype, *numbers: int) -> list[Tensor]:
        """The next n numbers, made of the same words in different ways."""
        if tape.state.watch is not None:
            tape.state.watch.drew()
        name = self.name
        if self._captured is not None:
            state, before = self._captured
            sources = (state, state, self._offset - before)
            views = (view((n,), (0,)), view((n,), (0,), 1), None)
        else:
            self._not_captured(name)
            sources, views = (signed(self._seed), self._offset, 0), (None,) * 3
        self._offset += STEP
        views += (None,) * len(numbers)
        static = Static(casts=(dt.int64,) * len(views), device=name)
        return [make(Node.of(op, (*sources, *numbers), views, static, (n,), n, d), meta(dense((n,)), d, name)) for op in ops]

    @staticmethod
    def _not_captured(name: str) -> None:
        from ..runtime import cuda
        if cuda.named(name).capturing is not None:
            raise RuntimeError("while a CUDA graph is captured: expected draws of the device's default generator; received one from "
                               "another generator, or one that is made on the CPU. Draw it before.")

    def bits(self, n: int):
        """n times 64 random bits, int64."""
        return self._drawn([BITS], n, dt.int64)[0]

    def uniform(self, n: int, dtype=np.float32, low: float = 0.0, high: float = 1.0):
        d = dt.of(np.dtype(dtype))
        (x,) = self._drawn(UNIFORM[d][:1], n, d)
        return x if (low, high) == (0.0, 1.0) else x * (high - low) + low

    def normal(self, n: int, dtype=np.float32, mean: float = 0.0, std: float = 1.0):
        """By the method of Box and Muller (1958), one number of each pair."""
        d = dt.of(np.dtype(dtype))
        u, angle = self._drawn(UNIFORM[d], n, d)
        x = (-2.0 * (1.0 - u).log()).sqrt() * (2.0 * math.pi * angle).cos()
        return x if (mean, std) == (0.0, 1.0) else x * std + mean

    def single_normals(self, n: int, mean: float = 0.0, std: float = 1.0):
        return self.normal(n, np.float64, mean, std)

    def integers(self, n: int, low: int, high: int):
        if high - low > 2 ** 63 - 1:
            return self.bits(n)
        return self._drawn([RANGED], n, dt.int64, low, high - low)[0]

    def whole_range(self, n: int, top: int):
        return self.integers(n, 0, min(top + 1, 2 ** 63 - 1))

    def exponential(self, n: int, rate: float = 1.0):
        return -(1.0 - self.uniform(n, np.float64)).log() / rate

    def geometric(self, n: int, p: float):
        return ((1.0 - self.uniform(n, np.float64)).log() / math.log1p(-p)).ceil()

    def cauchy(self, n: int, median: float, sigma: float):
        return (math.pi * (self.uniform(n, np.float64) - 0.5)).tan() * sigma + median

    def log_normal(self, n: int, mean: float, std: float):
        return self.single_normals(n, mean, std).exp()

    def below_leaf(self, n: int, threshold: int) -> Node:
        return self._drawn([BELOW], n, dt.bool_, threshold)[0].storage.node

    # -- on the CPU ---------------------------------------------------------------------------------------------

    def host(self) -> Generator:
        """A generator for the CPU, seeded by this one's state, which advances."""
        seed = blake2b(struct.pack("<Qq", self._seed, self._offset), digest_size=8).digest()
        self._not_captured(self.name)
        self._offset += STEP
        if tape.state.watch is not None:
            tape.state.watch.drew()
        return Generator().manual_seed(int.from_bytes(seed, "little"))

    def words(self, n: int) -> np.ndarray:
        return self.host().words(n)

    def permutation(self, n: int) -> np.ndarray:
        return self.host().permutation(n)


def _restored(device: str, state) -> DeviceGenerator:
    return DeviceGenerator(device).set_state(state)
