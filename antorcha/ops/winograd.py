"""Convolutions of 3 x 3 places by fewer multiplications: Winograd's F(2 x 2, 3 x 3), for many channels.

Tiles of 2 x 2 places of the result meet 4 x 4 of the input, which they share with the tiles beside them. The input's, the kernel and what
comes of them are transformed along both dimensions by

    B' = 1  0 -1  0      G = 1    0    0      A' = 1  1  1  0
         0  1  1  0          1/2  1/2  1/2         0  1 -1 -1
         0 -1  1  0          1/2 -1/2  1/2
         0  1  0 -1          0    0    1

    y = A' ((G w G') * (B' x B)) A

and each of the 16 places between is a product of tiles with weights, over the channels: 16 multiplications in place of 36. The derivative
by the input is another such convolution; that by the kernel sums the same products over tiles.

See Winograd, "Arithmetic Complexity of Computations" (SIAM, 1980), and Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks"
(arXiv:1509.09308).

Sums of two elements and halves lose next to nothing: errors are those of direct sums. But an element enters the places of all tiles that
read it, some of which it has nothing to do with: there it is taken off again, which leaves the rounding of what is larger, and nothing of
infinity but NaN.

Some samples at a time are transformed, multiplied and transformed back, so that what is between stays in caches. Channels lie side by side
there, and are what is computed in vectors.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

from ..base import config
from ..base import dtype as dt
from ..graph.node import View, dense, ordered
from ..graph.node import view as make_view
from ..graph.recurrence import Part
from ..graph.tape import state
from .contraction import contract
from .factory import BLANK, full_of
from .joining import stack
from .record import core
from .recurrence import by_parts
from .view import slice_view, viewed
from .windows import surround

SIZE = 3, 3
BESIDES = 400       # multiplications that take as long as transforming a tile of one channel, there or back
OF_SUMS = 520       # the same where the products are summed over tiles
NARROW = 32         # fewest channels
ONCE, AGAIN = 25, 10        # and as transforming one number of the weights, and as packing it, which each part does
TILES = 64          # of a part, at least where that can be
FEWEST = 16         # with fewer, direct sums are faster
PARTS = 4, 256      # fewest and most
ENOUGH = 8          # with fewer, channels are divided where that can be
COLUMNS = 64        # of a part, at least, if they are
SUMS = 1 << 23      # elements in all partial sums of a weight's gradient, but for so many parts as are enough
NEW = 6             # shapes taken at their first meeting,
AGAIN_FOR_NEW = 8   # and another one for so many meetings of such a shape again
SHAPES = 4096       # remembered that were not
WEIGHT_PARTS = 16   # most parts of the weights, when these are transformed


def pays(x, v: View, channels: int, besides: int = BESIDES) -> bool:
    """Whether a convolution of windows `v` (N, C, *P, *K) of `x` to so many channels, or its derivative by the weight, takes less time so
    than by direct sums."""
    if config.direct or len(v.shape) != 6 or v.shape[4:] != SIZE or v.strides[2:4] != v.strides[4:] or x._meta.dtype is not dt.float32 \
            or state.rewriter is not None or x._meta.device not in (None, "cpu"):
        return False
    samples, c, height, width = v.shape[:4]
    if min(c, channels) < NARROW:
        return False
    tiles, cut = samples * math.prod(_tiled(height, width)), _cut(samples, height, width, channels)
    work = tiles * (16 * c * channels + besides * (c * cut.groups + channels)) + 16 * c * channels * (ONCE + cut.pieces * AGAIN)
    return cut.parts > 0 and work < 9 * samples * height * width * c * channels and _met.setdefault((c, channels), _Met()).takes(v.shape)


class _Met:
    """The shapes that convolutions between two numbers of channels were met in. What is recorded for a new one takes as long to plan as it
    saves in ten calls: a program that gives each image another size is left to direct sums. Of a shape the answer stays the same, and
    so do the bits of results."""

    def __init__(self):
        self.credit = NEW
        self.taken: dict = {}       # shape -> in which recording it was asked for last
        self.left: set = set()

    def takes(self, shape: tuple) -> bool:
        last = self.taken.get(shape)
        if last is None:
            if shape in self.left or self.credit < 1 or len(self.left) >= SHAPES:
                if len(self.left) < SHAPES:
                    self.left.add(shape)
                return False
            self.credit -= 1
        elif last < state.flushes:
            self.credit += 1 / AGAIN_FOR_NEW
        self.taken[shape] = state.flushes
        return True


_met: dict[tuple, _Met] = {}


class _Cut(NamedTuple):
    """What a part is: so many `samples`, or a band of `lines` of one, and one of some `groups` of the results' channels. `pieces`: into how
    many the samples are cut, 0 if that does not go well."""

    pieces: int
    samples: int = 1
    lines: int = 0
    groups: int = 1

    @property
    def parts(self) -> int:
        return self.pieces * self.groups

    def of_input(self, shape: tuple) -> Part:
        """The parts of (N, in, P + 2, Q + 2), which have two lines more than their own."""
        return Part(self._places(shape), make_view((self.samples, shape[1], self.lines + 2, shape[3]), dense(shape).strides))

    def of_result(self, shape: tuple) -> Part:
        """The parts of (N, out, P, Q)."""
        strides, channels = dense(shape).strides, shape[1] // self.groups
        steps = (*self._places(shape), (1, self.groups, channels * strides[1]))
        return Part(steps, make_view((self.samples, channels, self.lines, shape[3]), strides))

    def _places(self, shape: tuple) -> tuple:
        bands = self.pieces * self.samples // shape[0]
        return (bands * self.groups, shape[0], self.samples * dense(shape).strides[0]), (self.groups, bands, self.lines * shape[3])

    def of_rows(self, shape: tuple) -> Part:
        """The parts of (pieces, out, ...)."""
        whole, part = dense(shape), dense((1, shape[1] // self.groups, *shape[2:]))
        return Part(((self.groups, self.pieces, whole.strides[0]), (1, self.groups, part.numel)), part)

    def of_columns(self, shape: tuple) -> Part:
        """Those of (..., out), which the pieces of the samples share."""
        columns = shape[-1] // self.groups
        return Part(((1, self.groups, columns),), make_view((*shape[:-1], columns), dense(shape).strides))


def _cut(samples: int, height: int, width: int, results: int, most: int = PARTS[1]) -> _Cut:
    """The smallest parts of at least `TILES` tiles, if there are enough of them, and not too many. Few are divided by their channels, or
    larger ones, whichever takes less time: each part transforms its tiles, and each piece of the samples packs the weights."""
    down, across = _tiled(height, width)
    most = max(most, ENOUGH)
    cuts = [_Cut(samples * down // n, 1, 2 * n) for n in range(1, down) if down % n == 0] if height % 2 == 0 else []
    cuts += [_Cut(p, samples // p, height) for p in range(min(samples, most), 0, -1) if samples % p == 0]
    sizes = [(cut.samples * -(-cut.lines // 2) * across, cut) for cut in cuts if cut.pieces <= most]
    large = [cut for tiles, cut in sizes if tiles >= TILES] or [cut for tiles, cut in sizes[::-1] if tiles >= FEWEST]
    if not large or large[0].pieces >= ENOUGH:
        return large[0] if large else _Cut(0)

    def time(cut: _Cut) -> int:
        return samples * down * across * BESIDES * cut.groups + 16 * results * AGAIN * cut.pieces

    groups = [g for g in (1, 2, 4, 8) if results % g == 0 and results // g >= COLUMNS]
    found = [cut._replace(groups=g) for cut in large for g in groups if ENOUGH <= cut.pieces * g <= most]
    return min(found, key=time) if found else large[0] if large[0].pieces >= PARTS[0] else _Cut(0)


def convolve(x, v: View, weight, w: View):
    """Sums of windows v (N, in, P, Q, 3, 3) of `x` with weights w (out, in, 3, 3) of `weight`: (N, out, P, Q)."""
    (samples, channels, height, width), results = v.shape[:4], w.shape[0]
    kernels = viewed(weight, ordered(w, (1, 0, 2, 3))).contiguous()
    (kernels,) = by_parts(_transforming, [kernels], [], _divisor(channels))
    x, cut, shape = _source(x, v), _cut(samples, height, width, results), (samples, results, height, width)
    given = [(x, cut.of_input(x.shape)), (kernels, cut.of_columns(kernels.shape))]
    return by_parts(_convolving(cut.lines, width), given, [], cut.parts, [(shape, cut.of_result(shape))])[0]


def weigh(x, v: View, g):
    """Sums over samples and places of windows v (N, in, P, Q, 3, 3) of `x` with g (N, out, P, Q): (out, in, 3, 3)."""
    (samples, channels, height, width), results = v.shape[:4], g.shape[1]
    x, g, tiles = _source(x, v), g.contiguous(), samples * math.prod(_tiled(height, width))
    if tiles * (channels + results) > ENOUGH // 2 * channels * results:
        cut = _cut(samples, height, width, results, SUMS // (16 * channels * results))
        shape = cut.pieces, results, 16, channels
        given = [(x, cut.of_input(x.shape)), (g, cut.of_result(g.shape))]
        sums = by_parts(_weighing, given, [], cut.parts, [(shape, cut.of_rows(shape))])[0].sum(0)
    else:
        cut = _cut(samples, height, width, results)._replace(groups=1)
        a, b = by_parts(_meeting, [(x, cut.of_input(x.shape)), (g, cut.of_result(g.shape))], [], cut.parts)
        sums = contract(a, ordered(a._meta.view, (1, 2, 0)), b, ordered(b._meta.view, (1, 2, 0)), 1, 1, 1, 1)
        sums = sums.transpose(0, 1).contiguous()
    return by_parts(_gathering, [sums], [], _divisor(results))[0]


def _divisor(length: int) -> int:
    return next(p for p in range(min(length, WEIGHT_PARTS), 0, -1) if length % p == 0)


def _source(x, v: View):
    """What the windows are of: (N, C, P + 2, Q + 2)."""
    whole = make_view((*v.shape[:2], v.shape[2] + 2, v.shape[3] + 2), v.strides[:4], v.offset)
    return viewed(x, whole).contiguous()


@functools.cache
def _convolving(height: int, width: int):
    """What is done with some samples: (n, in, P + 2, Q + 2) to (n, out, P, Q)."""
    def step(parts, states, every):
        (x, kernels), (down, across) = parts, _tiled(height, width)
        products = [_product(t, kernels.select(1, k).t()) for k, t in enumerate(_tiles(x, down, across))]
        y = _untiled(products, x.shape[0], down, across)
        return (), [core.contiguous(y.permute(0, 3, 1, 2)[:, :, :height, :width])]
    return step


def _weighing(parts, states, every):
    """(n, in, P + 2, Q + 2), (n, out, P, Q) to sums (1, out, 16, in)."""
    sums = [_product(a.t(), b.t()) for a, b in zip(*_factors(*parts))]
    return (), [stack(sums, 1).unsqueeze(0)]


def _meeting(parts, states, every):
    """The same to what the sums are of: (tiles, 16, out), (tiles, 16, in)."""
    return (), [stack(t, 1) for t in _factors(*parts)]


def _factors(x, g) -> tuple[list, list]:
    down, across = _tiled(*g.shape[2:])
    return _spread(g, down, across), _tiles(x, down, across)


def _product(a, b):
    """a b' of (m, k), (n, k)."""
    return contract(a, a._meta.view, b, b._meta.view, 0, 1, 1, 1)


