"""What is recorded again is what would have been recorded: operators of several nodes, derivatives, steps of optimisers."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from tolerance import agree

import antorcha as torch
from antorcha.base import config
from antorcha.graph import block, flush, tape
from antorcha.graph.block import Block
from antorcha.ops import recall
from antorcha.ops.recall import recalled
from antorcha.optim import repeated

F = torch.nn.functional
CALLS = 7       # the first are seen, the fourth noted, the others recorded again


@pytest.fixture
def eagerly(monkeypatch):
    """A function's results where nothing is recorded again."""
    def run(function):
        with monkeypatch.context() as m:
            m.setattr(config, "eager", True)
            return function()
    return run


def values(seed: int, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s).astype(np.float32) for s in shapes]


def differentiated(function, arrays):
    inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
    out = function(*inputs)
    (out * torch.arange(float(out.numel())).reshape(out.shape)).sum().backward()
    return [out.detach().numpy(), *[x.grad.numpy() for x in inputs]]


@pytest.mark.parametrize("name, function, shapes", [
    ("layer_norm", lambda x, w, b: F.layer_norm(x, (6,), w, b), [(4, 6), (6,), (6,)]),
    ("softmax", lambda x: x.softmax(-1), [(4, 6)]),
    ("log_softmax", lambda x: x.log_softmax(0), [(4, 6)]),
    ("var", lambda x: x.var(1), [(4, 6)]),
    ("gelu", F.gelu, [(4, 6)]),
    ("cat", lambda x, y: torch.cat([x, y, x], 1), [(4, 6), (4, 2)]),
    ("cat from the end", lambda x, y: torch.cat([x, torch.empty(0), y], -1), [(4, 6), (4, 2)]),
    ("stack", lambda x, y: torch.stack((x, y), -1), [(4, 6), (4, 6)]),
    ("prod", lambda x: x.prod(1), [(4, 6)]),
    ("attention", lambda q, k, v: F.scaled_dot_product_attention(q, k, v), [(2, 4, 6)] * 3),
])
def test_operators_with_other_values(name, function, shapes, eagerly):
    for seed in range(CALLS):
        arrays = values(seed, *shapes)
        agree(differentiated(function, arrays), eagerly(lambda arrays=arrays: differentiated(function, arrays)))


def test_arguments_that_are_one_tensor_and_then_are_not():
    x, (w, b) = torch.tensor(values(0, (4, 6))[0]), map(torch.tensor, values(1, (6,), (6,)))
    unit = F.layer_norm(x, (6,)).numpy()
    for _ in range(CALLS):
        agree([F.layer_norm(x, (6,), w, w)], [unit * w.numpy() + w.numpy()])
    for _ in range(CALLS):
        agree([F.layer_norm(x, (6,), w, b)], [unit * w.numpy() + b.numpy()])


def test_equal_numbers_of_different_types_and_other_numbers():
    x = torch.tensor(values(0, (4, 6))[0])
    for eps in (1, 1.0, 1e-5, 2.0):
        for _ in range(CALLS):
            a = x.numpy()
            c = a - a.mean(1, keepdims=True)
            agree([F.layer_norm(x, (6,), eps=eps)], [c / np.sqrt((c * c).mean(1, keepdims=True) + eps)])


def test_new_lengths_are_noted_at_their_first_call_once_others_came_again(monkeypatch):
    noted = []
    real = recall.observe
    monkeypatch.setattr(recall, "observe", lambda call, tensors, nodes: noted.append(tensors[0].shape[0]) or real(call, tensors, nodes))

    @recalled
    def function(x):
        return (x * 2.0 + 1.0).exp().sum(0)

    def calls(n: int, count: int):
        for seed in range(count):
            (a,) = values(seed, (n, 3))
            agree([function(torch.tensor(a))], [np.exp(a * 2 + 1).sum(0)])

    calls(4, 3)
    assert noted == []
    calls(4, CALLS)
    assert noted == [4]
    for n in range(5, 5 + recall.TRUST):
        calls(n, 1)
    assert noted == [4, 5, 6, 7, 8]
    calls(9, 1)
    calls(10, 1)            # sizes that come once are not noted for ever
    assert noted == [4, 5, 6, 7, 8]
    calls(9, CALLS)
    calls(11, 2)
    assert noted == [4, 5, 6, 7, 8, 9, 11]


