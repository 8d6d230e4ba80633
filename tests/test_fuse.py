"""Random graphs: the fused plan, one kernel per node, and NumPy give the same values; and what fusion promises by name."""

from __future__ import annotations

import random
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tolerance import agree

import antorcha as torch
from antorcha.base import config
from antorcha.base import dtype as dt
from antorcha.graph import flush, fuse
from antorcha.graph.node import Node, Static, dense, leaf, view
from antorcha.loops import blocks, ir, lower, plan, scatter, tiled
from antorcha.runtime.buffer import Buffer

F1, F2 = Static(casts=(dt.float32,)), Static(casts=(dt.float32,) * 2)


class Operator:
    uses_index, unread, scalar, combine, host, late_error, complaint = False, False, None, None, None, IndexError, None

    def __init__(self, name, family, **fields):
        self.name, self.family = name, family
        self.__dict__.update(fields)


def pointwise(name, scalar):
    return Operator(name, "pointwise", scalar=scalar)


ADD, MUL = pointwise("add", lambda a, b: a + b), pointwise("mul", lambda a, b: a * b)
SUB, DIV = pointwise("sub", lambda a, b: a - b), pointwise("div", lambda a, b: a / b)
TOP = pointwise("maximum", lambda a, b: ir.maximum(a, b))
DEAR = pointwise("dear", lambda a: ir.sqrt(ir.absolute(a * a + 1.0)) / (ir.absolute(a) + 2.0) + a / 3.0 / (a * a + 1.0))
REDUCE = {c: Operator(c, "reduction", combine=c) for c in ("sum", "max", "min", "argmax")}
DOT, PICK, PUT = Operator("dot", "contraction"), Operator("pick", "gather"), Operator("put", "scatter")


def dear(a):
    return np.sqrt(np.abs(a * a + 1)) / (np.abs(a) + 2) + a / 3 / (a * a + 1)


class Cell:
    def __init__(self, node):
        self.node = node


class Lazy:
    """A value both ways: recorded, and known to NumPy."""

    tape: list = []

    def __init__(self, cell, v, known):
        self.cell, self.view, self.known = cell, v, known

    @property
    def node(self):
        return self.cell.node

    @property
    def shape(self):
        return self.view.shape

    def whole(self):
        return self.view.dense and self.view.numel == self.node.numel

    def value(self):
        if self.node.buffer is None:
            pending, Lazy.tape = Lazy.tape, []
            flush.flush(pending)
        flat = self.node.buffer.array(self.node.dtype.numpy, self.node.numel)
        self.node.buffer.exported = False
        strides = [t * flat.itemsize for t in self.view.strides]
        return np.lib.stride_tricks.as_strided(flat[self.view.offset:], self.shape, strides).copy()

    def check(self):
        agree(self.value(), self.known)


def array(values) -> Lazy:
    values = np.ascontiguousarray(values)
    buffer = Buffer.allocate(values.nbytes)
    buffer.array(values.dtype, values.size)[:] = values.reshape(-1)
    buffer.exported = False
    return Lazy(Cell(leaf(buffer, values.size, dt.of(values.dtype))), dense(values.shape), values)


def floats(*shape, seed=0) -> Lazy:
    return array((np.random.default_rng(seed).standard_normal(shape) * 0.7).astype(np.float32))


def record(op, inputs, views, static, known, d=dt.float32) -> Lazy:
    known = np.asarray(known)
    node = Node.of(op, tuple(x.node if isinstance(x, Lazy) else x for x in inputs), tuple(views), static, known.shape, known.size, d)
    Lazy.tape.append(node)
    return Lazy(Cell(node), dense(known.shape), known)


def spread(v, shape):
    lead = len(shape) - len(v.shape)
    return view(tuple(shape), (0,) * lead + tuple(0 if n == 1 else t for n, t in zip(v.shape, v.strides)), v.offset)


def apply(op, function, *inputs) -> Lazy:
    known = np.asarray(function(*[x.known if isinstance(x, Lazy) else np.float32(x) for x in inputs]))
    return record(op, inputs, [spread(x.view, known.shape) if isinstance(x, Lazy) else None for x in inputs],
                  F1 if len(inputs) == 1 else F2, known)