def _tiled(height: int, width: int) -> tuple[int, int]:
    return -(-height // 2), -(-width // 2)


def _with_channels_last(x, height: int, width: int):
    """(n, C, H, W) as (n, height + 1, width, C), filled up with zeros. A copy alone would not be made but read across, as often as used."""
    return surround(x.permute(0, 2, 3, 1), ((0, height + 1 - x.shape[2]), (0, width - x.shape[3]), (0, 0)), 0)


def _places(x, i: int, j: int, down: int, across: int):
    """Every other place from (i, j) on of (n, H, W, C)."""
    return x[:, i:i + 2 * down - 1:2, j:j + 2 * across - 1:2]


def _tiles(x, down: int, across: int):
    """B' x B of every tile: 16 of (tiles, C)."""
    x = _with_channels_last(x, 2 * down + 2, 2 * across + 2)
    columns = [_differences(*[_places(x, i, j, down, across) for i in range(4)]) for j in range(4)]
    return _flat([u for a in range(4) for u in _differences(*[columns[j][a] for j in range(4)])])


def _spread(g, down: int, across: int):
    """A g A' of every tile of a result's cotangent: 16 of (tiles, C)."""
    g = _with_channels_last(g, 2 * down, 2 * across)
    columns = [_both(*[_places(g, i, j, down, across) for i in range(2)]) for j in range(2)]
    return _flat([u for a in range(4) for u in _both(*[columns[j][a] for j in range(2)])])


def _untiled(products, n: int, down: int, across: int):
    """A' m A of every tile, side by side: 16 of (tiles, C) to (n, 2 down, 2 across, C)."""
    c = products[0].shape[1]
    m = [core.reread(t, (n, down, across, c)) for t in products]
    columns = [_sums(*[m[4 * a + b] for a in range(4)]) for b in range(4)]
    whole = dense((n, 2 * down, 2 * across, c))
    y = full_of(whole.shape, 0.0, m[0]._meta.dtype, m[0]._meta.device, BLANK)
    for i in range(2):
        for j, u in enumerate(_sums(*[columns[b][i] for b in range(4)])):
            y = core.overwrite_region(y, slice_view(slice_view(whole, 1, i, 2 * down, 2), 2, j, 2 * across, 2), u)
    return y


def _transforming(parts, states, every):
    """G w G' of kernels (in, out, 3, 3): (in, 16, out)."""
    (w,) = parts
    columns = [_thirds(*[w[:, :, i, j] for i in range(3)]) for j in range(3)]
    return (), [stack([u for a in range(4) for u in _thirds(*[columns[j][a] for j in range(3)])], 1)]


def _gathering(parts, states, every):
    """G' u G of sums (out, 16, in): (out, in, 3, 3)."""
    (u,) = parts
    rows = [_summed_thirds(*[u[:, 4 * a + b] for a in range(4)]) for b in range(4)]
    places = stack([t for i in range(3) for t in _summed_thirds(*[rows[b][i] for b in range(4)])], -1)
    return (), [core.reread(places, (*places.shape[:2], *SIZE))]


def _flat(parts: list) -> list:
    n, down, across, c = parts[0].shape
    return [core.reread(t.contiguous(), (n * down * across, c)) for t in parts]


# -- along one dimension ----------------------------------------------------------------------------------------

def _differences(a, b, c, d):
    """B' x."""
    return a - c, b + c, c - b, b - d


def _thirds(a, b, c):
    """G w."""
    outer = (a + c) * 0.5
    half = b * 0.5
    return a, outer + half, outer - half, c


def _summed_thirds(a, b, c, d):
    """G' u."""
    return a + (b + c) * 0.5, (b - c) * 0.5, (b + c) * 0.5 + d


def _sums(a, b, c, d):
    """A' m."""
    return a + b + c, b - c - d


def _both(a, b):
    """A g."""
    return a, a + b, a - b, -b