def test_what_a_first_call_does_alone_is_no_reason_to_give_a_kind_up(monkeypatch):
    met = set()

    @recalled
    def function(x):
        if x.shape[0] not in met:
            met.add(x.shape[0])
            x.sum().item()          # it asks for a value
        return (x * 2.0 + 1.0).exp().sum(0)

    real, noted = recall.Memory.keep, []
    monkeypatch.setattr(recall.Memory, "keep", lambda *given: noted.append(given[3] is not None) or real(*given))
    for n in (4, 5):
        for seed in range(CALLS):
            (a,) = values(seed, (n, 3))
            agree([function(torch.tensor(a))], [np.exp(a * 2 + 1).sum(0)])
    assert noted == [True, False, True]


def test_a_bool_is_no_integer_whatever_the_other_arguments():
    @recalled
    def scaled(x, by):
        return x * 2.0 if type(by) is bool else x * 3.0

    x = torch.ones(2)
    for by, expected in [*[(1, 3.0)] * CALLS, *[(True, 2.0)] * CALLS]:
        assert scaled(x, by).tolist() == [expected] * 2


def test_another_thread_computes_nothing_while_a_call_is_noted(monkeypatch):
    """It would make leaves of the nodes that are written down."""
    real, threads = recall.Text.record, []

    def record(text, recorded):
        other = threading.Thread(target=torch.ones(3).sum().item)
        other.start()
        threads.append(other)
        other.join(0.5)
        real(text, recorded)

    monkeypatch.setattr(recall.Text, "record", record)

    @recalled
    def function(x):
        return (x * 2.0 + 1.0).exp()

    kept = []
    for seed in range(CALLS):
        (a,) = values(seed, (4, 3))
        kept.append((function(torch.tensor(a)), np.exp(a * 2 + 1)))
    assert threads
    for found, expected in kept:
        agree(found, expected)
    for t in threads:
        t.join()


def test_what_another_thread_records_meanwhile_is_not_noted():
    """All threads record into one list."""
    drawn, layer = torch.ones(2, 3), torch.nn.LayerNorm(3)
    for _ in range(CALLS):
        layer(drawn).tolist()       # a block, by now

    def elsewhere():
        kept.append(layer(drawn))

    @recalled
    def function(x):
        y = x * 2.0 + 1.0
        if recall.state.watch is not None:      # otherwise nothing is a block
            watch, recall.state.watch = recall.state.watch, None
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            recall.state.watch = watch
        return y.exp()

    kept: list = []
    for seed in range(CALLS):
        (a,) = values(seed, (4, 3))
        before = len(recall.tape.nodes)
        found = function(torch.tensor(a))
        recorded = len(recall.tape.nodes) - before
        agree(found, np.exp(a * 2 + 1))
    assert len(kept) >= 1 and recorded == 1      # a block, of its own nodes


def test_a_thread_has_modes_of_its_own():
    def differentiable(found):
        found.append((x @ x).requires_grad)

    x, found = torch.ones(2, 2, requires_grad=True), []
    for _ in range(CALLS):
        differentiable(found)
    with torch.no_grad(), torch.autocast("cpu"):
        differentiable(found)
        thread = threading.Thread(target=differentiable, args=(found,))
        thread.start()
        thread.join()
    assert found == [True] * CALLS + [False, True]


def test_an_index_that_is_found_late_to_be_out_of_range_is_told_by_the_line():
    table, indices = torch.ones(3, 2), torch.tensor([0, 2])
    for _ in range(CALLS):
        F.embedding(indices, table).tolist()        # which are in memory, and looked at
    F.embedding((torch.ones(2) * 2.0).long(), table).tolist()
    with pytest.raises(IndexError, match=__file__):
        F.embedding((torch.ones(2) * 3.0).long(), table).tolist()


def test_memory_that_is_larger_than_the_tensor():
    whole = torch.tensor(values(0, (9, 6))[0])
    for part in [torch.tensor(values(1, (4, 6))[0]), whole[:4]] * CALLS:
        a = np.exp(part.numpy())
        agree([part.softmax(1)], [a / a.sum(1, keepdims=True)])
        agree([torch.cat([part, part])], [np.concatenate([part.numpy()] * 2)])


