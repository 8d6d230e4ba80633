"""What must hold whatever happens: any number of threads, interrupts, errors and forks, any shapes, bounded memory."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerance import agree

import antorcha as torch
from antorcha.base import config
from antorcha.base.errors import OutOfMemoryError
from antorcha.graph import flush, mould, node, tape
from antorcha.loops import plan as plans
from antorcha.ops import extern
from antorcha.runtime import cpu, flight, pool
from antorcha.runtime.memory import allocator
from benchmarks import workloads

F = torch.nn.functional


def tensor(*shape, seed=0, **given):
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32), **given)


# -- the same bits for any number of threads --------------------------------------------------------------------

def reductions():
    x = tensor(37, 211, 53)
    return [x.sum(), x.sum(0), x.sum((0, 2)), x.var(1), x.logsumexp(2), x.cumsum(1), x.argmax(1), x.norm(), tensor(1_000_003).sum()]


def contractions():
    a, b = tensor(523, 701), tensor(701, 389, seed=1)
    return [a @ b, a.t() @ a, a @ b[:, 0], torch.einsum("ij,jk->k", a, b), F.conv2d(tensor(4, 3, 31, 29), tensor(7, 3, 3, 3, seed=2))]


def scatters():
    x, index = tensor(5003, 67), torch.tensor(np.random.default_rng(3).integers(0, 97, 5003))
    table = tensor(97, 67, seed=4, requires_grad=True)
    F.embedding(index, table).mul(x).sum().backward()
    return [torch.zeros(97, 67).index_add(0, index, x), torch.zeros(97, 67).scatter_reduce(0, index[:, None].expand(-1, 67), x, "prod"),
            table.grad]


def chains():
    x, w, v = tensor(6007, 19), tensor(131, 19, seed=1, requires_grad=True), tensor(3, 131, seed=2, requires_grad=True)
    F.linear(torch.tanh(F.linear(x, w)), v).square().mean().backward()
    q = tensor(2, 3, 131, 16, seed=5)
    return [w.grad, v.grad, F.scaled_dot_product_attention(q, q, q, is_causal=True)]


def training():
    torch.manual_seed(0)
    model, inputs, targets, loss_of, make = workloads.language(torch, 65, 5, 31, width=24, layers=1, heads=3)
    optimizer = make(list(model.parameters()))
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(model(inputs), targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return list(model.parameters())


@pytest.fixture
def any_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("program", [reductions, contractions, scatters, chains, training])
def test_the_same_bits_for_any_number_of_threads(program, any_threads):
    def bits(threads):
        any_threads(threads)
        return [t.detach().numpy().tobytes() for t in program()]

    one = bits(1)
    for threads in (2, 3, 8):
        assert bits(threads) == one, threads


@pytest.mark.parametrize("allowed, quota, expected", [
    (8, "300000 100000", 3), (2, "300000 100000", 2), (8, "50000 100000", 1), (8, "max 100000", 8), (4, "250000 100000", 2)])
def test_threads_follow_affinity_and_the_control_group(allowed, quota, expected, monkeypatch, tmp_path):
    group = tmp_path / "some" / "job"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text(quota + "\n")
    (tmp_path / "cgroup").write_text("0::/some/job\n")

    def read(path, read=cpu._read):
        return read(path.replace("/proc/self/cgroup", f"{tmp_path}/cgroup").replace("/sys/fs/cgroup", str(tmp_path)))

    monkeypatch.setattr(cpu, "_read", read)
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda process: set(range(allowed)), raising=False)
    assert cpu.available_threads() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_a_process_bound_to_one_processor_computes_with_one_thread():
    script = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import antorcha; print(antorcha.get_num_threads())"
    plain = {k: v for k, v in os.environ.items() if k not in ("ANTORCHA_NUM_THREADS", "OMP_NUM_THREADS")}
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=plain, timeout=500).stdout == "1\n"


# -- interrupts and errors --------------------------------------------------------------------------------------

class InterruptAt:
    """Raises KeyboardInterrupt at the n-th place in some modules where Python may: where a function is entered, or one in C left."""

    FILES = tuple(os.path.join("antorcha", *name) for name in (
        ("graph", "tape.py"), ("graph", "flush.py"), ("loops", "plan.py"), ("runtime", "pool.py"), ("runtime", "flight.py")))

    def __init__(self, n: int):
        self.left = n

    def __enter__(self):
        sys.setprofile(self._event)
        return self

    def __exit__(self, *error):
        sys.setprofile(None)

    def _event(self, frame, event, argument):
        if event in ("call", "c_return") and frame.f_code.co_filename.endswith(self.FILES):
            self.left -= 1
            if self.left == 0:
                sys.setprofile(None)
                raise KeyboardInterrupt


def test_an_interrupt_anywhere_neither_loses_nor_repeats_an_update(any_threads):
    """An update in place takes over the parameter's memory: interrupted, it must be done once all the same."""
    any_threads(2)
    start = np.arange(200_000, dtype=np.float32)

    def step():
        p, g = torch.tensor(start), torch.full((200_000,), 0.5)
        (p.sum() + g.sum()).item()
        other = g.exp()
        total = p.sum()
        for _ in range(3):
            p.sub_(g)
            p.mul_(2.0)
        return p, total, other

    expected = [t.numpy().copy() for t in step()]
    step()[1].item()            # this plan and that of `item` are found from now on
    n, interrupted = 0, True
    while interrupted:
        n += 1
        p, total, other = step()
        try:
            with InterruptAt(n) as places:
                total.item()
        except KeyboardInterrupt:
            pass
        interrupted = places.left <= 0
        assert not any(lock.held() for lock in (tape.computing, tape.mapping, flight.lock, pool._lock)), f"interrupted at place {n}"
        for got, wanted in zip((p, total, other), expected):
            np.testing.assert_array_equal(got.numpy(), wanted, err_msg=f"interrupted at place {n}")
        assert n < 2000
    assert n > 30


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_an_interrupt_during_a_long_computation(interrupted):
    x = tensor(700, 700)
    total = x
    for _ in range(40):
        total = (total @ x).softmax(-1)
    interrupted(lambda: (x @ x).sum().item(), 0.03)
    agree(total.sum(-1), 1)
    assert (x + 1).sum().item() == pytest.approx(x.numpy().sum() + 490_000, rel=1e-4)


