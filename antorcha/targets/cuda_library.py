"""Contractions that a library can do: operands and result plain matrices, nothing after the sum but a cast and a bias."""

from __future__ import annotations

from ..loops.ir import Contraction, Op
from ..runtime.cublas import ALIGNED, TYPES, Operand, Product
from .cuda_mma import loaded
from .formula import evaluate

LEAST = 1 << 18     # multiplications worth a call


def product_of(kernel, words) -> tuple[Product, list] | None:
    """(the product, [(slot, bytes further on) of A, B, C and the bias]) that a contraction's kernel computes for these arguments; None
    if it is none that the library knows."""
    c: Contraction = kernel.contraction
    if any(len(dims) > 1 for dims in (c.batch, c.m, c.n, c.k)) or len(c.body) != 1 or c.body[0].kind != "store":
        return None
    sizes = tuple(evaluate(dims[0][1], words) if dims else 1 for dims in (c.batch, c.m, c.n, c.k))
    kind = kernel.program.slots[c.body[0].attr].dtype
    value = _unrounded(c.body[0].args[1], kind)
    bias = None
    if value is not None and value.kind == "add":
        value, bias = _with_bias(*(_unrounded(x) for x in value.args))
    if sizes[0] * sizes[1] * sizes[2] * sizes[3] < LEAST or value is None or value.kind != "value" or kind.code not in TYPES:
        return None
    a, b = _matrix(c.a, c, c.m, words), _matrix(c.b, c, c.n, words)
    out = _matrix(Op("load", kind, (c.body[0].args[0],), c.body[0].attr), c, c.m, words, c.n)
    added = _vector(bias, c.n, words, kind.code) if bias is not None else (0, None)
    if a is None or b is None or out is None or added is None or a[0].type != b[0].type or not _sizes_fit(a[0].type, out[0].type, c):
        return None
    return Product(sizes, a[0], b[0], out[0], kernel.rounded and a[0].type == "f32", added[0]), [a[1], b[1], out[1], added[1]]


def _sizes_fit(operands: str, result: str, c: Contraction) -> bool:
    """Whether the library multiplies such operands into such a result, with our sums."""
    return c.dtype.code == ("f64" if operands == "f64" else "f32") and result in ((operands, "f32") if operands != "f64" else ("f64",))


def _unrounded(e: Op, result=None) -> Op | None:
    """A floating point value before it was widened, or rounded to the dtype of the result; None if it was rounded to another."""
    while e.kind == "cast":
        if e.args[0].dtype.kind != "f" or e.dtype.itemsize < e.args[0].dtype.itemsize and e.dtype is not result:
            return None
        e = e.args[0]
    return e


def _with_bias(x: Op | None, y: Op | None) -> tuple[Op | None, Op | None]:
    if x is None or y is None:
        return None, None
    if x.kind == "load":
        x, y = y, x
    return (x, y) if y.kind == "load" else (None, None)


def _linear(offset: Op, words) -> tuple[dict[str, int], int] | None:
    """(the step of each index, what is added) of an offset."""
    steps: dict[str, int] = {}
    rest, stack = 0, [offset]
    while stack:
        term = stack.pop()
        if term.kind == "add":
            stack.extend(term.args)
        elif term.kind == "index":
            steps[term.attr] = steps.get(term.attr, 0) + 1
        elif term.kind == "mul" and term.args[0].kind == "index" and term.args[1].kind in ("arg", "const"):
            steps[term.args[0].attr] = steps.get(term.args[0].attr, 0) + evaluate(term.args[1], words)
        elif term.kind in ("arg", "const"):
            rest += evaluate(term, words)
        else:
            return None
    return steps, rest


def _matrix(operand: Op, c: Contraction, rows: tuple, words, columns: tuple | None = None):
    """(an Operand, (slot, bytes)) of a load whose lines run along k (or `columns`) or along its rows; None otherwise."""
    load, along = loaded(operand), columns or c.k
    if load.kind != "load" or load.dtype.code not in TYPES:
        return None
    found = _linear(load.args[0], words)
    if found is None:
        return None
    steps, rest = found
    by_row, by_k = ((steps.get(dims[0][0], 0) if evaluate(dims[0][1], words) > 1 else 0) for dims in (rows, along))
    sizes = [evaluate(dims[0][1], words) for dims in (rows, along)]
    batch = steps.get(c.batch[0][0], 0) if c.batch else 0
    place = (load.attr, rest * load.dtype.itemsize)
    aligned = _alignment(words[place[0]] + place[1])
    if by_k == 1 or sizes[1] == 1:
        line = by_row or sizes[1]
        return (Operand(load.dtype.code, line, batch, True, aligned), place) if line >= sizes[1] else None
    if by_row == 1 and columns is None:
        return (Operand(load.dtype.code, by_k, batch, False, aligned), place) if by_k >= sizes[0] else None
    return None


def _alignment(address: int) -> int:
    """The largest power of two up to `ALIGNED` that divides an address."""
    return min(ALIGNED, address & -address) or ALIGNED


def _vector(bias: Op, n: tuple, words, kind: str):
    """(a power of two of which the address is a multiple, (slot, bytes)) of a vector of the result's type; None for anything else."""
    found = _linear(bias.args[0], words)
    if found is None or found[0] != {n[0][0]: 1} or bias.dtype.code != kind:
        return None
    place = bias.attr, found[1] * bias.dtype.itemsize
    return _alignment(words[place[0]] + place[1]), place
