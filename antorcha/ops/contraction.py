"""Sums of products: matmul in all its forms, linear, einsum. One family: C[b, m, n] = sum over k of A[b, m, k] B[b, n, k]."""

from __future__ import annotations

import functools

from ..base import dtype as dt
from ..base.errors import message
from ..graph.node import Static, View, dense, form, ordered
from ..graph.node import view as make_view
from ..graph.tape import state
from .parts import complex_, part_
from .record import Record, broadcast_shapes, broadcast_view, check_tensor, computable, core, meta, operator, rounded
from .view import select_view

Tensor = "Tensor"
CONTRACT = Record("contraction", "contraction")


def contract(a, va: View, b, vb: View, nb: int, nm: int, nn: int, nk: int, wide: bool = False):
    """Record one contraction. va: shape b + m + k, vb: b + n + k, with so many dimensions of each; the result's is b + m + n. `wide`: it
    stays in the dtype of the sums."""
    d = a._meta.dtype
    if d.kind == "c":
        return _complex_contract(a, va, b, vb, nb, nm, nn, nk)
    if state.devices:
        a, b = core.together("matmul", (a, b))
    key = ("contract", vb, nb, nm, nn, nk, d, a._meta.device, wide)
    found = va.memo.get(key)
    if found is None:
        computable("matmul", d)
        out = dense(va.shape[:nb + nm] + vb.shape[nb:nb + nn])
        left, right, sizes = _collapse(va, vb, nb, nm, nn, nk)
        shape = left.shape[:sizes[0] + sizes[1]] + right.shape[sizes[0]:sizes[0] + sizes[2]]
        kept = d.compute if wide else d
        found = va.memo[key] = (form(CONTRACT, (left, right), Static(casts=(d.compute, d.compute), dims=sizes), shape, out.numel, kept),
                                meta(out, kept, a._meta.device))
    return core.record(found[0], (a.storage.node, b.storage.node), found[1])


def _complex_contract(a, va: View, b, vb: View, nb: int, nm: int, nn: int, nk: int):
    """A B as one real contraction, over the parts of A as well, whose result has both parts: the real one of (A, iA) (B, iB) and the
    imaginary one of (A, iA) (iB, B). In float64: differences of sums lose digits."""
    which = core.arange(4)
    whole = [core.tensor_on(x.storage, meta(dense((x.storage.numel,)), x._meta.dtype, x._meta.device)) for x in (a, b)]
    left, right = (core.cast(part_(x, rows), dt.float64) for x, rows in zip(whole, (which[::2, None], which[:, None])))
    p, q = a.storage.numel, b.storage.numel
    va = make_view((*va.shape[:nb + nm], 2, *va.shape[nb + nm:]), (*va.strides[:nb + nm], p, *va.strides[nb + nm:]), va.offset)
    vb = make_view((*vb.shape[:nb], 2, *vb.shape[nb:nb + nn], 2, *vb.shape[nb + nn:]),
                   (*vb.strides[:nb], 2 * q, *vb.strides[nb:nb + nn], q, *vb.strides[nb + nn:]), vb.offset)
    parts = contract(left, va, right, vb, nb, nm, nn + 1, nk + 1)
    real, imaginary = (core.tensor_on(parts.storage, meta(select_view(parts._meta.view, nb + nm, i), dt.float64, a._meta.device))
                       for i in range(2))
    return core.cast(complex_(real, imaginary), a._meta.dtype)


def _collapse(va: View, vb: View, nb, nm, nn, nk):
    a = list(zip(va.shape, va.strides))
    b = list(zip(vb.shape, vb.strides))
    batch = [(n, s, t) for (n, s), (_, t) in zip(a[:nb], b[:nb])]
    m = [(n, s) for n, s in a[nb:nb + nm]]
    n_ = [(n, s) for n, s in b[nb:nb + nn]]
    k = [(n, s, t) for (n, s), (_, t) in zip(a[nb + nm:], b[nb + nn:])]
    batch, m, n_, k = (_join(x) for x in (batch, m, n_, k))
    na = make_view(tuple(x[0] for x in [*batch, *m, *k]), tuple(x[1] for x in [*batch, *m, *k]), va.offset)
    nb_ = make_view(tuple([x[0] for x in batch] + [x[0] for x in n_] + [x[0] for x in k]),
                    tuple([x[2] for x in batch] + [x[1] for x in n_] + [x[2] for x in k]), vb.offset)
    return na, nb_, (len(batch), len(m), len(n_), len(k))