def fail(*arrays):
    raise ArithmeticError("no")


def test_an_error_while_computing_loses_only_what_depends_on_it():
    x = tensor(5)
    before = x * 2
    (bad,) = extern.run(extern.host_op("bad", fail), (x,), [((5,), torch.float32)])
    depends, after = bad + 1, before + x
    with pytest.raises(ArithmeticError):
        depends.tolist()
    np.testing.assert_array_equal(after.numpy(), x.numpy() * 2 + x.numpy())
    np.testing.assert_array_equal(before.numpy(), x.numpy() * 2)
    with pytest.raises(RuntimeError, match="lost when an earlier error interrupted"):
        depends.tolist()
    index, y = torch.tensor([1, 9]), before * 3
    with pytest.raises(IndexError):
        x[index].tolist()
    np.testing.assert_array_equal(y.numpy(), x.numpy() * 6)


def as_loaded(index):
    return torch.tensor(index)


def as_made(index):
    return torch.stack([torch.tensor(i) for i in index]).to(torch.int32).long()


def as_computed(index):
    return (torch.tensor(index).float() * 2).div(2).long()


@pytest.mark.parametrize("ask", [False, True], ids=["silent", "logging"])
@pytest.mark.parametrize("made", [as_loaded, as_made, as_computed])
@pytest.mark.parametrize("bad", [((0, 1, 9), (0, 1, 3)), ((0, 1, 2), (0, 1, 4))], ids=["embedding", "classes"])
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_a_step_that_fails_changes_nothing(optimizer, bad, made, ask):
    """An index out of range is found before the step of training that it is in changes anything."""
    def train(steps):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.Tanh(), torch.nn.Linear(3, 4))
        update = getattr(torch.optim, optimizer)(model.parameters(), lr=0.1, **({"momentum": 0.9} if optimizer == "SGD" else {}))
        failed = 0
        for inputs, classes in steps:
            try:
                update.zero_grad()
                loss = F.cross_entropy(model(made(inputs)), made(classes))
                loss.backward()
                update.step()
                if ask:
                    loss.item()
            except IndexError:
                failed += 1
        return failed, [t.tolist() for t in model.parameters()], repr(update.state_dict())

    good = ((0, 1, 2), (3, 1, 0))
    failed, after, state = train([good] * 6 + [bad, good, good])
    assert failed == 1
    assert (0, after, state) == train([good] * 8)