def reduce(combine, x, axes, keep=False) -> Lazy:
    kept = [d for d in range(len(x.shape)) if d not in axes]
    order = kept + sorted(axes)
    v = view(tuple(x.shape[d] for d in order), tuple(x.view.strides[d] for d in order), x.view.offset)
    moved = x.known.transpose(order).reshape([x.shape[d] for d in kept] + [-1])
    r = record(REDUCE[combine], [x], [v], Static(casts=(dt.float32,), reduced=len(axes)), getattr(moved, combine)(-1),
               dt.int64 if combine == "argmax" else dt.float32)
    if keep:
        shape = [1 if d in axes else n for d, n in enumerate(x.shape)]
        r = Lazy(r.cell, dense(tuple(shape)), r.known.reshape(shape))
    return r


def transpose(x, order) -> Lazy:
    v = view(tuple(x.shape[d] for d in order), tuple(x.view.strides[d] for d in order), x.view.offset)
    return Lazy(x.cell, v, x.known.transpose(order))


def cut(x, d, start, end, step=1) -> Lazy:
    where = (slice(None),) * d + (slice(start, end, step),)
    shape, strides = list(x.shape), list(x.view.strides)
    offset = x.view.offset + start * strides[d]
    shape[d], strides[d] = len(range(start, end, step)), strides[d] * step
    return Lazy(x.cell, view(tuple(shape), tuple(strides), offset), x.known[where])


def reshape(x, shape) -> Lazy:
    assert x.view.dense
    return Lazy(x.cell, dense(tuple(shape)), x.known.reshape(shape))


def dot(a, b) -> Lazy:
    known = np.matmul(a.known, np.swapaxes(b.known, -1, -2))
    return record(DOT, [a, b], [a.view, b.view], F2._replace(dims=(len(a.shape) - 2, 1, 1, 1)), known)


def pick(x, index) -> Lazy:
    known = x.known[index.known]
    v = view(known.shape, (0,) + x.view.strides[1:], x.view.offset)
    i = view(known.shape, index.view.strides + (0,) * (known.ndim - 1), index.view.offset)
    r = record(PICK, [x, index], [v, i], Static(picks=((x.shape[0], x.view.strides[0]),)), known)
    r.node.where = ("train.py", 12)
    return r


def add_rows(base, index, rows) -> Lazy:
    known = base.known.copy()
    np.add.at(known, index.known, rows.known)
    region = view(rows.shape, (0,) + dense(base.shape).strides[1:])
    i = view(rows.shape, index.view.strides + (0,) * (known.ndim - 1), index.view.offset)
    return record(PUT, [base, rows, index], [dense((known.size,)), rows.view, i],
                  F2._replace(combine="sum", region=region, picks=((base.shape[0], base.view.strides[0]),)), known)


def assign(base, d, start, end, value) -> Lazy:
    region = cut(base, d, start, end).view
    known = base.known.copy()
    known[(slice(None),) * d + (slice(start, end),)] = value.known
    return record(PUT, [base, value], [dense((known.size,)), spread(value.view, region.shape)],
                  F2._replace(combine="set", region=region), known)