def _join(dims):
    """(size, stride, ...) of neighbouring dimensions that step like one, joined; dimensions of size 1 dropped."""
    out: list = []
    for d in dims:
        if d[0] == 1:
            continue
        if out and all(p == d[0] * s for p, s in zip(out[-1][1:], d[1:])):
            out[-1] = (out[-1][0] * d[0], *d[1:])
        else:
            out.append(d)
    return out


def check_dtypes(what, *tensors):
    first = tensors[0]._meta.dtype
    for x in tensors:
        if x._meta.dtype is not first:
            both = [t._meta.dtype.name for t in tensors]
            common = functools.reduce(dt.promote, [t._meta.dtype for t in tensors]).name
            raise RuntimeError(message(what, "operands of one dtype", " and ".join(both),
                                       f"Convert one of them: x.to(torch.{common}). (mat1 and mat2 must have the same dtype)"))


@operator(name="mm", public=False, bare=True,
          grad=dict(input=lambda g, mat2: product(g, mat2.t()), mat2=lambda g, input: summed(input, g)))
def product(input: Tensor, mat2: Tensor):
    """(..., k) x (k, n)."""
    va, vb = input._meta.view, mat2._meta.view
    return contract(input, va, mat2, _turned(vb), 0, len(va.shape) - 1, 1, 1)


@operator(name="mm_summed", title="Mm", public=False, bare=True,
          grad=dict(input=lambda g, other: product(other, g.t()), other=lambda g, input: product(input, g)))
def summed(input: Tensor, other: Tensor):
    """(..., m) x (..., n) summed over all dimensions but the last: (m, n)."""
    va, vb = input._meta.view, other._meta.view
    return contract(input, _last_first(va), other, _last_first(vb), 0, 1, 1, len(va.shape) - 1)


def _last_first(v: View) -> View:
    found = v.memo.get("last first")
    if found is None:
        last = len(v.shape) - 1
        found = v.memo["last first"] = ordered(v, (last, *range(last)))
    return found


def _turned(v: View) -> View:
    """The last two dimensions exchanged."""
    key = "turned"
    found = v.memo.get(key)
    if found is None:
        found = v.memo[key] = make_view(
            v.shape[:-2] + (v.shape[-1], v.shape[-2]), v.strides[:-2] + (v.strides[-1], v.strides[-2]), v.offset
        )
    return found


@operator(name="bmm", public=False, bare=True,
          grad=dict(input=lambda g, mat2: batched(g, mat2.transpose(-2, -1)), mat2=lambda g, input: batched(input.transpose(-2, -1), g)))
def batched(input: Tensor, mat2: Tensor):
    """(..., m, k) x (..., k, n) with broadcast leading dimensions."""
    va, vb = input._meta.view, mat2._meta.view
    lead = broadcast_shapes("matmul", va.shape[:-2], vb.shape[:-2])
    a = broadcast_view(va, lead + va.shape[-2:])
    b = _turned(broadcast_view(vb, lead + vb.shape[-2:]))
    return contract(input, a, mat2, b, len(lead), 1, 1, 1)


@operator(name="bmm_wide", title="Bmm", public=False,
          grad=dict(input=lambda g, input, mat2, dtype: core.cast(batched_wide(g, _turned_to(mat2, dtype), dtype), input._meta.dtype),
                    mat2=lambda g, input, mat2, dtype: core.cast(batched_wide(_turned_to(input, dtype), g, dtype), mat2._meta.dtype)))
def batched_wide(input: Tensor, mat2: Tensor, dtype):
    """As `batched`, of operands (and cotangents) rounded to a dtype of 16 bits, with a result in float32."""
    a, b = rounded(input, dtype), rounded(mat2, dtype)
    va, vb = a._meta.view, b._meta.view
    lead = broadcast_shapes("matmul", va.shape[:-2], vb.shape[:-2])
    return contract(a, broadcast_view(va, lead + va.shape[-2:]), b, _turned(broadcast_view(vb, lead + vb.shape[-2:])), len(lead), 1, 1, 1,
                    True)


def _turned_to(x, dtype):
    return rounded(x, dtype).transpose(-2, -1)