def test_memory_that_numpy_shares():
    array = values(0, (4, 6))[0]
    x = torch.from_numpy(array)
    for k in range(CALLS):
        array[0, 0] = k
        a = np.exp(array)
        agree([x.softmax(1)], [a / a.sum(1, keepdims=True)])
    y = x.softmax(1)
    assert type(tape.nodes[-1]) is Block        # it was recorded again, and reads what the array held then
    array[0, 0] = -1.0
    agree([y], [a / a.sum(1, keepdims=True)])
    views = [x.unflatten(1, (2, 3)) for _ in range(CALLS)]
    x[0, 0] = 2.0
    assert array[0, 0] == 2.0 and all([v[0, 0, 0].item() == 2.0 for v in views])


def test_derivatives_of_derivatives_after_plain_ones():
    x = torch.tensor(values(0, (3, 4))[0], requires_grad=True)
    for _ in range(CALLS):
        x.softmax(1).pow(2).sum().backward()
    assert torch.autograd.gradgradcheck(lambda t: t.softmax(1), torch.tensor(x.detach().numpy(), dtype=torch.float64, requires_grad=True))


def history(t) -> list:
    """Names of the derivatives that a tensor leads to, and which leaf is where."""
    found, stack, seen = [], [t.grad_fn], {}
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen[node] = len(seen)
        found.append((node.name(), [None if n is None else (seen.get(n), k) for n, k in node.next_functions]))
        stack += [n for n, _ in reversed(node.next_functions)]
    return found


LAYERS = [
    ("layer_norm", lambda x, w, b: F.layer_norm(x, (6,), w, b), [(4, 6), (6,), (6,)]),
    ("linear", lambda x, w, b: F.linear(x, w, b), [(2, 4, 6), (3, 6), (3,)]),
    ("conv2d", lambda x, w: F.conv2d(x, w, padding=1), [(2, 3, 4, 4), (2, 3, 3, 3)]),
    ("max_pool2d", lambda x: F.max_pool2d(x, 2), [(2, 3, 4, 4)]),
    ("batch_norm", lambda x, w: F.batch_norm(x, None, None, w, None, True), [(5, 3), (3,)]),
    ("cross_entropy", lambda x: F.cross_entropy(x, torch.tensor([1, 0, 2, 5])), [(4, 6)]),
    ("rows", lambda x: x[torch.tensor([2, 0, 2])], [(4, 6)]),
    ("rows and columns", lambda x: x[1:, torch.tensor([2, 0, 2]), None], [(4, 6)]),
    ("einsum", lambda x, y: torch.einsum("ij,jk->ik", x, y), [(4, 6), (6, 3)]),
    ("max", lambda x: x.max(1)[0], [(4, 6)]),
    ("stack", lambda x, y: torch.stack([x, y, x]), [(4, 6), (4, 6)]),
    ("heads", lambda x, w, v: F.multi_head_attention_forward(x, x, x, 6, 2, w, None, None, None, False, 0.0, v, None)[0],
     [(3, 2, 6), (18, 6), (6, 6)]),
]


@pytest.mark.parametrize("name, function, shapes", LAYERS)
def test_layers_with_other_values(name, function, shapes, eagerly):
    for seed in range(CALLS):
        arrays = values(seed, *shapes)
        agree(differentiated(function, arrays), eagerly(lambda arrays=arrays: differentiated(function, arrays)))


@pytest.mark.parametrize("name, function, shapes", LAYERS)
def test_histories_are_the_same(name, function, shapes, eagerly):
    arrays = values(0, *shapes)

    def run():
        return history(function(*[torch.tensor(a, requires_grad=True) for a in arrays]))
    expected = eagerly(run)
    assert [run() for _ in range(CALLS)] == [expected] * CALLS


