"""Factorisations that NumPy does not have, in NumPy, for stacks of matrices: LU, LDL, triangular systems, the matrix exponential.

They are blocked by recursion over halves, so that most of the work is matrix products. Layouts and pivots are LAPACK's, counted
from 1. Sources: S. Toledo, "Locality of Reference in LU Decomposition with Partial Pivoting" (1997); J. R. Bunch and L. Kaufman,
"Some Stable Methods for Calculating Inertia and Solving Symmetric Linear Systems" (1977); N. J. Higham, "The Scaling and
Squaring Method for the Matrix Exponential Revisited" (2005).
"""

from __future__ import annotations

import math

import numpy as np

SMALL = 16      # rows (columns) up to which the recursion ends and they are taken one by one


def quiet(function):
    """`function` without NumPy's warnings: divisions by zero give infinities, as on any other path."""
    def silent(*args, **params):
        with np.errstate(all="ignore"):
            return function(*args, **params)
    return silent


def size(x):
    """The magnitude that LAPACK compares pivots by: |re| + |im|."""
    return np.abs(x.real) + np.abs(x.imag) if x.dtype.kind == "c" else np.abs(x)


def stacked(a):
    """`a` as (count, rows, columns), in memory of its own."""
    return np.array(a).reshape(-1, *a.shape[-2:]) if a.size else np.zeros((math.prod(a.shape[:-2]), *a.shape[-2:]), a.dtype)


def each(function, *stacks):
    """`function` of each matrix of the stacks, its results stacked."""
    found = [function(*matrices) for matrices in zip(*stacks)]
    return tuple(np.stack(results) for results in zip(*found))


# -- triangular systems -----------------------------------------------------------------------------------------

def _solve_lower(a, b, unit):
    n = a.shape[-1]
    if n > SMALL:
        h = n // 2
        top = _solve_lower(a[..., :h, :h], b[..., :h, :], unit)
        return np.concatenate([top, _solve_lower(a[..., h:, h:], b[..., h:, :] - a[..., h:, :h] @ top, unit)], -2)
    x = np.array(b)
    for i in range(n):
        if i:
            x[..., i:i + 1, :] -= a[..., i:i + 1, :i] @ x[..., :i, :]
        if not unit:
            x[..., i, :] /= a[..., i, i, None]
    return x


@quiet
def solve_triangular(a, b, upper, unit):
    """X of A X = B by substitution; the other triangle of A is not read. Turned by 180 degrees, an upper triangle is a lower
    one."""
    if upper:
        return np.flip(_solve_lower(np.flip(a, (-2, -1)), np.flip(b, -2), unit), -2)
    return _solve_lower(a, b, unit)


# -- LU ---------------------------------------------------------------------------------------------------------

def _reorder(x, order):
    """Give each matrix b of the stack x its rows in the order order[b]."""
    x[:] = x[np.arange(len(x))[:, None], order]


def _swap(x, k, p):
    """Exchange row k with row p[b] of each matrix (or column) b."""
    all_ = np.arange(len(x))
    kept = x[:, k].copy()
    x[:, k] = x[all_, p]
    x[all_, p] = kept


def _in_order(count: int, rows: int):
    return np.tile(np.arange(rows), (count, 1))


def _factor_panel(a, pivots):
    """`_factor` column by column."""
    count, m, n = a.shape
    order = _in_order(count, m)
    for k in range(n):
        pivots[:, k] = p = k + np.argmax(size(a[:, k:, k]), 1)
        _swap(a, k, p)
        _swap(order, k, p)
        top = a[:, k:k + 1, k]
        a[:, k + 1:, k] /= np.where(top == 0, 1, top)
        a[:, k + 1:, k + 1:] -= a[:, k + 1:, k:k + 1] * a[:, k:k + 1, k + 1:]
    return order


def _factor(a, pivots):
    """Replace a (count, m, n), n <= m, by its factors; the rows exchanged go to pivots (count, n), from 0. Returns the order of rows."""
    n = a.shape[2]
    if n <= SMALL:
        return _factor_panel(a, pivots)
    h = n // 2
    left, right = a[:, :, :h], a[:, :, h:]
    order = _factor(left, pivots[:, :h])
    _reorder(right, order)
    right[:, :h] = _solve_lower(left[:, :h], right[:, :h], True)
    right[:, h:] -= left[:, h:] @ right[:, :h]
    below = _factor(right[:, h:], pivots[:, h:])
    _reorder(left[:, h:], below)
    pivots[:, h:] += h
    order[:, h:] = np.take_along_axis(order[:, h:], below, 1)
    return order