def grow(rnd: random.Random, made: list, index: Lazy) -> Lazy | None:
    """One more value from those there are; None if what was drawn does not fit."""
    a, b, kind = rnd.choice(made[-6:]), rnd.choice(made), rnd.random()
    rank = len(a.shape)
    if kind < 0.35:
        op, function = rnd.choice([(ADD, np.add), (MUL, np.multiply), (TOP, np.maximum)])
        np.broadcast_shapes(a.shape, b.shape)
        return apply(op, function, a, b)
    if kind < 0.5:
        return apply(DEAR, dear, a) if kind < 0.43 else apply(MUL, np.multiply, a, rnd.choice([0.5, -1.5]))
    if kind < 0.92 and not rank:
        return None
    if kind < 0.68:
        combine, axes = rnd.choice(["sum", "sum", "max", "min"]), rnd.sample(range(rank), rnd.randint(1, rank))
        return reduce(combine, a, axes, rnd.random() < 0.5)
    if kind < 0.76:
        return transpose(a, rnd.sample(range(rank), rank))
    if kind < 0.82:
        d = rnd.randrange(rank)
        start = rnd.randrange(a.shape[d])
        return cut(a, d, start, rnd.randint(start + 1, a.shape[d]), rnd.choice([1, 1, 2]))
    if kind < 0.88:
        fits = 2 <= rank <= 3 and len(b.shape) == rank and a.shape[-1] == b.shape[-1] and a.shape[:-2] == b.shape[:-2]
        return dot(a, b) if fits else None
    if kind < 0.92:
        return reshape(a, [a.shape[0] * a.shape[1], *a.shape[2:]]) if a.view.dense and rank >= 2 else None
    if kind < 0.96:
        if not rank or a.shape[0] != made[1].shape[0]:
            return None
        r = pick(a, index)
        return add_rows(a, index, r) if a.whole() and rnd.random() < 0.5 else r
    if not rank or not a.whole():
        return None
    d = rnd.randrange(rank)
    start = rnd.randrange(a.shape[d])
    end = rnd.randint(start + 1, a.shape[d])
    shape = a.shape[:d] + (end - start,) + a.shape[d + 1:]
    return assign(a, d, start, end, b) if np.broadcast_shapes(b.shape, shape) == shape else None


def play(seed: int, sizes: tuple) -> None:
    rnd = random.Random(seed)
    n, t, c = (rnd.choice(sizes) for _ in range(3))
    shapes = [(n, t, c), (t, c), (c,), (n, t, 1), (n * t, c), (n, c, t)]
    made = [floats(*s, seed=seed + k) for k, s in enumerate(shapes)]
    index = array(np.random.default_rng(seed).integers(-t, t, size=rnd.choice([1, 3, 5])))
    for _ in range(rnd.randint(3, 14)):
        try:
            new = grow(rnd, made, index)
        except ValueError:  # shapes that do not broadcast
            continue
        if new is None or np.abs(new.known).max(initial=0) > 1e4:
            continue
        made.append(new)
        if rnd.random() < 0.1:
            new.check()
        if rnd.random() < 0.3 and len(made) > 8:
            made.pop(rnd.randrange(6, len(made)))
    for x in made:
        x.check()


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    monkeypatch.setattr(config, "target", "interp" if find_spec("antorcha.loops.interp") else "llvm")
    monkeypatch.setattr(config, "verify", True)
    monkeypatch.setattr(config, "fuse", True, raising=False)
    Lazy.tape = []


QUICK = settings(max_examples=150, suppress_health_check=list(HealthCheck))


@QUICK
@example(223326307)     # a total of one value a row beside a sum over rows
@given(st.integers(0, 1 << 30))
def test_fused_equals_numpy(seed):
    play(seed, (1, 2, 3, 4))


@settings(QUICK, max_examples=40)
@given(st.integers(0, 1 << 30))
def test_one_kernel_per_node_equals_numpy(seed):
    config.fuse = False
    try:
        play(seed, (1, 2, 3, 4))
    finally:
        config.fuse = True


@settings(QUICK, max_examples=60)
@given(st.integers(0, 1 << 30))
def test_small_blocks(seed):
    """The same with all blocks so small that each kernel is split and has partial sums."""
    with pytest.MonkeyPatch.context() as m:
        for module in (blocks, lower):
            m.setattr(module, "BLOCK", 5)
            m.setattr(module, "COLUMNS", 2)
        m.setattr(lower, "CHUNKS", 3)
        m.setattr(lower, "FEWEST", 1)
        for name, size in (("LEAST", 2), ("SHAPE", (3, 2))):
            m.setattr(tiled, name, size)
        m.setattr(scatter, "COLUMNS", 2)
        m.setattr(fuse, "ONE_ROW", 3)
        m.setattr(fuse, "sum_chunks", lambda n: 2 if n.static.dims[3] == 1 and n.views[0].shape[-1] % 2 == 0 else 1)
        flush.clear()
        play(seed, (2, 3, 5, 7))
    flush.clear()


