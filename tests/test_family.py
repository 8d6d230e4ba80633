"""A plan made for new sizes from what was decided for others is the plan that would have been made afresh."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerance import agree

import antorcha as torch
from antorcha import nn
from antorcha.base import config
from antorcha.graph import block, chain, family, flush
from antorcha.loops.plan import Extern, Layout, Plan
from antorcha.loops.size import Coincidence, Size, Trace, greatest, least
from antorcha.nn import functional as F

RESIZED = flush._resized
SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 16, 17, 31, 64, 97, 127, 128, 129, 256, 509]


@pytest.fixture(autouse=True)
def compared(monkeypatch):
    """Makes every plan that comes of a family afresh too, and compares; counts them. Those that a recording with blocks finds are compared
    once its blocks are unfolded, as the plan of another recording of the family."""
    resized, folded, count = flush._resized, [], [0]

    def both(nodes, leaves, key, device, wanted, missed=None):
        member, made = resized(nodes, leaves, key, device, wanted)
        if block.Block in map(type, nodes):
            folded[:] = [made]
            return member, None
        if made is not None or folded:
            fresh = flush.make(nodes, leaves, *flush.fates(nodes, leaves, key), device, wanted)
            found = [plan for plan in (made, *folded) if plan is not None]
            count[0] += len(found)
            for plan in found:
                if plan.describe:
                    assert [k["nodes"] for k in plan.kernels()] == [step.group.nodes for step in fresh.steps]
                same(plan.described, fresh)
            whole = Plan(*fresh)
            for plan in found:
                same_plan(plan, whole, fresh.temporaries)
        folded.clear()
        return member, made

    def described(self, numbers):
        made = of_variant(self, numbers)
        made.described = self.made(numbers)
        return made

    of_variant = family.Variant.plan
    flush.clear()
    monkeypatch.setattr(family.Variant, "plan", described)
    monkeypatch.setattr(flush, "_resized", both)
    monkeypatch.setattr(family, "SEEN", 2)
    monkeypatch.setattr(family, "Trace", lambda values, others: Trace(values))
    yield count
    flush.clear()


def same_plan(a: Plan, b: Plan, temporaries: dict) -> None:
    """All but where temporaries lie, which no two may share at a time."""
    for name in ("results", "forms", "checks", "starts", "rows", "written", "first_written", "donated", "safe", "scratch",
                 "alone"):
        assert getattr(a, name) == getattr(b, name), name
    np.testing.assert_array_equal(a.launches, b.launches)
    np.testing.assert_array_equal(a.table_rows[:, [0, 2, 3]], b.table_rows[:, [0, 2, 3]])
    np.testing.assert_array_equal(a.pointer_row, b.pointer_row)
    others, numbers = a.pointer_row != a.arena_row, np.ones(len(a.words), bool)
    np.testing.assert_array_equal(a.pointer_offset[others], b.pointer_offset[others])
    numbers[a.pointer_at] = False
    numbers[[at for words in a.numbers for at, _ in words]] = False
    np.testing.assert_array_equal(a.words[numbers], b.words[numbers])
    assert a.offsets.keys() == b.offsets.keys() == temporaries.keys()
    lives = [(first, last, a.offsets[name], a.offsets[name] + n) for name, (first, last, n) in temporaries.items()]
    for k, (first, last, start, end) in enumerate(lives):
        assert end <= a.arena_bytes
        for other in lives[:k]:
            assert last < other[0] or other[1] < first or end <= other[2] or other[3] <= start


def same(a: family.Made, b: family.Made) -> None:
    for name in ("leaves", "results", "forms", "temporaries", "number_at", "donated"):
        assert getattr(a, name) == getattr(b, name), name
    assert len(a.steps) == len(b.steps)
    for s, t in zip(a.steps, b.steps):
        assert s.group.nodes == t.group.nodes
        if isinstance(s, Extern):
            assert (s.inputs, s.outputs, s.params, s.sizes) == (t.inputs, t.outputs, t.params, t.sizes)
        else:
            assert (s.program.text(), s.args, s.checks, s.writes, s.fails) == (t.program.text(), t.args, t.checks, t.writes, t.fails)
            if s.group.kind == "chain":
                assert (s.kernel.chunks, s.kernel.bytes) == (t.kernel.chunks, t.kernel.bytes)


def numbers(*shape):
    n = int(np.prod(shape))
    return (torch.arange(n).float() * 0.37).sin().view(*shape)


def write(x, y):
    z = x.clone()
    z[:, : x.shape[1] // 2] = y[:, : x.shape[1] // 2] * 2
    return z


# Of two matrices of one shape a new one of that shape.
OPERATORS = [
    lambda x, y: x + y,
    lambda x, y: (x * y).tanh(),
    lambda x, y: x - y.sum(0),
    lambda x, y: x / (2 + y.abs().sum(1, keepdim=True)),
    lambda x, y: x.softmax(1) * y,
    lambda x, y: F.layer_norm(x, x.shape[1:]) + y,
    lambda x, y: (x @ y.t()) @ y * 0.01,
    lambda x, y: x @ torch.ones(x.shape[1], x.shape[1]) * 0.1,
    lambda x, y: torch.cat([x[1:], y[:1]], 0),
    lambda x, y: torch.cat([y, x], 1)[:, : x.shape[1]],
    lambda x, y: x.flatten().view(x.shape[1], x.shape[0]).t() * y,
    lambda x, y: x.cumsum(0) * 0.1 + y,
    lambda x, y: x.sort(0).values + y,
    lambda x, y: x[torch.arange(x.shape[0]) // 2] + y,
    lambda x, y: x.t().contiguous().t() + y.flip(0),
    lambda x, y: torch.where(x > y, x, y.exp()),
    lambda x, y: x * y.mean() + (y * y).sum(),
    lambda x, y: write(x, y),
    lambda x, y: x * 0.5 + y[:, :1].sum(),
    lambda x, y: (x.unsqueeze(0) * y.unsqueeze(1)).sum(0) * 0.01 if x.numel() < 20_000 else x,
]


def run(program, rows, columns):
    values = [numbers(rows, columns), numbers(columns, rows).t().cos()]
    for which, a, b in program:
        values.append(OPERATORS[which](values[a % len(values)], values[b % len(values)]))
    return [values[-1].tolist(), values[len(values) // 2].tolist(), values[-1].abs().sum().item()]    # a sum that cancels says nothing


def as_eager(run, program, sizes, found) -> None:
    """What was found of a program for some sizes is what it gives operator by operator."""
    config.eager = True
    try:
        for size, values in zip(sizes, found):
            for a, b in zip(values, run(program, *size)):
                agree(a, b)
    finally:
        config.eager = False


@settings(max_examples=4)
@given(st.lists(st.tuples(st.integers(0, len(OPERATORS) - 1), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6),
       st.lists(st.tuples(st.sampled_from(SIZES), st.sampled_from(SIZES)), min_size=3, max_size=6))
def test_programs_of_new_sizes(program, sizes):
    flush.clear()
    sizes = [(m, n) for m, n in sizes if m * n < 60_000]
    as_eager(run, program, sizes, [run(program, *size) for size in sizes])


@settings(max_examples=3)
@given(st.lists(st.integers(0, len(OPERATORS) - 1), min_size=1, max_size=4), st.integers(2, 40), st.integers(1, 60))
def test_a_growing_dimension(which, columns, start):
    flush.clear()
    program = [(k, -1, -2) for k in which]
    for rows in range(start, start + 6):
        run(program, rows, columns)


def losses(model, loss, sizes) -> list:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    found = []
    for size in sizes:
        optimiser.zero_grad()
        value = loss(model, *size)
        value.backward()
        optimiser.step()
        found.append(value.item())
    return found


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.qkv, self.out = nn.Embedding(11, 16), nn.Linear(16, 48), nn.Linear(16, 11)

    def forward(self, x):
        batch, length = x.shape
        q, k, v = (t.view(batch, length, 2, 8).transpose(1, 2) for t in self.qkv(self.token(x)).split(16, 2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, 16))


def of_tokens(model, batch, length):
    x = torch.arange(batch * length).view(batch, length) * 5 % 11
    return F.cross_entropy(model(x).flatten(0, 1), x.flatten())


def of_rows(model, rows):
    return model(numbers(rows, 24)).square().mean()


@pytest.mark.parametrize("make, loss, sizes", [
    (Attention, of_tokens, [(3, 17), (3, 18), (3, 19), (3, 21), (3, 1), (5, 21), (7, 21), (6, 21), (6, 23), (6, 22), (6, 25)]),
    (lambda: nn.Sequential(nn.Linear(24, 64), nn.GELU(), nn.BatchNorm1d(64), nn.Linear(64, 3)), of_rows,
     [(40,), (41,), (2,), (30_000,), (30_008,), (29_992,), (31_000,), (30_040,), (30_056,)]),
], ids=["attention", "perceptron"])
def test_training_with_changing_sizes(make, loss, sizes, compared):
    torch.manual_seed(0)
    model = make()
    initial = {name: value.clone() for name, value in model.state_dict().items()}
    found = losses(model, loss, sizes)
    assert compared[0] > 0
    model.load_state_dict(initial)
    config.eager = True
    try:
        agree(losses(model, loss, sizes), found)
    finally:
        config.eager = False


def test_chains_with_changing_rows(compared):
    torch.manual_seed(0)
    first, second = nn.Linear(64, 256), nn.Linear(256, 64)
    with torch.no_grad():
        for rows in (40_000, 40_960, 50_001, 45_007, 38_311, 60_013):
            x = numbers(rows, 64)
            y = second(first(x).relu())
            agree(y[-5:], second(first(x[-5:].clone()).relu()))
            assert any(step.group.kind == "chain" for plan in flush._plans.values() for step in plan.steps)
    assert compared[0] > 1


def test_an_index_out_of_range_in_a_resized_plan(compared):
    weight = numbers(10, 4)
    for n in (5, 6, 7, 8):
        (weight * 1)[:n][torch.arange(n)].tolist()
    with pytest.raises(IndexError, match="for a dimension of size 9; received 9"):
        (weight * 1)[:9][torch.arange(9) + 1].tolist()
    assert compared[0] > 0


def test_a_generated_sequence_is_planned_but_a_few_times(compared):
    model = Attention().eval()
    x = torch.zeros(1, 20, dtype=torch.long)
    with torch.no_grad():
        for _ in range(30):
            x = torch.cat([x, model(x)[:, -1:].argmax(-1)], 1)
            x.tolist()
    assert compared[0] > 15


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.sampled_from([1, 64, 65, 640])), max_size=12), st.randoms())
def test_layout_does_not_follow_the_order_of_a_set(lives, random):
    buffers = [(("part", k), (first, first + more, nbytes)) for k, (first, more, nbytes) in enumerate(lives)]
    layouts = [Layout(), Layout()]
    needed = [layouts[0].place(dict(buffers))]
    random.shuffle(buffers)
    needed.append(layouts[1].place(dict(buffers)))
    assert needed[0] == needed[1] and layouts[0].offsets == layouts[1].offsets


# Of two matrices with rows of their own, a new pair.
PAIRS = [
    lambda x, y: (x * 2 + 1, y.tanh()),
    lambda x, y: (x - y.mean(0), y),
    lambda x, y: (y, x),
    lambda x, y: (torch.cat([x, y], 0)[: x.shape[0]], y),
    lambda x, y: (x + x.sum(), y * y.sum(1, keepdim=True)),
    lambda x, y: ((x @ y.t()).softmax(1) @ y, y),
    lambda x, y: (x[:1] + y[-1:] + x, y.flip(0)),
    lambda x, y: (x[torch.arange(x.shape[0]) // 2], y.cumsum(0) * 0.1),
    lambda x, y: (x.topk(2, 1).values.repeat(1, 2), y[:, [0, 1, 1, 0]]),
    lambda x, y: (x.index_add(0, torch.arange(y.shape[0]) % x.shape[0], y), y),
]


def both(program, rows, others):
    x, y = numbers(rows, 4), numbers(others, 4).cos()
    for which in program:
        x, y = PAIRS[which](x, y)
    return x.tolist(), y.tolist(), (x.sum() + y.sum()).item()


@settings(max_examples=12)
@given(st.lists(st.integers(0, len(PAIRS) - 1), min_size=1, max_size=5),
       st.lists(st.tuples(st.integers(2, 6), st.integers(2, 6)), min_size=8, max_size=12))
def test_sizes_that_happen_to_be_equal(program, sizes):
    flush.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(family, "Trace", Trace)
        patch.setattr(flush, "_resized", RESIZED)
        found = [both(program, *size) for size in sizes]
    as_eager(both, program, sizes, found)


def test_lengths_that_divide_what_they_meet_need_no_plan_of_their_own(monkeypatch):
    """Whether 24 rows of 16 are laid out like others of 8, say, is an accident of the numbers."""
    monkeypatch.setattr(flush, "_resized", RESIZED)
    monkeypatch.setattr(family, "Trace", Trace)
    flush.clear()
    model = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    initial = {name: value.clone() for name, value in model.state_dict().items()}
    sizes = [(8, length, 16) for length in (33, 35, 37, 48, 40, 64, 36, 56, 50, 47)]

    def loss(model, *size):
        return model(numbers(*size)).square().mean()

    before = dict(flush.counters)
    found = losses(model, loss, sizes)
    made, resized = (flush.counters[name] - before[name] for name in ("made", "resized"))
    assert made >= 10 and made - resized <= 8, (made, resized)
    model.load_state_dict(initial)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "eager", True)
        agree(losses(model, loss, sizes), found)


def test_what_a_growing_cache_makes_of_known_functions_is_not_unfolded(monkeypatch):
    """A token at a time, as a language model is asked for them: the plan of each is made to fit, by what its blocks say of their sizes."""
    resized, served = RESIZED, []

    def noted(nodes, *rest):
        member, plan = resized(nodes, *rest)
        served.append(block.Block in map(type, nodes) and plan is not None)
        return member, plan

    def tokens(model, count):
        cache, found, x = [], [], numbers(1, 1, 16)
        for _ in range(count):
            for layer in model:
                cache.append(layer(x))
                seen = torch.cat(cache, 1)
                x = layer(F.scaled_dot_product_attention(x, seen, seen)).tanh()
            found.append(x.sum().item())
        return found

    monkeypatch.setattr(flush, "_resized", noted)
    flush.clear()
    with torch.no_grad():
        model = nn.ModuleList([nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.GELU()) for _ in range(3)])
        found = tokens(model, 40)
        assert sum(served) >= 20
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(config, "eager", True)
            agree(tokens(model, 40), found)


@pytest.mark.skipif(config.target == "interp", reason="nothing is cast for the interpreter")
def test_plans_with_steps_of_numpy_are_cast(monkeypatch):
    """Experts that get some rows each, sometimes equally many."""
    monkeypatch.setattr(flush, "_resized", RESIZED)
    monkeypatch.setattr(family, "Trace", Trace)
    words, made = Plan._words, []
    monkeypatch.setattr(Plan, "_words", lambda plan: made.append(plan) or words(plan))
    random = Random(0)
    experts = [nn.Linear(4, 8) for _ in range(3)]
    x = numbers(400, 4)
    for _ in range(40):
        rows = [random.randrange(100, 106) for _ in experts]
        shared = (x * x.amax()).sort(1).values.exp()
        parts = [expert(shared[:count]).relu().mean(0) * shared[count:].sum() for expert, count in zip(experts, rows)]
        torch.stack(parts).sum().backward()
        [expert.weight.grad.sum().item() for expert in experts]
    assert len(made) <= 12


def test_traces():
    trace = Trace([12, 7])
    a, b = trace.sizes
    found = []
    if a % 4 == 0 and min(a, b) == b and a // 2 * b + -b > 30:
        found += [a * b, abs(b - a), 5]
    assert list(range(b))[-1] == 6                  # the number itself is asked for: only 7 will do
    resized = trace.function(found)
    assert resized(12, 7) == (84, 5, 5) and resized(16, 7) == (112, 9, 5)
    assert resized(14, 7) is None and resized(4, 7) is None and resized(16, 8) is None
    assert a * b is a * b and {a: 1}[12] == 1 and isinstance(a, Size) and not isinstance(a, int)
    with pytest.raises(TypeError):
        a + "1"


def test_the_smaller_of_sizes_is_computed_not_decided():
    trace = Trace([12, 7])
    a, b = trace.sizes
    resized = trace.function([least(a, b), greatest(greatest(a, 10), b), least(5, a) + greatest(2, 3)])
    assert resized(12, 7) == (7, 12, 8) and resized(3, 20) == (3, 20, 6)


def test_thresholds_that_decide_nothing_are_not_asked_for(monkeypatch):
    """Which of a step's values is the largest, whether small ones are large beside others, how many short rows are computed in turn."""
    monkeypatch.setattr(flush, "_resized", RESIZED)
    monkeypatch.setattr(family, "Trace", Trace)
    flush.clear()
    model = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
    random, sizes = Random(1), []
    while len(sizes) < 40:
        batch, length = random.randint(3, 40), random.randint(17, 60)
        if length % 16 and batch * length > 200:
            sizes.append((batch, length, 32))
    before = flush.counters["made"] - flush.counters["resized"]
    losses(model, lambda model, *size: model(numbers(*size)).square().mean(), sizes)
    assert flush.counters["made"] - flush.counters["resized"] - before <= 6