def _mismatch(what, a, b):
    return RuntimeError(
        f"{what}: mat1 and mat2 shapes cannot be multiplied ({'x'.join(map(str, a))} and {'x'.join(map(str, b))}): expected the "
        f"last dimension of the first, {a[-1]}, to equal the {'last' if len(b) == 1 else 'second to last'} of the second, "
        f"{b[-2] if len(b) > 1 else b[-1]}."
    )


@operator(autocast="lower", samples=(lambda t: [t(3, 4), t(4, 5)], lambda t: [t(3, 0), t(0, 5)]))
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices."""
    if input.is_sparse:
        return input.matmul(mat2)
    a, b = input._meta.view.shape, mat2._meta.view.shape
    if len(a) != 2 or len(b) != 2:
        raise RuntimeError(
            f"mm: expected two matrices; received shapes {list(a)} and {list(b)}. (self must be a matrix) Use matmul for others."
        )
    if a[1] != b[0]:
        raise _mismatch("mm", a, b)
    check_dtypes("mm", input, mat2)
    return product(input, mat2)


@operator(autocast="lower", samples=lambda t: [t(2, 3, 4), t(2, 4, 5)])
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices."""
    a, b = input._meta.view.shape, mat2._meta.view.shape
    if len(a) != 3 or len(b) != 3:
        place, shape = (1, a) if len(a) != 3 else (2, b)
        raise RuntimeError(f"bmm: batch{place} must be a 3D tensor; received shape {list(shape)}. Use matmul for other ranks.")
    if a[0] != b[0] or a[2] != b[1]:
        raise RuntimeError(f"bmm: Expected size for first two dimensions of batch2 tensor to be: [{a[0]}, {a[2]}] but got: "
                           f"[{b[0]}, {b[1]}], for batch1 of shape {list(a)} and batch2 of shape {list(b)}.")
    check_dtypes("bmm", input, mat2)
    return batched(input, mat2)


_FIT: set = set()       # layouts of several dimensions times a matrix's, and of a bias, known to fit


def _matmul_title(input, other) -> str:
    kinds = {(1, 1): "Dot", (2, 1): "Mv", (2, 2): "Mm"}
    a, b = input.dim(), other.dim()
    return kinds.get((a, b)) or ("SqueezeBackward4" if min(a, b) == 1 and max(a, b) == 2 else "UnsafeView")


