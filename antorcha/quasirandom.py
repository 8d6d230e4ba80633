"""Quasi-random numbers: points that fill the unit cube more evenly than random ones.

Sobol, "On the distribution of points in a cube", 1967; in the order of Antonov and Saleev's Gray code, 1979, with Joe and Kuo's direction
numbers, 2008, which SciPy keeps; scrambled as Matoušek proposes ("On the L2-discrepancy for anchored boxes", 1998).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

import antorcha as torch

__all__ = ["SobolEngine"]


@lru_cache(1)
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """For each dimension a primitive polynomial over GF(2), as the bits of an integer, and the first direction numbers."""
    try:
        from importlib.resources import files

        with files("scipy.stats").joinpath("_sobol_direction_numbers.npz").open("rb") as file, np.load(file) as found:
            return found["poly"], found["vinit"]
    except (ImportError, OSError):
        raise RuntimeError("SobolEngine: expected SciPy, whose table of direction numbers it reads; it is not installed. "
                           "Install it: pip install scipy") from None


@lru_cache(8)
def _directions(dimension: int, bits: int) -> np.ndarray:
    """The direction numbers, one row of `bits` for each dimension, as fractions of 2**bits."""
    rows = np.empty((dimension, bits), np.int64)
    rows[0] = 1
    if dimension > 1:
        polynomials, first = _tables()
        for row, polynomial, start in zip(rows[1:], polynomials[1:dimension].tolist(), first[1:dimension]):
            degree = polynomial.bit_length() - 1
            row[:degree] = start[:degree]
            for j in range(degree, bits):
                row[j] = row[j - degree]
                for k in range(1, degree + 1):
                    if polynomial >> (degree - k) & 1:
                        row[j] ^= row[j - k] << k
    return rows << np.arange(bits - 1, -1, -1)


class SobolEngine:
    """Points of a (scrambled) Sobol sequence of `dimension` (1 to 21201): `draw(n)` gives the next n, float of shape (n, dimension).

    `seed`: of the scrambling; PyTorch's numbers for the same seed. Dimensions beyond the first need SciPy.
    """

    MAXBIT = 30
    MAXDIM = 21201

    def __init__(self, dimension: int, scramble: bool = False, seed: int | None = None):
        if not 1 <= dimension <= self.MAXDIM:
            raise ValueError(f"Supported range of dimensionality for SobolEngine is [1, {self.MAXDIM}]; received {dimension}")
        self.dimension, self.scramble, self.seed = dimension, scramble, seed
        self._state = _directions(dimension, self.MAXBIT)
        shift = np.zeros(dimension, np.int64)
        if scramble:
            shift = self._scramble()
        self.shift = torch.from_numpy(shift)
        self.reset()

    def _scramble(self) -> np.ndarray:
        """Multiply the directions by random lower triangular matrices over GF(2); returns the random shift."""
        generator = None
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed)
        shift_bits = torch.randint(2, (self.dimension, self.MAXBIT), generator=generator).numpy()
        matrices = torch.randint(2, (self.dimension, self.MAXBIT, self.MAXBIT), generator=generator).tril().numpy()
        matrices[:, range(self.MAXBIT), range(self.MAXBIT)] = 1
        bits = self._state[:, :, None] >> np.arange(self.MAXBIT - 1, -1, -1) & 1     # most significant first, as the matrices' columns
        scrambled = np.einsum("dpk,djk->djp", matrices, bits) & 1
        self._state = scrambled @ (1 << np.arange(self.MAXBIT - 1, -1, -1))
        return shift_bits @ (1 << np.arange(self.MAXBIT))

    def _advance(self, count: int) -> np.ndarray:
        """The next `count` points as integers below 2**MAXBIT: each differs from the one before by the direction of one bit, the lowest
        zero of its number."""
        numbers = np.arange(self.num_generated, self.num_generated + count)
        points = np.empty((count, self.dimension), np.int64)
        if count == 0:
            return points
        before = numbers[numbers > 0] - 1
        lowest_zero = np.log2(~before & before + 1).astype(np.int64)
        points[:] = 0
        points[numbers > 0] = self._state[:, lowest_zero].T
        points[0] ^= self._last
        np.bitwise_xor.accumulate(points, axis=0, out=points)
        self._last = points[-1].copy()
        self.num_generated += count
        return points

    def draw(self, n: int = 1, out=None, dtype=None):
        """The next `n` points, in `dtype` (the default dtype), or in `out`."""
        dtype = dtype or torch.get_default_dtype()
        points = torch.from_numpy(self._advance(n)).to(dtype) * 2.0 ** -self.MAXBIT
        return points if out is None else out.resize_(points.shape).copy_(points)

    def draw_base2(self, m: int, out=None, dtype=None):
        """The next 2**m points; ValueError if their total number would not be a power of 2, for which alone they are balanced."""
        count = 2 ** m
        total = self.num_generated + count
        if total & (total - 1):
            raise ValueError("The balance properties of Sobol' points require n to be a power of 2. "
                             f"{self.num_generated} points have been previously generated, then: n={self.num_generated}+2**{m}={total}. "
                             "If you still want to do this, please use 'SobolEngine.draw()' instead.")
        return self.draw(count, out, dtype)

    def reset(self) -> SobolEngine:
        """Back to the first point."""
        self._last = self.shift.numpy().copy()
        self.num_generated = 0
        return self

    def fast_forward(self, n: int) -> SobolEngine:
        """Skip `n` points."""
        self._advance(n)
        return self

    def __repr__(self) -> str:
        options = [f"dimension={self.dimension}"]
        options += ["scramble=True"] * self.scramble + [f"seed={self.seed}"] * (self.seed is not None)
        return f"SobolEngine({', '.join(options)})"