@quiet
def lu_factor(a):
    """(L without its unit diagonal and U in one matrix, exchanged rows, position of the first zero pivot or 0)."""
    lead, (m, n) = a.shape[:-2], a.shape[-2:]
    k = min(m, n)
    lu, pivots = stacked(a), np.zeros((math.prod(lead), k), np.int64)
    if lu.size:
        order = _factor(lu[:, :, :k], pivots)
        if n > k:
            rest = lu[:, :, k:]
            _reorder(rest, order)
            rest[:] = _solve_lower(lu[:, :, :k], rest, True)
    zero = np.diagonal(lu, axis1=1, axis2=2) == 0
    info = np.where(zero.any(1), zero.argmax(1) + 1, 0) if k else np.zeros(len(lu), int)
    return lu.reshape(a.shape), (pivots + 1).reshape(*lead, k).astype(np.int32), info.reshape(lead).astype(np.int32)


def permutation(pivots, rows):
    """The matrix P of A = P L U."""
    exchanged = pivots.reshape(math.prod(pivots.shape[:-1]), pivots.shape[-1]) - 1
    order = _in_order(len(exchanged), rows)
    for k in range(exchanged.shape[1]):
        _swap(order, k, exchanged[:, k])
    p = np.zeros((len(order), rows, rows), np.float32)
    np.put_along_axis(p, order[:, None, :], 1, 1)
    return p.reshape(*pivots.shape[:-1], rows, rows)


# -- systems that can be singular -------------------------------------------------------------------------------

def zero_pivot(a) -> int:
    """The position of the first zero pivot of one matrix, or of the last where rounding hid it."""
    return int(lu_factor(a)[2]) or a.shape[-1]