def steps() -> int:
    return len(flush.last().steps)


def layer_norm(x, scale):
    rank = len(x.shape)
    mean = apply(MUL, np.multiply, reduce("sum", x, [rank - 1], True), 1 / x.shape[-1])
    centred = apply(SUB, np.subtract, x, mean)
    spread_ = reduce("sum", apply(MUL, np.multiply, centred, centred), [rank - 1], True)
    return apply(MUL, np.multiply, apply(MUL, np.multiply, centred, apply(DEAR, dear, spread_)), scale)


def test_layer_norm_is_one_kernel():
    y = layer_norm(floats(3, 4, 5), floats(5, seed=1))
    y.check()
    assert steps() == 1


def test_softmax_is_one_kernel_and_computes_its_exponential_once():
    x = floats(3, 4, 5)
    e = apply(DEAR, dear, apply(SUB, np.subtract, x, reduce("max", x, [2], True)))
    y = apply(DIV, np.divide, e, reduce("sum", e, [2], True))
    del e
    y.check()
    assert steps() == 1
    assert flush.last().steps[0].program.text().count("sqrt") == 1


def test_bias_and_activation_are_an_epilogue():
    y = apply(TOP, np.maximum, apply(ADD, np.add, dot(floats(6, 5), floats(7, 5, seed=1)), floats(7, seed=2)), 0.0)
    y.check()
    assert steps() == 1


def test_a_transposing_copy_is_an_epilogue():
    scores = dot(floats(2, 3, 5), floats(2, 4, 5, seed=1))
    y = apply(MUL, np.multiply, transpose(scores, [1, 0, 2]), 2.0)
    del scores
    y.check()
    assert steps() == 1


def test_numbers_are_arguments_and_dying_memory_is_taken_over(settled):
    gradient = floats(40, seed=9)
    x = floats(40)
    address = x.node.buffer.address
    for k in range(3):
        made = flush.counters["made"]
        x = apply(SUB, np.subtract, x, apply(MUL, np.multiply, gradient, 0.1 * k))
        x.check()
        assert x.node.buffer.address == address
        assert k == 0 or flush.counters["made"] == made


def test_an_index_out_of_range_names_operator_and_line_and_changes_nothing():
    x = floats(12, 5)
    index = array(np.array([2, 0, 11]))
    r = pick(x, index)
    index.node.buffer.array(np.int64, 3)[1] = -17
    pending = Lazy.tape
    for _ in range(2):
        with pytest.raises(IndexError, match=r"pick.*12.*-17[\s\S]*train.py:12"):
            flush.flush(pending)
        assert r.node.buffer is None and r.node.inputs


def test_nothing_and_one_element():
    none, row = floats(0, 5), floats(5)
    reduce("sum", none, [0]).check()
    apply(ADD, np.add, none, row).check()
    reduce("sum", floats(), []).check()
    assert record(DOT, [floats(2, 0), floats(3, 0)], [dense((2, 0)), dense((3, 0))], F2._replace(dims=(0, 1, 1, 1)),
                  np.zeros((2, 3), np.float32)).value().tolist() == [[0] * 3] * 2


def test_what_only_a_value_without_elements_is_made_of_is_not_computed():
    none = torch.zeros(0)
    assert [x.isnan().item() for x in torch.var_mean(none)] == [True, True]
    assert (none + none.sum() * torch.ones(3).cumsum(0).sum()).tolist() == []
    assert torch.ones(3, 2).cumsum(0)[:0].sum().item() == 0
    assert not any(name == "cumsum" for kernel in flush.last().kernels() for _, name, *_ in kernel["nodes"])