def test_that_shapes_happen_to_be_cut_into_the_rows_of_a_chain_is_not_noted(monkeypatch):
    """The batch * length rows of other layers can be cut into the batch * heads rows of attention's chain for every fourth length."""
    monkeypatch.setattr(flush, "_resized", RESIZED)
    monkeypatch.setattr(family, "Trace", Trace)
    monkeypatch.setattr(chain, "SMALL", 1)
    monkeypatch.setattr(chain, "NS_PER_CALL", 0.0)
    flush.clear()
    model = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
    random = Random(1)
    sizes = [(random.randint(17, 40), random.randint(33, 60), 32) for _ in range(30)]
    before = flush.counters["made"] - flush.counters["resized"]
    losses(model, lambda model, *size: model(numbers(*size)).square().mean(), sizes)
    assert any(k["kind"] == "chain" for k in flush.last().kernels())
    assert flush.counters["made"] - flush.counters["resized"] - before <= 13


def test_traces_tell_what_happens_to_be_equal():
    trace = Trace([12, 13, 24], [5, 7, 10])
    a, b, twice = trace.sizes
    assert a != b and not a * 2 == b * 2 and a * 2 == twice
    resized = trace.function([a + b])
    assert resized(3, 4, 6) == (7,) and resized(3, 3, 6) == (6,) and resized(3, 4, 7) is None
    with pytest.raises(Coincidence):
        assert a * 2 == b + 11
    with pytest.raises(Coincidence):
        assert a == 12
