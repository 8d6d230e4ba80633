"""Random numbers: the Mersenne Twister of PyTorch's CPU generator, and how its words become numbers.

The same seed gives the same numbers as PyTorch: so do the twister (`twister.py`) and the ways from its 32-bit words to uniform, normal
and integer numbers: 24 bits for a float32, 53 for a float64, Box and Muller (1958) for normals.
"""

from __future__ import annotations

import functools
import math
import os
import struct

import numpy as np

from ..base import dtype as dt
from ..base.device import device as Device
from ..graph import tape
from ..graph.node import Node, leaf
from ..runtime.buffer import Buffer
from .twister import Twister

DEFAULT_SEED = 67280421310721
_STATE_BYTES = 5056
MANY = 20_000       # numbers from which a permutation is made by a compiled loop


FEW = 16        # numbers


class Generator:
    """A stream of random numbers with a seed and a state of its own; of a GPU, one that is drawn there (philox.py)."""

    def __new__(cls, device="cpu"):
        if cls is Generator and Device(device).type == "cuda":
            from .philox import DeviceGenerator
            cls = DeviceGenerator
        return super().__new__(cls)

    def __init__(self, device="cpu"):
        self._device = Device(device)
        if self._device.type not in ("cpu", "cuda"):
            raise RuntimeError(f"Generator: expected device 'cpu' or 'cuda'; received '{device}'")
        self.manual_seed(DEFAULT_SEED)

    @property
    def device(self):
        return self._device

    def manual_seed(self, seed: int):
        seed = int(seed)
        if not -(2 ** 63) <= seed < 2 ** 64:
            raise ValueError(f"Overflow when unpacking long long: expected a seed in [-2**63, 2**64); received {seed}")
        self._seed = seed % 2 ** 64
        self.__dict__.pop("_words", None)
        self._next_normal = None
        return self

    def seed(self) -> int:
        value = int.from_bytes(os.urandom(8), "little") >> 1
        self.manual_seed(value)
        return value

    def initial_seed(self) -> int:
        return self._seed

    @functools.cached_property
    def _words(self) -> Twister:
        """The twister; made with the first draw."""
        return Twister(self._seed)

    # -- words --------------------------------------------------------------------------------------------------

    def words(self, n: int) -> np.ndarray:
        """The next n 32-bit words."""
        if tape.state.watch is not None:
            tape.state.watch.drew()
        return self._words.words(n)

    def few(self, n: int) -> list[int]:
        """As `words`, integers: for so few that NumPy's functions would take longer to call (`FEW`)."""
        if tape.state.watch is not None:
            tape.state.watch.drew()
        return self._words.few(n)

    def below_leaf(self, n: int, threshold: int) -> Node:
        """Which of the next n 53-bit numbers are less than the threshold: a bool value in memory that is used again and again."""
        if tape.state.watch is not None:
            tape.state.watch.drew()
        buffer = Buffer.allocate(n)
        self._words.below(n, threshold, buffer.address)
        return leaf(buffer, n, dt.bool_)

    def words64(self, n: int) -> np.ndarray:
        """The next n pairs of words, the first of each as the high half."""
        pairs = self.words(2 * n).reshape(n, 2)
        return (pairs[:, 0].astype(np.uint64) << np.uint64(32)) | pairs[:, 1]

    def random(self) -> int:
        return int(self.words(1)[0])

    # -- numbers ------------------------------------------------------------------------------------------------

    def uniform(self, n: int, dtype=np.float32, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """n numbers in [low, high)."""
        if n <= FEW and dtype == np.float32 and (low, high) == (0.0, 1.0):
            return np.array([w % 2 ** 24 * 2.0 ** -24 for w in self.few(n)], np.float32)
        if np.dtype(dtype) == np.float64:
            pairs = self.words(2 * n).reshape(n, 2)     # of 53 bits the first has 21: their sum is exact
            x = (pairs[:, 0] & np.uint32(2 ** 21 - 1)) * 2.0 ** -21 + pairs[:, 1] * 2.0 ** -53
        else:
            x = (self.words(n) & np.uint32(2 ** 24 - 1)).astype(np.float32) * np.float32(2.0 ** -24)
            low, high = np.float32(low), np.float32(high)
        return x if (low, high) == (0.0, 1.0) else _scaled(x, high - low, low)

    def integers(self, n: int, low: int, high: int) -> np.ndarray:
        """n integers in [low, high), int64: from pairs of words where the range has 2**28 numbers or more."""
        span = high - low
        if span == 2 ** 64:
            return self.words64(n).view(np.int64)
        if n <= FEW and span < 2 ** 28:
            return np.array([w % span + low for w in self.few(n)], np.int64)
        if span >= 2 ** 28:
            return (self.words64(n) % np.uint64(span)).view(np.int64) + low
        return (self.words(n) % np.uint32(span)).astype(np.int64) + low

    def whole_range(self, n: int, top: int) -> np.ndarray:
        """n integers in [0, top], int64: from pairs of words where `top` needs more than 32 bits."""
        if top >= 2 ** 32:
            return (self.words64(n) % np.uint64(top + 1)).astype(np.int64)
        return (self.words(n) % np.uint32(top + 1)).astype(np.int64)

    def normal(self, n: int, dtype=np.float32, mean: float = 0.0, std: float = 1.0) -> np.ndarray:
        """n normal numbers: from 16 on in blocks of 16, below one by one in float64."""
        if n < 16:
            return self.single_normals(n, mean, std).astype(dtype)
        x = self.uniform(n, dtype)
        whole = n - n % 16
        x[:whole] = _box_muller(x[:whole].reshape(-1, 16), dtype, mean, std).reshape(-1)
        if n % 16:
            x[-16:] = _box_muller(self.uniform(16, dtype).reshape(1, 16), dtype, mean, std)[0]
        return x

    def single_normals(self, n: int, mean: float = 0.0, std: float = 1.0) -> np.ndarray:
        """n normal numbers, float64, two from each pair of uniforms; an odd one is kept for the next call."""
        kept = [] if self._next_normal is None or n == 0 else [self._next_normal]
        pairs = (n - len(kept) + 1) // 2
        if n <= FEW:
            words = iter(self.few(4 * pairs))
            for w0, w1, w2, w3 in zip(words, words, words, words):
                angle, u = (w0 % 2 ** 21 * 2.0 ** -21 + w1 * 2.0 ** -53) * 2.0 * math.pi, w2 % 2 ** 21 * 2.0 ** -21 + w3 * 2.0 ** -53
                radius = math.sqrt(-2.0 * math.log1p(-u))
                kept += (radius * math.cos(angle), radius * math.sin(angle))
            self._next_normal = kept[n] if len(kept) > n else self._next_normal if n == 0 else None
            return np.array(kept[:n]) * std + mean
        angle, u = self.uniform(2 * pairs, np.float64).reshape(pairs, 2).T
        radius, angle = np.sqrt(-2.0 * np.log1p(-u)), 2.0 * math.pi * angle
        x = np.empty(len(kept) + 2 * pairs)
        x[:len(kept)] = kept
        x[len(kept)::2], x[len(kept) + 1::2] = radius * np.cos(angle), radius * np.sin(angle)
        if n:
            self._next_normal = float(x[n]) if x.size > n else None
        return x[:n] * std + mean

    def geometric(self, n: int, p: float) -> np.ndarray:
        """n numbers of the geometric distribution, float64."""
        return np.ceil(np.log(self.uniform(n, np.float64)) / np.log1p(-p))

    def cauchy(self, n: int, median: float, sigma: float) -> np.ndarray:
        """n numbers of the Cauchy distribution, float64."""
        return median + sigma * np.tan(np.pi * (self.uniform(n, np.float64) - 0.5))

    def log_normal(self, n: int, mean: float, std: float) -> np.ndarray:
        """The exponentials of n normal numbers, float64."""
        return np.exp(self.single_normals(n, mean, std))

    def exponential(self, n: int, rate: float = 1.0) -> np.ndarray:
        """n numbers of the exponential distribution, float64."""
        x = -np.log1p(-self.uniform(n, np.float64))
        return x if rate == 1.0 else x / rate

    def poisson(self, rates: np.ndarray) -> np.ndarray:
        """A Poisson number for each rate, float64."""
        from . import rejection
        return rejection.sample(self, rejection.poisson, rates)

    def binomial(self, counts: np.ndarray, chances: np.ndarray) -> np.ndarray:
        """A binomial number for each count and chance, float64."""
        from . import rejection
        return rejection.sample(self, rejection.binomial, counts, chances)

    def gamma(self, concentrations: np.ndarray) -> np.ndarray:
        """A gamma number of rate 1 for each concentration, float64; its parameters are rounded to the dtype of `concentrations`."""
        from . import gamma_numbers
        return gamma_numbers.gamma(self, concentrations)

    def permutation(self, n: int) -> np.ndarray:
        """A random order of 0 .. n-1 (Fisher and Yates)."""
        steps = (self.words(max(n - 1, 0)) % np.arange(n, min(n, 1), -1, dtype=np.uint32)).astype(np.int64)
        if n >= MANY:
            from . import shuffle
            return shuffle.shuffled(steps)
        order = list(range(n))
        for i, z in enumerate(steps.tolist()):
            order[i], order[i + z] = order[i + z], order[i]
        return np.array(order, np.int64)

    def host(self) -> Generator:
        """What to draw from on the CPU: the generator itself."""
        return self

    # -- state --------------------------------------------------------------------------------------------------

    def get_state(self):
        """The state as a uint8 tensor of PyTorch's layout."""
        from .arrays import tensor
        keys, position = self._words.saved()
        raw = struct.pack("<QiiQ", self._seed, 625 - position, 1, position % 624) + keys.astype("<u8").tobytes()
        raw += struct.pack("<dddi", 0.0, self._next_normal or 0.0, 0.0, self._next_normal is not None)
        raw += b"\0" * (_STATE_BYTES - len(raw))
        return tensor(np.frombuffer(raw, np.uint8).copy())

    def set_state(self, state) -> Generator:
        raw = np.asarray(state.tolist(), np.uint8).tobytes()
        if len(raw) != _STATE_BYTES:
            raise RuntimeError(f"set_state: expected a state of {_STATE_BYTES} bytes; received {len(raw)}")
        self._seed = struct.unpack_from("<Q", raw)[0]
        position = 625 - struct.unpack_from("<i", raw, 8)[0]
        keys = np.frombuffer(raw, "<u8", 624, 24).astype(np.uint32)
        self._words.restore((keys, position))
        self._next_normal = struct.unpack_from("<d", raw, 5024)[0] if struct.unpack_from("<i", raw, 5040)[0] else None
        return self

    def snapshot(self) -> tuple:
        """The state, for `rewind`."""
        return self._seed, self._words.saved() if "_words" in self.__dict__ else None, self._next_normal

    def rewind(self, snapshot: tuple) -> None:
        """Go back to the state that `snapshot` returned."""
        self._seed, words, self._next_normal = snapshot
        if words is None:
            self.__dict__.pop("_words", None)
        else:
            self._words.restore(words)

    def clone_state(self) -> Generator:
        return Generator().set_state(self.get_state())

    def __reduce__(self):
        return _restore, (self.get_state(),)


def _restore(state) -> Generator:
    return Generator().set_state(state)


def _box_muller(x: np.ndarray, dtype, mean, std) -> np.ndarray:
    """Rows of 16 uniforms: the first 8 give radii, the last 8 angles."""
    kind = np.dtype(dtype).type
    u1 = kind(1) - x[:, :8]
    radius = np.sqrt(kind(-2) * np.log(u1))
    theta = kind(2 * math.pi) * x[:, 8:]
    out = np.empty_like(x)
    np.multiply(radius, np.cos(theta), out[:, :8])
    np.multiply(radius, np.sin(theta), out[:, 8:])
    return out if (mean, std) == (0.0, 1.0) else _scaled(out, kind(std), kind(mean))


def _scaled(x: np.ndarray, factor, offset) -> np.ndarray:
    """x * factor + offset, rounded once, as a fused multiply-add does."""
    wide = np.float64 if x.dtype == np.float32 else np.longdouble
    return (x.astype(wide) * wide(factor) + wide(offset)).astype(x.dtype)


default_generator = Generator()
_of_devices: dict[str, Generator] = {}
_seed_of_devices = DEFAULT_SEED


def generator_of(device: str) -> Generator:
    """The default generator of a GPU."""
    found = _of_devices.get(device)
    if found is None:
        found = _of_devices[device] = Generator(device).manual_seed(_seed_of_devices)
    return found


def seed_devices(seed: int, device: str | None = None) -> None:
    """Seed the default generator of a GPU; of all that there are and will be for None."""
    global _seed_of_devices
    if device is not None:
        generator_of(device).manual_seed(seed)
        return
    _seed_of_devices = seed
    for generator in _of_devices.values():
        generator.manual_seed(seed)


def snapshots(devices=None) -> list[tuple]:
    """(generator, its state) of the default generators of the CPU and of GPUs (those that were drawn from, if not said)."""
    own = [generator_of(d) for d in devices] if devices is not None else list(_of_devices.values())
    return [(g, g.snapshot()) for g in (default_generator, *own)]


def rewind(states: list[tuple]) -> None:
    """Go back to what `snapshots` returned."""
    for generator, state in states:
        generator.rewind(state)
