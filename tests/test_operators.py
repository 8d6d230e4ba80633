"""The breadth of operators: arrangements, joins, numbers, ranks, statistics, scans, indexed writes, products, storages, out= and errors."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from tolerance import agree

import antorcha as at
from antorcha.ops.record import RECORDS

# Expressions of T (the module), x (4, 5), y (4, 5), v (5,), i (indices), b (a mask); each is a value and, where a float, differentiable.
EXPRESSIONS = (
    """
T.roll(x, (1, -2), (0, 1))                      T.roll(x, 3)                                T.rot90(x, 1)
T.flip(x, (0, 1))                               T.fliplr(x)                                 T.tile(x, (2, 1))
x.repeat(2, 1, 2)                               T.repeat_interleave(x, 2, 1)                T.diag_embed(v, 1)
T.diagflat(v, -1)                               T.diag(x, 1)                                T.trace(x)
T.select_scatter(x, v, 0, 2)                    T.slice_scatter(x, y[:2], 0, 1, 3)          T.diagonal_scatter(x, v[:4])
T.cat([x, y], 1)                                T.stack([x, y], 1)                          T.hstack((x, y))
T.vstack((x, v))                                T.dstack((x, y))                            T.column_stack((x, y[:, 0]))
T.block_diag(x, v, y)                           T.cartesian_prod(v, v[:2])                  T.combinations(v, 2)
T.meshgrid(v, v[:3], indexing='xy')[0]          T.tensor_split(x, (1, 3), 1)[1]             T.hsplit(x, 5)[2]
T.unflatten(x, 1, (5, 1))                       x.unfold(1, 3, 2)                           T.split(x, 5, 1)[0]
T.copysign(x, y)                                T.hypot(x, y)                               T.logaddexp(x, y)
T.logaddexp2(x, y)                              T.frexp(x)[0]                               T.ldexp(x, i[:1])
T.heaviside(x.detach(), y.detach())                     T.nan_to_num(x / (x > 0))                   T.float_power(x, 2)
T.sinc(x)                                       T.logit(x.sigmoid())                        T.logit(x, 0.1)
T.deg2rad(x)                                    T.lerp(x, y, 0.3)                           T.nextafter(x, y)
T.div(x, y, rounding_mode='floor')              T.isclose(x, y)                             T.signbit(x)
T.gcd(i * 6, i * 4 + 2)                         T.lcm(i + 1, i + 4)                         T.clamp(x, y - 1, y)
T.sort(x, 1, descending=True)[0]                T.argsort(x, 0)                             T.msort(x)
T.topk(x, 2, 1)[0]                              T.kthvalue(x, 2, 1)[0]                      T.median(x, 1)[0]
T.median(x)                                     T.nanmedian(x, 0)[0]                        T.mode(i.reshape(2, 3), 1)[0]
T.quantile(x, 0.3, 1)                           T.quantile(x, T.tensor([0.1, 0.9], dtype=x.dtype), 1, True)
T.nanquantile(x, 0.5)                           T.unique(i)                                 T.unique(i, return_inverse=True)[1]
T.unique_consecutive(i, return_counts=True)[1]  T.searchsorted(T.sort(v)[0], v)             T.bucketize(x, T.sort(v)[0], right=True)
T.isin(i, i[:2])                                T.nonzero(b)                                T.argwhere(b)
T.count_nonzero(b, 0)                           T.bincount(i, minlength=7)                  T.histc(x, 6, -2, 2)
T.histogram(x.detach(), 4)[0]                     T.cov(x)                                    T.corrcoef(x)
T.diff(x, 2, 1)                                 T.gradient(x, dim=1)[0]                     T.gradient(x, spacing=2.0, edge_order=2)[1]
T.trapezoid(x, dx=0.5)                          T.cumulative_trapezoid(x, v)                T.aminmax(x, dim=1)[1]
T.cumsum(x, 1)                                  T.cumprod(x * b, 1)                         T.cummax(x, 1)[0]
T.cummin(x, 0)[1]                               T.logcumsumexp(x, 1)                        T.nansum(x, 1)
T.prod(x * b, 1)                                T.std_mean(x, 1)[0]                         T.var(x, 0, correction=0)
T.logsumexp(x, (0, 1))                          T.amax(x, (0, 1))                           T.any(b, 1)
T.index_add(x, 0, i[:4], y)                     T.index_copy(x, 1, i[:3], y[:, :3])         T.index_fill(x, 1, i[:2], 3.0)
x.index_reduce(0, i[:4], y, 'amax')             x.put(i, v[i[:1]].expand(6), True)          T.take_along_dim(x, T.argsort(y, 1), 1)
x.scatter_reduce(0, I, y, 'prod')               x.scatter_reduce(0, I, y, 'mean')           T.masked_scatter(x, b, y)
x.scatter_reduce(0, I, y, 'amin', include_self=False)                                       T.masked_select(x, b)
x.scatter(1, I, y)                              x.scatter_add(0, I, y)                      T.gather(x, 1, I)
T.tril(x, -1)                                   T.triu(b)                                   T.take(x, i)
T.addmm(x, y[:, :4], x, alpha=0.5)              T.addmv(v[:4], x, v, beta=2)                T.addr(x, y[:, 0], v)
T.outer(v, v)                                   T.inner(x, y)                               T.vdot(v, v)
T.kron(x, y[:2, :2])                            T.tensordot(x, y, ([0, 1], [0, 1]))         T.einsum('ij,kj->ik', x, y)
T.baddbmm(x[None, :, :4], y[None, :, :3], x[None, :3, :4])    T.addbmm(x[:, :4], y[None, :, :3], x[None, :3, :4])
T.masked.mean(x, 1, mask=b)                     T.masked.softmax(x, 1, mask=b | ~b)         T.masked.var(x, mask=b)
T.fill(x, 2.0)                                  T.logspace(0, 2, 5)                         T.empty_permuted((2, 3), (1, 0)).shape
""".strip()
    .replace("\n", "  ")
    .split("  ")
)
EXPRESSIONS = [e.strip() for e in EXPRESSIONS if e.strip()]


def arguments(module):
    r = np.random.RandomState(0)
    floats = [module.tensor(r.standard_normal(s), dtype=module.float64, requires_grad=True) for s in ((4, 5), (4, 5), (5,))]
    i = module.tensor([2, 0, 3, 3, 1, 1])
    index = module.tensor(r.randint(0, 4, (4, 5)))
    return dict(T=module, x=floats[0], y=floats[1], v=floats[2], i=i, I=index, b=module.tensor(r.rand(4, 5) > 0.4))


def outcome(module, expression):
    """The value, and the derivatives by the float arguments."""
    names = arguments(module)
    value = eval(expression, names)
    if not isinstance(value, module.Tensor):
        return [np.array(value)]
    found = [value.detach().numpy()]
    if value.requires_grad:
        weights = module.cos(module.arange(value.numel(), dtype=value.dtype)).reshape(value.shape)
        leaves = [names[n] for n in "xyv"]
        for g, leaf in zip(module.autograd.grad((value * weights).sum(), leaves, allow_unused=True), leaves):
            found.append(np.zeros(leaf.shape) if g is None else g.numpy())
    return found


@pytest.mark.oracle
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_values_and_derivatives_are_pytorchs(expression):
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, theirs = outcome(at, expression), outcome(torch, expression)
    for a, b in zip(ours, theirs):
        assert a.shape == b.shape and (len(ours) > len(theirs) or a.dtype == b.dtype)
        agree(a, b)


NUMPY = [
    (lambda x: at.roll(x, 2, 1), lambda a: np.roll(a, 2, 1)),
    (lambda x: at.rot90(x, 3), lambda a: np.rot90(a, 3)),
    (lambda x: at.kron(x, x[:2]), lambda a: np.kron(a, a[:2])),
    (lambda x: at.diff(x, 2, 0), lambda a: np.diff(a, 2, 0)),
    (lambda x: at.gradient(x)[1], lambda a: np.gradient(a)[1]),
    (lambda x: at.trapezoid(x), lambda a: np.trapezoid(a) if hasattr(np, "trapezoid") else np.trapz(a)),
    (lambda x: at.cov(x), np.cov),
    (lambda x: at.corrcoef(x), np.corrcoef),
    (lambda x: at.quantile(x, 0.3, 1), lambda a: np.quantile(a, 0.3, axis=1)),
    (lambda x: at.nansum(x, 0), lambda a: np.nansum(a, 0)),
    (lambda x: at.logaddexp(x, -x), lambda a: np.logaddexp(a, -a)),
    (lambda x: at.nextafter(x, -x), lambda a: np.nextafter(a, -a)),
    (lambda x: at.frexp(x)[1], lambda a: np.frexp(a)[1]),
    (lambda x: at.sinc(x), np.sinc),
    (lambda x: at.cumprod(x, 1), lambda a: np.cumprod(a, 1)),
    (lambda x: at.sort(x, 0)[1], lambda a: np.argsort(a, 0, kind="stable")),
]


@pytest.mark.parametrize("k", range(len(NUMPY)))
def test_values_are_numpys(k):
    a = np.random.RandomState(k).standard_normal((4, 6))
    agree(NUMPY[k][0](at.tensor(a)), NUMPY[k][1](a))


def test_nextafter_of_bfloat16_is_its_own_neighbour():
    x = at.tensor([1.0, -2.0, 0.0], dtype=at.bfloat16)
    up = at.nextafter(x, at.full((3,), math.inf, dtype=at.bfloat16))
    assert up.float().tolist()[:2] == [1.0 + 2.0 ** -7, -2.0 + 2.0 ** -7] and up[2] > 0


def test_a_number_beside_itself_does_not_move():
    x = at.tensor([1.0, 2.0], requires_grad=True)
    assert at.autograd.grad(at.nextafter(x, at.tensor([1.0, 3.0])).sum(), x)[0].tolist() == [0.0, 1.0]


def test_what_is_unique_has_a_place_for_each_element():
    values, inverse, counts = at.unique(at.tensor(3.0), return_inverse=True, return_counts=True)
    assert values.tolist() == [3.0] and inverse.tolist() == 0 and counts.tolist() == [1]


def test_a_running_product_has_derivatives_beside_zeros():
    x = at.tensor([2.0, 0.0, 3.0, 0.0], requires_grad=True)
    assert at.autograd.grad(x.cumprod(0).sum(), x)[0].tolist() == [1.0, 2.0 + 6.0, 0.0, 0.0]


# -- out= and what is refused -----------------------------------------------------------------------------------

def test_out_may_be_a_tuple_and_is_returned_by_name():
    values, places = at.empty(0), at.empty(0, dtype=at.int64)
    result = at.max(at.tensor([[1.0, 5.0], [7.0, 2.0]]), 1, out=(values, places))
    assert result.values is values and values.tolist() == [5.0, 7.0] and places.tolist() == [1, 0]


def test_out_is_resized_with_a_warning():
    out = at.empty(3)
    with pytest.warns(UserWarning, match="resized"):
        at.add(at.ones(2), 1, out=out)
    assert out.tolist() == [2.0, 2.0]


x = at.ones(4)
REFUSED = [
    (lambda: at.add(x, x, out=at.zeros(1).expand(4)), RuntimeError, "single memory location"),
    (lambda: at.mul(x[:3], 2, out=x[1:]), RuntimeError, "single memory location"),
    (lambda: at.cat([x, x], out=x), RuntimeError, "single memory location"),
    (lambda: at.gather(x, 0, at.tensor([0]), out=at.empty(1, dtype=at.float64)), RuntimeError, "dtype"),
    (lambda: at.add(x, 1.5, out=at.empty(4, dtype=at.int64)), RuntimeError, "can't be cast"),
    (lambda: at.maximum(x, 2), TypeError, "must be Tensor"),
    (lambda: at.eq(2, x), TypeError, "must be Tensor"),
    (lambda: at.sum(x, axes=0), TypeError, "axes"),
    (lambda: at.softmax(x), TypeError, "dim"),
    (lambda: at.kthvalue(x, 9), RuntimeError, "out of range"),
    (lambda: at.quantile(x, 2.0), RuntimeError, r"\[0, 1\]"),
    (lambda: at.gather(x, 0, at.tensor([7])).tolist(), RuntimeError, "index"),
    (lambda: at.index_select(x, 0, at.tensor([7])).tolist(), IndexError, "index"),
    (lambda: at.heaviside(x, x.double()), RuntimeError, "dtype"),
    (lambda: at.arange(0, math.inf), RuntimeError, "unsupported range"),
    (lambda: at.frombuffer(b"abc", dtype=at.int32), ValueError, "multiple"),
    (lambda: at.fill(x, x), RuntimeError, "0-dim"),
]


@pytest.mark.parametrize("k", range(len(REFUSED)))
def test_refusals(k):
    call, kind, text = REFUSED[k]
    with pytest.raises(kind, match=text):
        call()


def test_numbers_are_gathered_as_vectors_of_one_element():
    one, place = at.tensor(3.0), at.tensor([0])
    assert one.gather(0, place).tolist() == [3.0] and at.ones(1).gather(0, at.tensor(0)).shape == ()
    assert at.ones(5).gather(0, at.empty(2, 0, dtype=at.uint8)).shape == (2, 0)


def test_dimensions_have_numpys_names_too():
    a = at.arange(6.0).reshape(2, 3)
    assert a.sum(axis=1, keepdims=True).tolist() == [[3.0], [12.0]]
    assert a.softmax(axis=0).shape == (2, 3) and a.permute(dims=(1, 0)).shape == (3, 2)


def test_every_public_record_is_documented_and_callable():
    for name, record in RECORDS.items():
        if record.public:
            assert record.doc, f"{name} has no documentation"
            assert callable(record.call) and record.signature is not None


# -- storages and older names -----------------------------------------------------------------------------------

def test_storages_share_the_tensors_memory():
    t = at.arange(4.0)
    s = t.storage()
    s[1] = 9.0
    assert t.tolist() == [0.0, 9.0, 2.0, 3.0] and s.tolist() == t.tolist()
    assert t.untyped_storage().nbytes() == 16 and t[1:].untyped_storage() == t.untyped_storage()
    t.untyped_storage().resize_(0)
    assert len(t.storage()) == 0


def test_views_of_another_dtype_share_memory():
    t = at.ones(2, 4)
    v = t.view(at.int32)
    v[0, 0] = 0
    assert t[0].tolist() == [0.0, 1.0, 1.0, 1.0] and t.view(at.int16).shape == (2, 8) and t.view(dtype=at.float64).shape == (2, 2)
    with pytest.raises(RuntimeError, match="stride"):
        t.t().view(at.float64)


def test_older_constructors():
    assert at.LongTensor([1, 2]).dtype is at.int64 and at.FloatTensor(2, 3).shape == (2, 3)
    assert isinstance(at.ones(1), at.FloatTensor) and not isinstance(at.ones(1), at.LongTensor)
    assert at.ones(1).type() == "torch.FloatTensor" and at.ones(1).type(at.LongTensor).dtype is at.int64
    assert at.Tensor([1, 2]).tolist() == [1.0, 2.0] and at.ones(2).new([3]).tolist() == [3.0]


def test_buffers_are_read_where_they_are():
    data = bytearray(8)
    t = at.frombuffer(data, dtype=at.int16)
    t[1] = 258
    assert data[2:4] == b"\x02\x01"


def test_products_of_nothing_are_zero():
    for a, b in (((5, 5, 0), (0, 3)), ((0, 5, 2), (2, 3)), ((5, 0, 0), (0, 3)), ((4, 0), (0,)), ((2, 3, 0), (2, 0, 4))):
        x, y = at.zeros(a, requires_grad=True), at.zeros(b, requires_grad=True)
        product = x @ y
        assert product.tolist() == np.matmul(np.zeros(a), np.zeros(b)).tolist()
        product.sum().backward()
        assert (x.grad.shape, y.grad.shape) == (x.shape, y.shape)
    assert at.nn.functional.linear(at.zeros(2, 3, 0), at.zeros(4, 0)).shape == (2, 3, 4)


def test_a_power_of_zero_has_a_derivative_by_its_exponent():
    x, e = at.tensor([2.0, 0.5, 0.0]), at.zeros(3, requires_grad=True)
    (x ** e).sum().backward()
    agree(e.grad, [math.log(2), math.log(0.5), 0.0])


def test_a_matrix_times_a_batch_sums_its_gradient_before_it_is_rounded():
    rng = np.random.default_rng(0)
    a, b = (at.from_numpy(rng.standard_normal(s)).to(at.bfloat16).requires_grad_() for s in ((3, 4), (50, 4, 2)))
    (a @ b).float().sum().backward()
    np.testing.assert_array_equal(a.grad.float().numpy(), b.detach().double().sum((0, 2)).expand(3, 4).to(at.bfloat16).float().numpy())


def test_as_strided_scatter_writes_within_the_input():
    x = at.zeros(4, 4)
    assert at.as_strided_scatter(x, at.ones(2, 2), (2, 2), (8, 2), 1).sum().item() == 4
    with pytest.raises(RuntimeError, match="storage"):
        at.as_strided_scatter(x, at.ones(2, 2), (2, 2), (200, 200), 0)


@pytest.mark.parametrize("call", [lambda x: x.cumsum(0), lambda x: x.cummax(0)[1], lambda x: at.transpose_copy(x, 0, 1)],
                         ids=["cumsum", "cummax", "transpose_copy"])
def test_results_lie_in_order(call):
    assert call(at.arange(12.0).reshape(3, 4)).view(-1).shape == (12,)


def test_a_value_filled_in_twice_counts_once():
    x, value = at.ones(2, 3, requires_grad=True), at.tensor(5.0, requires_grad=True)
    x.index_fill(1, at.tensor([0, 2, 0]), value).backward(at.arange(6.0).reshape(2, 3))
    assert value.grad.item() == 0 + 2 + 3 + 5
    assert x.grad.tolist() == [[0, 1, 0], [0, 4, 0]]


def test_histogram_returns_edges_of_its_own():
    edges = at.tensor([0.0, 1.0, 2.0])
    at.histogram(at.tensor([0.5]), edges).bin_edges.zero_()
    assert edges.tolist() == [0.0, 1.0, 2.0]
