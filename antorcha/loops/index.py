"""Affine index maps: reading a value through one view of another.

A kernel runs over a *domain*, a tuple of extents without any 1. Every value it touches is read through a View whose
shape is the domain. If a node with shape P is computed inside the kernel at `v` (a View of the domain over the node's
flat value), its own input read through `w` (a View of shape P) is read through `compose(v, w)`. This is possible when
walking the domain never carries from one dimension of P into another, unless `w` is regular across the two.
"""

from __future__ import annotations

from .size import likely, sure
from .view import View, dense, ordered, row_major, same, view


def squeeze(v: View) -> View:
    """The same elements without dimensions of extent 1."""
    found = v.memo.get("squeezed")
    if found is None:
        kept = [d for d, n in enumerate(v.shape) if not sure(n, 1)]
        found = v.memo["squeezed"] = v if len(kept) == len(v.shape) else ordered(v, kept)
    return found


def domain_of(shape: tuple) -> tuple:
    return tuple([n for n in shape if not sure(n, 1)])


def _regular(w: View) -> tuple:
    """w with dimensions merged where it is regular: (extent, step in the flat index of w's shape, stride) for each."""
    found = w.memo.get("regular")
    if found is None:
        dims: list[list[int]] = []
        for n, t in zip(w.shape, w.strides):
            if sure(n, 1):
                continue
            if dims and dims[-1][1] == t * n:
                dims[-1] = [dims[-1][0] * n, t]
            else:
                dims.append([n, t])
        steps = row_major(tuple(n for n, _ in dims))
        found = w.memo["regular"] = tuple((n, step, t) for (n, t), step in zip(dims, steps))
    return found


def compose(v: View, w: View) -> View | None:
    """The view of v's shape that reads at w[v[i]], or None where that is not affine."""
    if w.dense:
        return v
    key = ("compose", w)
    found = v.memo.get(key, key)
    if found is key:
        found = v.memo[key] = _compose(v, w)
    return found


def _compose(v: View, w: View) -> View | None:
    dims = _regular(w)
    if not dims:
        return view(v.shape, (0,) * len(v.shape), w.offset)
    if len(dims) == 1:
        t = dims[0][2]
        return view(v.shape, tuple(s * t for s in v.strides), w.offset + v.offset * t)
    low, offset, rest = [], w.offset, v.offset
    for _, step, t in dims:
        c, rest = divmod(rest, step)
        low.append(c)
        offset += c * t
    high = list(low)
    strides = []
    for n, s in zip(v.shape, v.strides):
        rest, sign, stride = abs(s), (1 if s >= 0 else -1), 0
        for d, (_, step, t) in enumerate(dims):
            c, rest = divmod(rest, step)
            if not sure(c, 0):
                stride += sign * c * t
                if sign > 0:
                    high[d] += c * (n - 1)
                else:
                    low[d] -= c * (n - 1)
        strides.append(stride)
    for (extent, _, _), a, b in zip(dims, low, high):
        if a < 0 or b >= extent:
            return None
    return view(v.shape, tuple(strides), offset)


def split(v: View, domain: tuple) -> View | None:
    """v over a domain that refines v's shape (each extent a product of neighbours there); None if it does not."""
    if v.shape == domain:
        return v
    key = ("split", domain)
    found = v.memo.get(key, key)
    if found is key:
        found = v.memo[key] = _split(v, domain)
    return found


def _split(v: View, domain: tuple) -> View | None:
    strides: list[int] = []
    position = len(domain)
    for n, t in zip(reversed(v.shape), reversed(v.strides)):
        size = 1
        while size < n:
            position -= 1
            if position < 0:
                return None
            strides.append(t * size)
            size *= domain[position]
        if size != n:
            return None
    return view(domain, tuple(reversed(strides)), v.offset) if position == 0 else None


@likely(lambda shapes, of: [tuple(map(of, shape)) for shape in shapes])
def refine(a: tuple, b: tuple) -> tuple | None:
    """The coarsest domain that refines both (of equal size), or None: (6, 4) and (3, 8) give (3, 2, 4)."""
    if a == b:
        return a
    found: list[int] = []
    x, y = list(a), list(b)
    n = m = 1
    while True:
        while n == 1 and x:
            n = x.pop()
        while m == 1 and y:
            m = y.pop()
        if n == 1 and m == 1:
            return tuple(reversed(found))
        small, large = (n, m) if n <= m else (m, n)
        if small == 1 or large % small:
            return None
        found.append(small)
        n, m = (1, m // n) if n <= m else (n // m, 1)


def bijective(v: View, numel: int) -> bool:
    """Whether v visits each of the value's elements exactly once."""
    if v.numel != numel:
        return False
    if v.dense:
        return True
    found = v.memo.get("bijective")
    if found is None:
        step, found = 1, v.offset == 0
        for t, n in sorted((t, n) for n, t in zip(v.shape, v.strides) if not sure(n, 1)):
            if t != step:
                found = False
                break
            step *= n
        v.memo["bijective"] = found
    return found


@likely(lambda views, of: [view(tuple(map(of, v.shape)), tuple(map(of, v.strides)), of(v.offset)) for v in views])
def inverse(v: View, w: View) -> View | None:
    """x over v's shape with compose(x, w) = v: where the node that reads `w` stands when its input is read at `v`.

    w must read each element of its source once (a permutation of dimensions); v's shape may need refining first.
    """
    steps = row_major(w.shape)
    dims = sorted(((t, n, step) for n, t, step in zip(w.shape, w.strides, steps) if n != 1), reverse=True)
    strides = []
    for n, t in zip(v.shape, v.strides):
        for stride, extent, step in dims:
            if stride <= t:
                if t % stride or t // stride * (n - 1) >= extent:
                    return None
                strides.append(t // stride * step)
                break
        else:
            return None
    x = view(v.shape, tuple(strides), 0)
    return x if compose(x, w) is v else None


def last_coordinate(shape: tuple) -> View:
    """The coordinate along the last dimension, as an index map."""
    return view(shape, (0,) * (len(shape) - 1) + (1,) if shape else ())


def merge(domain: tuple, views: list[View], walls: tuple = ()) -> list[list[int]]:
    """Groups of neighbouring dimensions of the domain in which every view is regular. `walls`: positions never merged across."""
    groups: list[list[int]] = []
    for d, n in enumerate(domain):
        if groups and d not in walls and all(v.strides[d - 1] == v.strides[d] * n for v in views):
            groups[-1].append(d)
        else:
            groups.append([d])
    return groups


def coarse(v: View, groups: list[list[int]]) -> View:
    """v over the merged dimensions."""
    shape, strides = [], []
    for g in groups:
        n = 1
        for d in g:
            n *= v.shape[d]
        shape.append(n)
        strides.append(v.strides[g[-1]])
    return view(tuple(shape), tuple(strides), v.offset)


__all__ = ["bijective", "coarse", "compose", "dense", "domain_of", "inverse", "last_coordinate", "merge", "refine", "row_major",
           "same", "split", "squeeze", "view"]
