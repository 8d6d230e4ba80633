"""Random numbers made one at a time, each from as many uniform numbers as chance wants (rejection sampling).

The rules take `draw`, which gives the next uniform number, and the parameters of one number.
"""

from __future__ import annotations

import math

import numpy as np

AHEAD = 1024    # uniforms drawn at once


class Draws:
    """Uniform numbers, one at a time. `close` leaves the generator as if it had drawn exactly these."""

    def __init__(self, generator):
        self.generator, self.before, self.used, self.ahead = generator, generator._words.saved(), 0, iter(())

    def uniform(self) -> float:
        value = next(self.ahead, None)
        if value is None:
            self.ahead = iter(self.generator.uniform(AHEAD, np.float64).tolist())
            value = next(self.ahead)
        self.used += 1
        return value

    def close(self) -> None:
        self.generator._words.restore(self.before)
        self.generator.words(2 * self.used)


def sample(generator, rule, *parameters) -> np.ndarray:
    """`rule(draw, ...)` for each row of the parameters, float64."""
    draw = Draws(generator)
    try:
        return np.array([rule(draw, *row) for row in zip(*(p.tolist() for p in parameters))], np.float64)
    finally:
        draw.close()


def poisson(draw: Draws, rate: float) -> float:
    """A Poisson number: Knuth's product of uniforms for small rates, Hoermann's PTRS (1993) from 10 on."""
    if rate < 0 or rate != rate:
        raise RuntimeError(f"poisson: expected rates of 0 or more; received {rate}")
    if rate < 10:
        count, product, limit = 0, draw.uniform() if rate else 0.0, math.exp(-rate)
        while product > limit:
            count, product = count + 1, product * draw.uniform()
        return float(count)
    b = 0.931 + 2.53 * math.sqrt(rate)
    a = -0.059 + 0.02483 * b
    inverse_alpha, v_r = 1.1239 + 1.1328 / (b - 3.4), 0.9277 - 3.6224 / (b - 2)
    while True:
        u, v = draw.uniform() - 0.5, draw.uniform()
        distance = 0.5 - abs(u)
        k = math.floor((2 * a / distance + b) * u + rate + 0.43)
        if distance >= 0.07 and v <= v_r:
            return float(k)
        if k < 0 or (distance < 0.013 and v > distance):
            continue
        accepted = math.log(v) + math.log(inverse_alpha) - math.log(a / distance ** 2 + b)
        if accepted <= -rate + k * math.log(rate) - math.lgamma(k + 1):
            return float(k)


def binomial(draw: Draws, count: float, chance: float) -> float:
    """How many of `count` trials succeed: by gaps between successes where few do, else Hoermann's BTRS (1993)."""
    if count != count or chance != chance:
        return math.nan
    if count <= 0 or chance <= 0:
        return 0.0
    if chance >= 1:
        return count
    if chance > 0.5:
        return count - _rarer(draw, count, 1.0 - chance)
    return _rarer(draw, count, chance)


def _rarer(draw: Draws, count: float, chance: float) -> float:
    """`binomial` for a chance of at most a half."""
    return _transformed(draw, count, chance) if count * chance >= 10 else _gaps(draw, count, chance)


def _gaps(draw: Draws, count: float, chance: float) -> float:
    """The distances between successes are geometric numbers."""
    place, successes, scale = 0.0, 0, math.log1p(-chance)
    while True:
        u = draw.uniform()
        place += math.ceil(math.log(u) / scale) if u else math.inf
        if place > count:
            return float(successes)
        successes += 1


def _transformed(draw: Draws, count: float, chance: float) -> float:
    deviation = math.sqrt(count * chance * (1 - chance))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * chance
    alpha, v_r = (2.83 + 5.1 / b) * deviation, 0.92 - 4.2 / b
    mode, odds = math.floor((count + 1) * chance), math.log(chance / (1 - chance))
    while True:
        u, v = draw.uniform() - 0.5, draw.uniform()
        distance = 0.5 - abs(u)
        k = math.floor((2 * a / distance + b) * u + count * chance + 0.5)
        if distance >= 0.07 and v <= v_r:
            return float(k)
        if not 0 <= k <= count:
            continue
        ratio = (math.lgamma(mode + 1) + math.lgamma(count - mode + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
                 + (k - mode) * odds)      # log of the probability of k over that of the mode
        if v == 0 or math.log(v * alpha / (a / distance ** 2 + b)) <= ratio:
            return float(k)