def test_windows_that_overlap_add_up(monkeypatch):
    """The cotangents of windows meet: what meets is no parallel loop, or threads would lose sums."""

    for target in ("llvm", "interp"):
        monkeypatch.setattr(config, "target", target)
        x = torch.arange(6.0).requires_grad_()
        x.unfold(0, 3, 1).sum().backward()
        assert x.grad.tolist() == [1, 2, 3, 3, 2, 1]
    assert scatter.distinct(view((4, 3), (1, 1))) == {0} and scatter.distinct(view((4, 3), (3, 1))) == {0, 1}


def test_what_waits_in_the_memory_of_a_result_is_read_before_the_result_is_written():
    x = floats(5, 6)
    e = apply(DEAR, dear, x)
    total = reduce("sum", e, [1], True)
    first, second = apply(MUL, np.multiply, x, total), apply(MUL, np.multiply, e, total)
    third = reduce("sum", first, [1], True)
    last = apply(SUB, np.subtract, apply(SUB, np.subtract, e, third), total)
    del e
    for y in (first, second, last):
        y.check()


def test_what_waits_for_a_value_that_is_computed_twice_waits_for_the_second_time():
    x, t = floats(5, 6), floats(5, 6, seed=1)
    e = apply(DEAR, dear, apply(SUB, np.subtract, x, reduce("max", x, [1], True)))
    s = apply(DIV, np.divide, e, reduce("sum", e, [1], True))
    first = apply(MUL, np.multiply, s, apply(SUB, np.subtract, 1.0, t))
    last = apply(MUL, np.multiply, s, apply(SUB, np.subtract, t, reduce("sum", apply(MUL, np.multiply, s, t), [1], True)))
    del e, s
    for y in (first, last):
        y.check()


@pytest.mark.parametrize("batch, length, heads, width", [(3, 7, 2, 5), (1, 6, 4, 3), (2, 1, 3, 4), (16, 24, 8, 32)])
def test_heads_are_put_side_by_side_again_without_copies(batch, length, heads, width):
    """The gradient of what was split and transposed is written from where the parts' gradients lie."""
    from antorcha.explaining import Recorder

    rng = np.random.default_rng(0)
    data = rng.standard_normal((batch, length, 3 * heads * width), "f4")
    factors = rng.standard_normal((3, batch, heads, length, width), "f4")
    x = torch.from_numpy(data.copy()).requires_grad_()
    parts = [p.view(batch, length, heads, width).transpose(1, 2) for p in (x * 1).split(heads * width, 2)]
    values = [torch.from_numpy(f).exp() for f in factors]
    for v in values:
        v.tolist()
    with Recorder() as recorder:
        sum((p * v).sum() for p, v in zip(parts, values)).backward()
        found = x.grad.numpy()
    kernels = [{name for _, name, *_ in kernel["nodes"]} for kernel in recorder.kernels()]
    assert sum("scatter" in k for k in kernels) == 3 and not any("clone" in k for k in kernels)
    want = np.exp(factors).transpose(1, 3, 0, 2, 4).reshape(data.shape)
    np.testing.assert_allclose(found, want, rtol=1e-5)


@pytest.mark.parametrize("few", [0, 1 << 60])
def test_many_numbers(few, monkeypatch):
    """Those that become floats are bound together; an integer beside them, and one that takes a float's place, are themselves."""
    monkeypatch.setattr(plan, "FEW_WORDS", few)
    x, n = torch.arange(4.0), torch.arange(4)
    for first in (0.5, 3, -0.0, True):
        y, m = x, n
        for k in range(5):
            y, m = y * first + (k + 0.25), m * 3 + k
        expected, whole = np.arange(4.0), np.arange(4)
        for k in range(5):
            expected, whole = expected * first + (k + 0.25), whole * 3 + k
        assert (y + m).tolist() == (expected + whole).tolist()


@pytest.mark.parametrize("floats", [0, 1, 2])
def test_many_integers_and_few_floats(floats):
    x = torch.arange(6)
    for first in (0, 5):
        y, n = x, np.arange(6)
        for k in range(plan.FEW_WORDS + 4):
            y, n = y + (first + k), n + (first + k)
        for k in range(floats):
            y, n = y * (first + 0.5 + k), n * (first + 0.5 + k)
        assert y.tolist() == n.tolist()