@pytest.mark.parametrize("name, function, shapes", LAYERS)
def test_inputs_that_require_grad_and_then_do_not(name, function, shapes):
    arrays = values(0, *shapes)
    whole = differentiated(function, arrays)[1:]
    for _ in range(CALLS):
        for chosen in range(2 ** len(arrays)):
            inputs = [torch.tensor(a, requires_grad=bool(chosen >> k & 1)) for k, a in enumerate(arrays)]
            out = function(*inputs)
            assert out.requires_grad == bool(chosen)
            with torch.no_grad():
                assert not function(*inputs).requires_grad
            if chosen:
                (out * torch.arange(float(out.numel())).reshape(out.shape)).sum().backward()
            for k, x in enumerate(inputs):
                if chosen >> k & 1:
                    agree([x.grad], [whole[k]])
                else:
                    assert x.grad is None


def test_hooks_on_tensors_and_derivatives():
    x = torch.tensor(values(0, (4, 6))[0], requires_grad=True)
    for _ in range(CALLS):
        x.grad, seen = None, []
        y = F.layer_norm(x, (6,))
        y.grad_fn.register_hook(lambda after, before, seen=seen: seen.append("derivative"))
        y.register_hook(lambda g, seen=seen: seen.append("tensor") or g * 2)
        handle = x.register_hook(lambda g, seen=seen: seen.append("leaf"))
        (y * y.detach()).sum().backward()
        handle.remove()
        assert seen == ["tensor", "derivative", "leaf"]


def test_hooks_on_what_is_kept_see_every_tensor():
    x, counts = torch.tensor(values(0, (4, 6))[0], requires_grad=True), []
    for _ in range(CALLS):
        packed = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, packed=packed: packed.append(t) or t, lambda t: t):
            F.layer_norm(x, (6,)).softmax(1).sum().backward()
        counts.append(len(packed))
        F.layer_norm(x, (6,)).softmax(1).sum().backward()
    assert counts == [counts[0]] * CALLS and counts[0]


def test_what_is_kept_must_not_be_written_to():
    for _ in range(CALLS):
        x = torch.tensor(values(0, (4, 6))[0], requires_grad=True)
        y = x * 1.0
        out = F.layer_norm(y, (6,)).sum()
        y.add_(1.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            out.backward()


def test_a_second_backward_pass_is_refused():
    x = torch.tensor(values(0, (4, 6))[0], requires_grad=True)
    for _ in range(CALLS):
        out = F.layer_norm(x, (6,)).sum()
        out.backward()
        with pytest.raises(RuntimeError, match="a second time"):
            out.backward()


def test_anomalies_are_found():
    x = torch.zeros(3, requires_grad=True)
    for _ in range(CALLS):
        F.normalize(x + 1, dim=0).sum().backward()
        with torch.autograd.set_detect_anomaly(True), pytest.raises(RuntimeError, match="nan"):
            (x - float("inf")).softmax(0).sum().backward()


def test_writes_to_views_of_results():
    base = values(0, (4, 6))[0]
    for _ in range(CALLS):
        x = torch.tensor(base, requires_grad=True)
        parts = F.layer_norm(x, (6,)).split(3, 1)
        rows = torch.flatten(x * 2, 0)
        rows.view(4, 6)[0].mul_(3)
        (rows.sum() + parts[0].sum()).backward()
        expected = np.full((4, 6), 2.0)
        expected[0] = 6.0
        y = torch.tensor(base, requires_grad=True)
        F.layer_norm(y, (6,))[:, :3].sum().backward()
        agree([x.grad], [expected + y.grad.numpy()])


def test_running_statistics_are_written(eagerly):
    def run():
        layer = torch.nn.BatchNorm1d(3)
        for seed in range(CALLS):
            layer(torch.tensor(values(seed, (5, 3))[0], requires_grad=True)).sum().backward()
        return [layer.running_mean.numpy(), layer.running_var.numpy(), layer.num_batches_tracked.numpy(), layer.running_mean._version]
    for a, b in zip(run(), eagerly(run)):
        agree([a], [b])


@pytest.mark.parametrize("function", [lambda x: F.dropout(x, 0.5), lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5),
                                      lambda x: F.dropout1d(x, 0.5)])
def test_masks_are_drawn_anew_and_in_order(function, eagerly):
    def run():
        torch.manual_seed(3)
        x = torch.ones(2, 4, 6)
        return [function(x).numpy() for _ in range(CALLS)]
    again = run()
    agree(again, eagerly(run))
    assert not np.array_equal(again[-1], again[-2])