@pytest.mark.parametrize("call, error", [
    (lambda x, i: x[i], IndexError), (lambda x, i: x.index_select(0, i), IndexError), (lambda x, i: x.take(i * 3), IndexError),
    (lambda x, i: x.gather(0, i[:, None]), RuntimeError), (lambda x, i: x.index_add(0, i, x), IndexError),
    (lambda x, i: F.embedding(i, x), IndexError), (lambda x, i: F.nll_loss(x, i), IndexError)])
@pytest.mark.parametrize("make", [as_loaded, as_made])
def test_a_wrong_index_is_an_error_of_the_call(call, error, make):
    x = torch.zeros(3, 3)
    for _ in range(6):      # what is recorded again asks again
        call(x, make([2, 0, 1]))
        with pytest.raises(error, match="expected"):
            call(x, make([2, 0, 3]))


@pytest.mark.parametrize("error", [OutOfMemoryError, MemoryError])
def test_after_running_out_of_memory_everything_can_be_asked_for_again(error, monkeypatch):
    model = torch.nn.Linear(7, 5)
    optimizer = torch.optim.Adam(model.parameters())
    before = np.array(model.weight.tolist())
    model(tensor(3, 7)).sum().backward()
    optimizer.step()

    def refuse(nbytes):
        raise error("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(plans.Buffer, "allocate", refuse)
        with pytest.raises(error):
            model.weight.tolist()
    agree(model.weight, before - 1e-3 * np.sign(model.weight.grad.numpy()))


def test_what_does_not_fit_in_memory_keeps_nobody_from_the_rest(monkeypatch):
    monkeypatch.setattr(node, "MOST", 1 << 60)      # it is found out when the value is computed
    x = tensor(3)
    y = x * 2
    large = torch.zeros(1 << 44) + y[0]
    with pytest.raises(OutOfMemoryError):
        large.sum().item(), large.tolist()
    np.testing.assert_array_equal(y.numpy(), x.numpy() * 2)
    del large
    assert (y + 1).sum().item() == pytest.approx(float(x.numpy().sum()) * 2 + 3, rel=1e-5)


# -- threads and processes --------------------------------------------------------------------------------------

def little_program(seed: int, rounds: int) -> None:
    """Recording, in-place writes, derivatives, NumPy's operators; checked at every turn."""
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        a = rng.standard_normal((int(rng.integers(1, 40)), 7)).astype(np.float32)
        x = torch.tensor(a, requires_grad=True)
        y = (x * 2 + 1).tanh()
        y.sum().backward()
        z = torch.tensor(a)
        z[:, 2] += 1
        z.mul_(3)
        order = torch.linalg.svdvals(z)
        agree(x.grad, 2 * (1 - np.tanh(a * 2 + 1) ** 2))
        a[:, 2] += 1
        agree(z, a * 3)
        agree(order, np.linalg.svd(a * 3, compute_uv=False))


def test_threads_record_side_by_side():
    errors, interval = [], sys.getswitchinterval()

    def work(seed):
        try:
            little_program(seed, 25)
        except BaseException as e:
            errors.append(e)

    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(interval)
    assert not errors, errors[0]


def test_threads_map_and_record_side_by_side():
    failures: list = []
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)

    def map_functions():
        for k in range(40):
            t = torch.tensor(x)
            agree(torch.vmap(lambda row, k=k: (row * k + row.sum()).tanh())(t), np.tanh(x * k + x.sum(1)[:, None]))
            gradients = torch.func.vmap(torch.func.grad(lambda row, k=k: (row.square() * k).sum()))(t)
            agree(gradients, 2 * k * x)

    def draw():
        for _ in range(60):
            assert torch.rand(3).add(1).sum().item() > 3

    def guarded(work):
        try:
            work()
        except BaseException as error:
            failures.append(error)

    programs = [map_functions, map_functions, draw, lambda: little_program(1, 20)]
    threads = [threading.Thread(target=guarded, args=(work,)) for work in programs]
    for t in threads:
        t.start()
    for t in threads:
        t.join(500)
    assert not failures and not any(t.is_alive() for t in threads), failures