def _attempt(routine, a, shape, *others):
    """(results of a NumPy routine, info): NaN and where its pivot vanished for each matrix that is singular."""
    try:
        return routine(a, *others), np.zeros(a.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        pass
    results, info = np.full(shape, np.nan, a.dtype), np.zeros(a.shape[:-2], np.int32)
    for i in np.ndindex(a.shape[:-2]):
        try:
            results[i] = routine(a[i], *(b[i] for b in others))
        except np.linalg.LinAlgError:
            info[i] = zero_pivot(a[i])
    return results, info


@quiet
def inv(a):
    return _attempt(np.linalg.inv, a, a.shape)


@quiet
def solve(a, b):
    return _attempt(np.linalg.solve, a, b.shape, b)


def _cholesky(a):
    """(the lower factor of one matrix, 0), or (its part that exists, the order of the first leading minor that is not
    positive)."""
    low, high = 0, len(a) + 1
    while high - low > 1:
        k = (low + high) // 2
        try:
            np.linalg.cholesky(a[:k, :k])
            low = k
        except np.linalg.LinAlgError:
            high = k
    factor = np.tril(a)
    factor[:low, :low] = np.linalg.cholesky(a[:low, :low])
    return factor, np.int32(high if high <= len(a) else 0)


def cholesky(a):
    """(the lower factors, info); only the lower triangles are read."""
    try:
        return np.linalg.cholesky(a), np.zeros(a.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        factors, info = each(_cholesky, stacked(a))
        return factors.reshape(a.shape), info.reshape(a.shape[:-2])


# -- LDL --------------------------------------------------------------------------------------------------------

ALPHA = (1 + math.sqrt(17)) / 8


def _turn(x, hermitian):
    return x.conj() if hermitian else x


def _choose_pivot(a, k, hermitian):
    """(row to exchange, rows eliminated at once) for column k of the lower triangle; (k, 0) where the column is zero."""
    n = len(a)
    diagonal = abs(a[k, k].real) if hermitian else size(a[k:k + 1, k])[0]
    below = size(a[k + 1:, k])
    if k + 1 == n or not max(diagonal, below.max()):
        return k, int(diagonal > 0)
    at = k + 1 + int(below.argmax())
    column = below.max()
    if diagonal >= ALPHA * column:
        return k, 1
    row = max(size(a[at, k:at]).max(), size(a[at + 1:, at]).max(initial=0))
    if diagonal >= ALPHA * column * (column / row):
        return k, 1
    return at, 1 if (abs(a[at, at].real) if hermitian else size(a[at:at + 1, at])[0]) >= ALPHA * row else 2


def _exchange(a, k, p, hermitian):
    """Exchange rows and columns k < p of the trailing matrix, of which the lower triangle is kept."""
    a[p + 1:, [k, p]] = a[p + 1:, [p, k]]
    between = a[k + 1:p, k].copy()
    a[k + 1:p, k] = _turn(a[p, k + 1:p], hermitian)
    a[p, k + 1:p] = _turn(between, hermitian)
    a[p, k] = _turn(a[p, k], hermitian)
    a[[k, p], [k, p]] = a[[p, k], [p, k]]


def _ldl(a, hermitian):
    n, k, info = len(a), 0, 0
    a, pivots = np.tril(a), np.zeros(n, np.int32)
    while k < n:
        p, step = _choose_pivot(a, k, hermitian)
        if not step:
            info, step = info or k + 1, 1
            pivots[k] = k + 1
            k += 1
            continue
        last = k + step - 1
        if p != last:
            _exchange(a, last, p, hermitian)
            if step == 2:
                a[[last, p], k] = a[[p, last], k]
        block = a[k:k + step, k:k + step]
        whole = np.tril(block) + _turn(np.tril(block, -1), hermitian).T
        columns = a[k + step:, k:k + step]
        factors = columns @ np.linalg.inv(whole)
        a[k + step:, k + step:] -= np.tril(factors @ _turn(columns, hermitian).T)
        a[k + step:, k:k + step] = factors
        pivots[k:k + step] = p + 1 if step == 1 else -(p + 1)
        k += step
    return a, pivots, np.int32(info)


@quiet
def ldl_factor(a, hermitian):
    """(L below the blocks of D, exchanged rows, info): A = L D L^T (L^H); a negative pivot marks a block of two rows."""
    if not a.size:
        return a, np.zeros(a.shape[:-1], np.int32), np.zeros(a.shape[:-2], np.int32)
    ld, pivots, info = each(lambda m: _ldl(m, hermitian), stacked(a))
    return ld.reshape(a.shape), pivots.reshape(a.shape[:-1]), info.reshape(a.shape[:-2])


def _ldl_solve(a, pivots, b, hermitian):
    n, x = len(a), np.array(b)
    steps, k = [], 0
    while k < n:
        steps.append((k, 1 if pivots[k] > 0 else 2))
        k += steps[-1][1]
    for k, step in steps:
        rows, p = [k + step - 1, abs(int(pivots[k])) - 1], slice(k, k + step)
        x[rows] = x[rows[::-1]]
        x[k + step:] -= a[k + step:, p] @ x[p]
        block = np.tril(a[p, p])
        x[p] = np.linalg.inv(block + _turn(np.tril(block, -1), hermitian).T) @ x[p]
    for k, step in reversed(steps):
        rows, p = [k + step - 1, abs(int(pivots[k])) - 1], slice(k, k + step)
        x[p] -= _turn(a[k + step:, p], hermitian).T @ x[k + step:]
        x[rows] = x[rows[::-1]]
    return (x,)


@quiet
def ldl_solve(ld, pivots, b, hermitian):
    """X of A X = B for the factors of `ldl_factor`."""
    if not b.size:
        return b
    n = ld.shape[-1]
    return each(lambda *one: _ldl_solve(*one, hermitian), stacked(ld), pivots.reshape(-1, n), stacked(b))[0].reshape(b.shape)


# -- the exponential --------------------------------------------------------------------------------------------

# numerator of Pade's approximation of exp with degrees (13, 13), and the norm up to which it is exact in double precision
PADE = (64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600, 670442572800,
        33522128640, 1323241920, 40840800, 960960, 16380, 182, 1)
REACH = 5.371920351148152


@quiet
def matrix_exp(a):
    """exp(A) by Pade's approximation of exp(A / 2^s), squared s times; in double precision."""
    wide = np.result_type(a.dtype, np.float64)
    n = a.shape[-1]
    if not a.size:
        return a
    a = stacked(a.astype(wide)).reshape(a.shape)
    norm = np.abs(a).sum(-2).max(-1)
    halvings = np.maximum(0, np.ceil(np.log2(np.where(np.isfinite(norm) & (norm > 0), norm, 1) / REACH))).astype(int)
    x = a / np.exp2(halvings)[..., None, None]
    one = np.eye(n, dtype=wide)
    x2 = x @ x
    x4 = x2 @ x2
    x6 = x4 @ x2
    c = PADE
    odd = x @ (x6 @ (c[13] * x6 + c[11] * x4 + c[9] * x2) + c[7] * x6 + c[5] * x4 + c[3] * x2 + c[1] * one)
    even = x6 @ (c[12] * x6 + c[10] * x4 + c[8] * x2) + c[6] * x6 + c[4] * x4 + c[2] * x2 + c[0] * one
    result = solve(even - odd, even + odd)[0]
    for k in range(int(halvings.max())):
        result = np.where((k < halvings)[..., None, None], result @ result, result)
    return result