def test_warnings_come_at_each_call():
    x, y = torch.ones(3, 1), torch.ones(3)
    for _ in range(CALLS):
        with pytest.warns(UserWarning, match="different to the input size"):
            F.mse_loss(x, y)


def test_errors_come_at_each_call():
    x = torch.ones(4, 6)
    for _ in range(CALLS):
        F.layer_norm(x, (6,))
        with pytest.raises(RuntimeError, match="layer_norm"):
            F.layer_norm(x, (5,))
        with pytest.raises(IndexError, match="embedding"):
            F.embedding(torch.tensor([7]), x).tolist()


def test_lists_of_arguments_that_are_changed_afterwards():
    x, dims = torch.tensor(values(0, (2, 3, 4))[0], requires_grad=True), [0, 1]
    for _ in range(CALLS):
        for own in ([0, 1], [1, 2], [2, 0]):
            dims[:] = own
            x.grad = None
            x.amax(dims).sum().backward()
            found, x.grad = x.grad, None
            x.amax(tuple(own)).sum().backward()
            agree([found], [x.grad])


def test_autocast_and_other_default_dtypes():
    x, w = torch.ones(4, 6), torch.ones(3, 6)
    for _ in range(CALLS):
        assert F.linear(x, w).dtype is torch.float32
        with torch.autocast("cpu", torch.bfloat16):
            assert F.linear(x, w).dtype is torch.bfloat16
            assert F.cross_entropy(x, torch.zeros(4, dtype=torch.int64)).dtype is torch.float32
        torch.set_default_dtype(torch.float64)
        try:
            assert torch.arange(6).sigmoid().mean().dtype is torch.float64
        finally:
            torch.set_default_dtype(torch.float32)
        assert torch.arange(6).sigmoid().mean().dtype is torch.float32


def test_a_mapped_function_and_forward_derivatives(eagerly):
    def run():
        x = torch.tensor(values(0, (5, 4, 6))[0])
        normal = lambda t: F.layer_norm(t, (6,)).softmax(1)
        return [torch.func.vmap(normal)(x), normal(x[0]), *torch.func.jvp(normal, (x[0],), (x[1],))]
    expected = [t.numpy() for t in eagerly(run)]
    for _ in range(CALLS):
        agree(run(), expected)


def trained(optimizer, steps: int = 9, schedule=None):
    w, b = (torch.tensor(a, requires_grad=True) for a in values(0, (5, 3), (3,)))
    x = torch.tensor(values(1, (7, 5))[0])
    opt = optimizer([w, b])
    rates = schedule(opt) if schedule else None
    for _ in range(steps):
        opt.zero_grad()
        ((x @ w + b) ** 2).mean().backward()
        opt.step()
        if rates:
            rates.step()
    return [w.detach().numpy(), b.detach().numpy()]


@pytest.mark.parametrize("name, options", [
    ("SGD", {}), ("SGD", dict(momentum=0.9, nesterov=True, weight_decay=0.1)), ("Adam", {}), ("Adam", dict(amsgrad=True, maximize=True)),
    ("AdamW", {}), ("NAdam", {}), ("RAdam", {}), ("Adamax", {}), ("RMSprop", dict(centered=True, momentum=0.5)), ("Adagrad", {}),
    ("Adadelta", {}), ("ASGD", dict(t0=4)), ("Rprop", {}), ("Adafactor", {}),
])
def test_steps_are_those_of_the_rule(name, options, eagerly):
    def run():
        return trained(lambda ps: getattr(torch.optim, name)(ps, lr=0.05, **options),
                       schedule=lambda o: torch.optim.lr_scheduler.StepLR(o, 2))
    repeated._known.clear()
    agree(run(), eagerly(run))


def test_rules_are_recorded_again():
    repeated._known.clear()
    trained(lambda ps: torch.optim.AdamW(ps))
    found = [(count, s) for known in repeated._known.values() for count, s in known.memory.found.items() if s]
    assert [(count, len(s)) for count, s in found] == [(2, 1)]