def test_a_thread_can_ask_for_what_another_recorded():
    x = tensor(1000)
    values = [x * k for k in range(50)]
    found = []
    threads = [threading.Thread(target=lambda part=part: found.extend(v.sum().item() for v in values[part::5])) for part in range(5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sum(found) == pytest.approx(float(x.numpy().sum()) * sum(range(50)), rel=1e-3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_while_threads_compute():
    x = tensor(300, 300)
    pending, stop = (x @ x).sum(), threading.Event()

    def work():
        while not stop.is_set():
            (x @ x).exp().sum().item()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for t in threads:
        t.start()
    expected = float((x.numpy() @ x.numpy()).sum())
    try:
        for _ in range(4):
            child = os.fork()
            if child == 0:
                signal.alarm(500)
                ok = False
                try:
                    little_program(1, 2)
                    ok = abs(pending.item() - expected) < 1e-2 * abs(expected) + 1
                finally:
                    os._exit(0 if ok else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert pending.item() == pytest.approx(expected, rel=1e-2, abs=1)


# -- other shapes -----------------------------------------------------------------------------------------------

ACTIVATIONS = {"tanh": (np.tanh, lambda y: 1 - y * y), "relu": (lambda x: np.maximum(x, 0), lambda y: (y > 0) * 1.0),
               "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda y: y * (1 - y))}


def by_numpy(weights, biases, x, y, activation, lr, momentum, steps):
    """Steps of SGD on the mean squared error of a perceptron, in float64."""
    f, slope = ACTIVATIONS[activation]
    parameters = [np.array(p, np.float64) for pair in zip(weights, biases) for p in pair]
    velocity = [np.zeros_like(p) for p in parameters]
    losses = []
    for _ in range(steps):
        values = [x.astype(np.float64)]
        for k in range(0, len(parameters), 2):
            z = values[-1] @ parameters[k].T + parameters[k + 1]
            values.append(f(z) if k + 2 < len(parameters) else z)
        error = values[-1] - y
        losses.append((error ** 2).mean())
        g, grads = 2 * error / error.size, [None] * len(parameters)
        for k in reversed(range(0, len(parameters), 2)):
            if k + 2 < len(parameters):
                g = g * slope(values[k // 2 + 1])
            grads[k], grads[k + 1] = g.T @ values[k // 2], g.sum(0)
            g = g @ parameters[k]
        for p, v, d in zip(parameters, velocity, grads):
            v *= momentum
            v += d
            p -= lr * v
    return losses, parameters


odd = st.sampled_from([1, 2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 67, 97, 127, 131, 257])


@settings(max_examples=6)
@given(st.sampled_from([1, 2, 3, 7, 61, 509, 2003, 10007]), st.lists(odd, min_size=2, max_size=4), st.sampled_from(sorted(ACTIVATIONS)),
       st.sampled_from([0.0, 0.9]))
def test_training_steps_of_any_shape(rows, sizes, activation, momentum):
    rng = np.random.default_rng(rows)
    x, y = rng.standard_normal((rows, sizes[0])).astype(np.float32), rng.standard_normal((rows, sizes[-1])).astype(np.float32)
    weights = [(rng.standard_normal((b, a)) / np.sqrt(a)).astype(np.float32) for a, b in zip(sizes, sizes[1:])]
    biases = [rng.standard_normal(b).astype(np.float32) for b in sizes[1:]]

    def train(eager):
        config.eager = eager
        try:
            parameters = [torch.nn.Parameter(torch.tensor(p)) for pair in zip(weights, biases) for p in pair]
            optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=momentum)
            losses = []
            for _ in range(3):
                z = torch.tensor(x)
                for k in range(0, len(parameters), 2):
                    z = F.linear(z, parameters[k], parameters[k + 1])
                    z = getattr(torch, activation)(z) if k + 2 < len(parameters) else z
                loss = F.mse_loss(z, torch.tensor(y))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss)
            return [t.detach().numpy() for t in (*losses, *parameters)]
        finally:
            config.eager = False

    losses, parameters = by_numpy(weights, biases, x, y, activation, 0.05, momentum, 3)
    fused, eager = train(False), train(True)
    for a, b, c in zip(fused, eager, [*losses, *parameters]):
        scale = max(1.0, np.abs(c).max())
        assert np.abs(a - c).max() <= 2e-4 * scale and np.abs(b - c).max() <= 2e-4 * scale


# -- memory -----------------------------------------------------------------------------------------------------

def test_a_program_that_never_asks_for_a_value_does_not_grow(settled):
    model = torch.nn.Sequential(torch.nn.Linear(50, 70), torch.nn.GELU(), torch.nn.Linear(70, 3))
    optimizer = torch.optim.AdamW(model.parameters())
    x, running = tensor(64, 50), torch.zeros(())

    def steps(count):
        nonlocal running
        for _ in range(count):
            loss = model(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            running = running * 0.9 + loss.detach() * 0.1
            assert len(tape.nodes) < 2 * tape.LONGEST
        gc.collect()
        return allocator.allocated, len(gc.get_objects()), flush.counters["made"]

    memory, objects, made = steps(20)
    later, more, plans_made = steps(150)
    assert later <= memory + (1 << 20) and more < objects + 2000 and plans_made <= made + 2
    without = tensor(64, 50)
    for _ in range(3 * tape.LONGEST):
        without = without * 0.999 + 0.001
    assert len(tape.nodes) <= tape.LONGEST + 1
    assert running.item() > 0


def language_step(batch: int, width: int = 64):
    torch.manual_seed(0)
    model, inputs, targets, loss_of, make = workloads.language(torch, 65, batch, 64, width=width, layers=3, heads=4)
    optimizer = make(list(model.parameters()))

    def step(rows=batch):
        optimizer.zero_grad()
        loss = loss_of(model(inputs[:rows]), targets[:rows * 64])
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def test_the_arena_is_much_smaller_than_all_that_is_computed(settled):
    flush.clear()
    step = language_step(8)
    step()
    step()
    tape.flush()
    plan = max(flush._plans.values(), key=lambda plan: plan.arena_bytes)
    nodes = [node for kernel in plan.kernels() for node in kernel["nodes"]]
    everything = sum(int(np.prod(shape)) * dtype.itemsize for _, _, shape, dtype, _ in nodes)
    stored = sum(int(np.prod(shape)) * dtype.itemsize for _, _, shape, dtype, kept in nodes if kept)
    assert plan.arena_bytes < everything / 4 and plan.arena_bytes < 0.75 * stored, (plan.arena_bytes, everything, stored)


def test_a_new_batch_size_takes_no_more_memory(settled, monkeypatch):
    """But for an eighth, the room for a sequence that grows (`graph.mould`)."""
    monkeypatch.setattr(plans, "_arena", None)
    step = language_step(12, 32)
    step()
    step()
    tape.flush()
    gc.collect()
    before, arena = allocator.allocated, plans._arena.nbytes
    most = arena + arena // mould.ROOM
    for rows in (5, 9, 12, 11, 3, 7):
        step(rows)
    tape.flush()
    gc.collect()
    assert plans._arena.nbytes <= most and allocator.allocated <= before + most - arena + (64 << 10)
    plans.arena(most + 1)       # a larger one takes the place of the old
    assert allocator.allocated <= before + arena // 4 + (64 << 10)


@pytest.mark.parametrize("make", [
    lambda: torch.zeros(10**6, 10**7).sum(), lambda: torch.rand(10**6, 10**7), lambda: torch.zeros(10**10, 10**10),
    lambda: torch.zeros(3).expand(10**13, 3).contiguous(), lambda: torch.zeros(10**6, 1) + torch.zeros(1, 10**8),
    lambda: torch.ones(10**7, 1) @ torch.ones(1, 10**7)])
def test_what_has_no_room_anywhere_is_refused_at_the_call(make):
    with pytest.raises(torch.OutOfMemoryError, match="expected a result that fits into memory; received one of .* bytes"):
        make()