@operator(autocast="lower", title=_matmul_title, samples=lambda t: [t(..., 3, 4), t(..., 4, 5)])
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product: of vectors the inner product, of higher ranks over the last two dimensions, the others broadcast."""
    if (getattr(input, "_meta", None), getattr(other, "_meta", None)) in _FIT:
        return product(input, other)
    check_tensor("matmul", "input", input)
    check_tensor("matmul", "other", other)
    if input.is_sparse or other.is_sparse:
        return input.matmul(other) if input.is_sparse else other.__rmatmul__(input)
    a, b = input._meta.view.shape, other._meta.view.shape
    if not a or not b:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {len(a)}D and {len(b)}D")
    if a[-1] != (b[-2] if len(b) > 1 else b[0]):
        if len(a) == len(b) == 1:
            raise RuntimeError(f"inconsistent tensor size, expected tensor [{a[0]}] and src [{b[0]}] to have the same number of elements")
        raise _mismatch("matmul", a, b)
    check_dtypes("matmul", input, other)
    if len(a) == 1 and len(b) == 1:
        return product(input.unsqueeze(0), other.unsqueeze(1)).reshape(())
    if len(b) == 1:
        return matmul(input, other.unsqueeze(1)).squeeze(-1)
    if len(a) == 1:
        return matmul(input.unsqueeze(0), other).squeeze(-2)
    if len(b) == 2:
        if not state.devices:
            _FIT.add((input._meta, other._meta))
        return product(input, other)
    if len(a) == 2 and input.requires_grad:     # one product for the matrix's gradient, not the sum of many
        return matmul(other.transpose(-2, -1), input.t()).transpose(-2, -1).contiguous()
    return batched(input, other)


def _linear_title(input, bias) -> str:
    if input.dim() == 2:
        return "Mm" if bias is None else "Addmm"
    return "UnsafeView" if bias is None else "View"     # there it is a view of a product of matrices


@operator(wide=True, name="addmm", title=_linear_title, public=False,
          grad=dict(input=lambda g, weight: product(g, weight), weight=lambda g, input: summed(g, input), bias=lambda g: g))
def linear_(input: Tensor, weight: Tensor, bias: Tensor):
    out = _rows(input, weight)
    return out if bias is None else out + bias


_ROWS: dict = {}        # layouts of two matrices -> the form and the layout of their product


def _rows(input, weight):
    """(..., k) x (n, k)."""
    found = _ROWS.get((input._meta, weight._meta))
    if found is not None and not state.devices:
        return core.record(found[0], (input.storage.node, weight.storage.node), found[1])
    v = input._meta.view
    out = contract(input, v, weight, weight._meta.view, 0, len(v.shape) - 1, 1, 1)
    if out._meta.dtype.kind != "c" and out.storage.node.buffer is None:
        _ROWS[input._meta, weight._meta] = out.storage.node.form, out._meta
    return out


@operator(autocast="lower", namespace=False, method=False, out=False,
          samples=(lambda t: [t(..., 4), t(3, 4), t(3)], lambda t: [t(..., 4), t(3, 4)]))
def linear(input: Tensor, weight: Tensor, bias: Tensor = None, *, out=None) -> Tensor:
    """input (..., in) times the transpose of weight (out, in), plus bias (out)."""
    if out is not None:
        added = bias is not None and input.dim() != 2       # to the product as it is in `out`
        result = linear(input, weight) + bias if added else linear(input, weight, bias)
        return core.store_out("linear", out, result, (input, weight, bias))
    if (getattr(input, "_meta", None), weight._meta, None if bias is None else bias._meta) in _FIT:
        return linear_(input, weight, bias)
    check_tensor("linear", "input", input)
    a, w = input._meta.view.shape, weight._meta.view.shape
    if len(w) == 1:
        return matmul(input, weight) if bias is None else matmul(input, weight) + bias
    if not a or a[-1] != w[-1]:
        flat = 1
        for n in a[1:]:
            flat *= n
        hint = "Flatten it first: input.flatten(1)" if len(a) > 2 and flat == w[-1] else \
            f"mat1 and mat2 shapes cannot be multiplied ({'x'.join(map(str, a))} and {w[-1]}x{w[0]}): check the layer's in_features."
        raise RuntimeError(message("linear", f"input of shape (..., {w[-1]}) to match weight {tuple(w)}", f"input {tuple(a)}", hint))
    if bias is not None and len(bias._meta.view.shape) == 1 and bias._meta.view.shape[0] not in (1, w[0]):
        raise RuntimeError(message("linear", f"bias of shape ({w[0]},) to match weight {tuple(w)}", f"bias {tuple(bias.shape)}"))
    check_dtypes("linear", input, weight, *([bias] if bias is not None else []))
    if len(a) == 1:
        return linear_(input.unsqueeze(0), weight, bias).squeeze(0)
    if not state.devices:
        _FIT.add((input._meta, weight._meta, None if bias is None else bias._meta))
    return linear_(input, weight, bias)


# -- einsum -----------------------------------------------------------------------------------------------------

def _parse(equation: str, operands):
    equation = equation.replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ValueError(
            f"einsum(): expected as many terms as operands; received {len(terms)} in '{equation}' and {len(operands)} operands"
        )
    rank = 0
    for term, x in zip(terms, operands):
        plain = term.replace("...", "")
        if "..." in term:
            rank = max(rank, x.dim() - len(plain))
        elif len(plain) != x.dim():
            raise RuntimeError(f"einsum(): the number of subscripts in the equation ({len(plain)}) does not match the number of dimensions "
                               f"({x.dim()}) for operand '{term}' and no ellipsis was given")
    extra = [chr(0x3b1 + i) for i in range(rank)]

    def spell(term, dims):
        plain = len(term.replace("...", ""))
        return term.replace("...", "".join(extra[rank - (dims - plain):])) if "..." in term else term

    names = [spell(term, x.dim()) for term, x in zip(terms, operands)]
    if arrow:
        out = right.replace("...", "".join(extra))
        for c in out:
            if not any(c in term for term in names):
                raise RuntimeError(f"einsum(): output subscript {c} does not appear in the equation for any input operand: '{equation}'")
    else:
        joined = "".join(names)
        out = "".join(extra) + "".join(sorted(c for c in set(joined) if joined.count(c) == 1 and c not in extra))
    return names, out


def _plain(x, names: str):
    """Repeated subscripts of one operand read as its diagonal."""
    for c in dict.fromkeys(names):
        while names.count(c) > 1:
            i = names.index(c)
            j = names.index(c, i + 1)
            x = x.diagonal(0, i, j)
            names = names[:i] + names[i + 1:j] + names[j + 1:] + c
    return x, names


@operator(autocast="lower", out=False, method=False,
          samples=(lambda t: ["bij,bjk->ik", t(2, 3, 4), t(2, 4, 5)], lambda t: ["...i,...i->...", t(..., 3), t(..., 3)]))
def einsum(equation, *operands) -> Tensor:
    """Sums of products, subscripts naming dimensions: "bij,bjk->bik"."""
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = operands[0]
    operands = list(operands)
    terms, out = _parse(equation, operands)
    pairs = [_plain(x, t) for x, t in zip(operands, terms)]
    sizes: dict = {}
    for x, names in pairs:
        for c, n in zip(names, x.shape):
            if sizes.setdefault(c, n) not in (n, 1) and n != 1:
                raise RuntimeError(f"einsum(): subscript {c} has size {n} for one operand and {sizes[c]} for another")
            sizes[c] = max(sizes[c], n) if sizes[c] != 0 and n != 0 else 0
    x, names = pairs[0]
    x, names = _sum_out(x, names, out + "".join(n for _, n in pairs[1:]))
    for i, (y, other) in enumerate(pairs[1:], 1):
        later = out + "".join(n for _, n in pairs[i + 1:])
        y, other = _sum_out(y, other, names + later)
        x, names = _pair(x, names, y, other, later, sizes)
    x, names = _sum_out(x, names, out)
    return x.permute(tuple(names.index(c) for c in out)) if names != out else x


def _sum_out(x, names, needed):
    drop = tuple(i for i, c in enumerate(names) if c not in needed)
    return (x.sum(drop), "".join(c for c in names if c in needed)) if drop else (x, names)


def _pair(x, xs, y, ys, later, sizes):
    """One product of two operands, summed over what no one needs later."""
    both = [c for c in xs if c in ys]
    batch = [c for c in both if c in later]
    k = [c for c in both if c not in later]
    m = [c for c in xs if c not in both]
    n = [c for c in ys if c not in both]
    if not k:
        order = batch + m + n
        a = _aligned(x, xs, order)
        b = _aligned(y, ys, order)
        return a * b, "".join(order)
    a, b = (_aligned(t, names, order, [sizes[c] for c in order]) for t, names, order in ((x, xs, batch + m + k), (y, ys, batch + n + k)))
    check_dtypes("einsum", a, b)
    out = contract_dims(a, b, len(batch), len(m), len(n), len(k))
    return out, "".join(batch + m + n)


def _aligned(x, names, order, sizes=None):
    """`x`, whose dimensions have these names, with those of `order`, expanded to `sizes`."""
    dims = tuple(names.index(c) for c in order if c in names)
    if dims != (*range(len(dims)),):
        x = x.permute(dims)
    for i, c in enumerate(order):
        if c not in names:
            x = x.unsqueeze(i)
    return x if sizes is None or list(x.shape) == sizes else x.expand(sizes)


def _contract_grad_a(g, b, nb, nm, nn, nk):
    """sum over n of g[b, m, n] B[b, n, k]"""
    rank = b.dim()
    turned = b.permute((*range(nb), *range(nb + nn, rank), *range(nb, nb + nn)))
    return contract_dims(g, turned, nb, nm, nk, nn)


def _contract_grad_b(g, a, nb, nm, nn, nk):
    """sum over m of g[b, m, n] A[b, m, k]"""
    g_rank, a_rank = g.dim(), a.dim()
    gt = g.permute((*range(nb), *range(nb + nm, g_rank), *range(nb, nb + nm)))
    at = a.permute((*range(nb), *range(nb + nm, a_rank), *range(nb, nb + nm)))
    return contract_dims(gt, at, nb, nn, nk, nm)


@operator(name="contract", title="View", public=False, bare=True,       # of a product of matrices, there
          grad=dict(a=lambda g, b, nb, nm, nn, nk: _contract_grad_a(g, b, nb, nm, nn, nk),
                    b=lambda g, a, nb, nm, nn, nk: _contract_grad_b(g, a, nb, nm, nn, nk)))
def contract_dims(a: Tensor, b: Tensor, nb, nm, nn, nk):
    """C[b, m, n] = sum over k of A[b, m, k] B[b, n, k], several dimensions of each; differentiable."""
    va, vb = a._meta.view, b._meta.view
    return contract(a, va, b, vb, nb, nm, nn, nk)