def test_steps_of_several_parameters_are_one_entry():
    parameters = [torch.randn(3, 4, requires_grad=True) for _ in range(5)]
    opt = torch.optim.Adam(parameters)
    for _ in range(CALLS):
        for p in parameters:
            p.grad = torch.randn(3, 4)
        tape.flush()
        opt.step()
    (found,) = tape.nodes
    assert type(found) is Block and len(found.form.sites) == 30 and len(found.made) == 15


def test_parameters_whose_steps_are_counted_apart(eagerly):
    """Some have no gradient in some steps, some have another layout, some share memory."""
    def run():
        torch.manual_seed(0)
        parameters = [torch.randn(3, 4, requires_grad=True) for _ in range(4)]
        opt = torch.optim.Adam(parameters, lr=0.1, maximize=True)
        for i in range(3 * CALLS):
            flat = torch.randn(4, 4, 3)
            for k, p in enumerate(parameters):
                p.grad = None if k == 1 and i % 3 else flat[k].t() if i % 5 else flat[k].reshape(3, 4)
            if i == 2 * CALLS:
                opt.load_state_dict(opt.state_dict())
                opt.state[parameters[0]]["exp_avg"] = opt.state[parameters[3]]["exp_avg"]
            opt.step()
        return [p.detach() for p in parameters]
    repeated._known.clear()
    for a, b in zip(run(), eagerly(run), strict=True):
        agree(a, b)


def test_a_count_of_steps_that_is_set_back():
    p = torch.ones(3, requires_grad=True)
    opt, rates = torch.optim.Adam([p], lr=0.1), []
    for step in [0.0] * CALLS + [7.0]:
        p.grad = torch.ones(3)
        if opt.state:
            for s in opt.state[p].values():
                if isinstance(s, torch.Tensor):
                    s.zero_()
            opt.state[p]["step"] = step
        before = p.detach().numpy().copy()
        opt.step()
        rates.append((before - p.detach().numpy())[0])
    assert opt.state[p]["step"] == 8.0
    agree(rates[:-1], 0.1)
    t = 8
    expected = 0.1 * (0.1 / (1 - 0.9 ** t)) / (0.001 ** 0.5 / (1 - 0.999 ** t) ** 0.5)
    agree(rates[-1], expected)


def test_no_further_plans_are_made(settled):
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.LayerNorm(8), torch.nn.GELU(), torch.nn.Linear(8, 3))
    opt, x, y = torch.optim.Adam(model.parameters()), torch.randn(5, 6), torch.randint(0, 3, (5,))
    made = []
    for _ in range(CALLS + 2):
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        loss.item()
        made.append(flush.counters["made"])
    assert made[-1] == made[2]


@pytest.mark.parametrize("alike", ["all", "key and value", "none"])
def test_attention_of_the_batch_first_projects_one_tensor_once(alike):
    torch.manual_seed(0)
    first, other = torch.nn.MultiheadAttention(8, 2, batch_first=True), torch.nn.MultiheadAttention(8, 2)
    other.load_state_dict(first.state_dict())
    x, y, z = (torch.randn(3, 5, 8) for _ in range(3))
    inputs = (x, x, x) if alike == "all" else (x, y, y) if alike == "key and value" else (x, y, z)

    def products(call):
        tape.flush()
        kept = call()
        block.unfold(tape.nodes)
        return kept, sum(n.op.family == "contraction" for n in tape.nodes)

    found, count = products(lambda: first(*inputs)[0])
    turned = {id(t): t.transpose(0, 1) for t in inputs}
    expected, same = products(lambda: other(*[turned[id(t)] for t in inputs])[0].transpose(0, 1))
    assert count == same
    agree(found, expected)


VIEWS = {
    "view": lambda t: t.view(2, -1), "reshape": lambda t: t.reshape(-1), "permute": lambda t: t.permute(1, 0),
    "expand": lambda t: t.expand(2, 4, 6), "split": lambda t: t.split(4, 1), "chunk": lambda t: t.chunk(3, 1),
    "unbind": lambda t: t.unbind(1), "flatten": lambda t: t.flatten(),
}


@pytest.mark.parametrize("name, function", VIEWS.items(), ids=VIEWS)
def test_views_made_by_other_operators(name, function):
    """The first call finds out what they are, later ones make them at once."""
    shown = []
    for _ in range(3):
        leaf, data = torch.ones(4, 6, requires_grad=True), torch.zeros(4, 6)
        base = leaf * 2.0
        with torch.no_grad():
            assert not parts(function(leaf))[0].requires_grad
        found = function(base)
        several = parts(found)
        assert all(t._base is base for t in several) and parts(function(data))[-1].grad_fn is None
        shown.append((type(found), [(t.shape, t.stride(), t.storage_offset(), t.grad_fn.name(), t.output_nr) for t in several],
                      [f[0] is base.grad_fn for f in several[-1].grad_fn.next_functions]))
        (several[-1] * 3.0).sum().backward()
        expected = torch.zeros(4, 6)
        for t in parts(function(expected))[-1:]:
            for _ in range(2 if name == "expand" else 1):
                t[0 if name == "expand" else ...] += 6.0
        agree(leaf.grad, expected)
        if name != "expand":
            parts(function(data))[0].fill_(1.0)
            assert data.sum() == several[0].numel() and data._version == 1
    assert shown == shown[:1] * 3
    assert getattr(torch.Tensor, name).record.cache or name == "unbind"


def parts(found):
    return found if isinstance(found, (tuple, list)) else (found,)


def test_tuples_of_integers_say_all_by_their_values():
    calls = []

    @recalled
    def function(x, dims, scale=(1,)):
        calls.append(dims)
        return (x + 1.0).sum(tuple(map(int, dims))) * scale[0]

    x = torch.randn(2, 3, 4)
    for dims in [(0, 1), torch.Size([2]), (0, 1.0), (True,)] * CALLS:
        agree(function(x, dims), (x + 1.0).sum(tuple(map(int, dims))))
    agree(function(x, (0, 1), (2.0,)), 2 * (x + 1.0).sum((0, 1)))
    agree(function(x, (0, 1), (2,)), 2 * (x + 1.0).sum((0, 1)))
    del calls[:]
    for dims in [(0, 1), torch.Size([2])]:
        function(x, dims)
    assert not calls


@pytest.mark.parametrize("name, known, equal", [
    ("view", (2, 3), (2.0, 3)), ("view", ((2, 3),), ((2, 3.0),)), ("view", (1, 6), (True, 6)), ("reshape", (2, 3), (2.0, 3)),
    ("expand", (2, 6), (2.0, 6)), ("permute", (0,), (0.0,)), ("permute", ((0,),), ((0.0,),)), ("transpose", (0, 0), (0.0, 0)),
    ("transpose", (0, 0), (False, 0)), ("split", (2,), (2.0,)), ("chunk", (2,), (2.0,)), ("unsqueeze", (1,), (1.0,)),
    ("squeeze", ((0,),), ((0.0,),)), ("flatten", (0, 0), (0.0, 0)), ("unbind", (0,), (0.0,)), ("movedim", ((0,), (0,)), ((0,), (0.0,))),
    ("unfold", (0, 2, 1), (0, 2.0, 1)), ("narrow", (0, 1, 2), (0, 1, 2.0)), ("select", (0, 1), (0, 1.0)),
    ("unflatten", (0, (2, 3)), (0, (2, 3.0))),
    ("diagonal", (0,), (0.0,)), ("as_strided", ((2,), (1,)), ((2.0,), (1,))), ("__getitem__", (slice(0, 1),), (slice(0.0, 1),)),
    ("sum", (0,), (0.0,)), ("sum", ((0,),), ((0.0,),)), ("sum", (0, True), (0, 1)), ("mean", (0,), (False,)), ("amax", (0,), (0.0,))])
def test_arguments_equal_to_known_ones_are_told_by_their_types(name, known, equal):
    """Integers, floats and truth values that are equal have one hash, too."""
    x = torch.arange(6.0)[:, None].expand(6, 6) if name == "diagonal" else torch.arange(6.0)
    for _ in range(CALLS):
        getattr(x, name)(*known)
        with pytest.raises(TypeError):
            getattr(x, name)(*equal)


def test_a_sequence_of_sizes_is_known_as_they_are():
    x = torch.arange(6.0)
    x.view(3, 2)
    known = torch.Tensor.view.record.cache
    before = len(known)
    for size in [(3, 2)], [[3, 2]], [torch.Size([3, 2])]:
        assert x.view(*size).tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert len(known) == before
