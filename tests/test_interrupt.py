"""Ctrl-C: it is answered soon, whatever is being computed, and leaves everything usable."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")

BEGIN = """
import os, signal, sys, threading, time
import antorcha as torch
torch.set_num_threads({threads})

def press(after, answered):
    "Ctrl-C. Python loses one that comes in a __del__: as a person does, it is pressed again."
    while not answered.wait(after):
        os.kill(os.getpid(), signal.SIGINT)
        after = 10

def interrupted(work, after=0.15):
    "Work, or wait if it is done sooner, until Ctrl-C."
    answered = threading.Event()
    try:
        threading.Thread(target=press, args=(after, answered), daemon=True).start()
        work()
        time.sleep(100)
        raise SystemExit("it was not interrupted")
    except KeyboardInterrupt:
        answered.set()

def pending(x):
    return x.storage.node.buffer is None

def seconds(work):
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin

w = torch.randn(800, 800) / 28.3
w.tolist()
"""


def run(script: str, threads: int) -> list[str]:
    script = BEGIN.replace("{threads}", str(threads)) + script
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_long_plan_is_given_up_and_what_was_pending_can_be_computed_again(threads):
    pending, right = run("""
def long(n):
    x = w
    for _ in range(n):
        x = torch.tanh(x @ w)
    return x
long(2).sum().item()
one = seconds(lambda: [long(2).sum().item() for _ in range(5)]) / 10
n = int(0.3 / one) + 2
for _ in range(5):
    x = long(n)
    kept = x * 2
    interrupted(lambda: x.sum().item())
    if pending(x):
        break
    n *= 2
print(pending(x))
y = w
for _ in range(n):
    y = torch.tanh(y @ w)
    y.sum().item()
print(torch.equal(kept, y * 2) and torch.equal(x, y))
""", threads)
    assert pending == right == "True"


@pytest.mark.parametrize("threads", [1, 2])
def test_one_long_step_ends_between_chunks(threads):
    pending, total = run("""
x = torch.linspace(0, 1, 800_000)
x.sum().item()
for _ in range(2):
    y = x
    for _ in range(40):
        y = y.sin().cos().exp()
    total = y.sum()
    whole = seconds(total.item)
    del y
for _ in range(5):
    y = x
    for _ in range(40):
        y = y.sin().cos().exp()
    other = y.sum()
    interrupted(other.item, whole / 10)
    if pending(other):
        break
print(pending(other), other.item() == total.item())
""", threads)
    assert pending == total == "True"


@pytest.mark.parametrize("threads", [1, 2])
def test_what_writes_in_place_is_neither_lost_nor_done_twice(threads):
    """The first step of the plan changes `p` in its memory: it goes on to its end, beside the program where it can."""
    right, = run("""
def begin():
    p, q = torch.ones(300_000), torch.full((300_000,), 3.0)
    (p.sum() + q.sum()).item()
    p.add_(1)
    x = w
    for _ in range(60):
        x = torch.tanh(x @ w)
    q.mul_(x.sum())
    return p, q, x
p, q, x = begin()
x.tolist()
expected = [p.tolist(), q.tolist(), x.tolist()]
p, q, x = begin()
interrupted(x.tolist, 0.1)
print(expected == [p.tolist(), q.tolist(), x.tolist()])
""", threads)
    assert right == "True"


def test_waiting_for_the_background_can_be_interrupted():
    waiting, right = run("""
from antorcha.runtime import flight
def begin(n):
    first = (w * 2).sum()
    x = w
    for _ in range(n):
        x = torch.tanh(x @ w)
    return first, x
for n in (150, 400, 1000):      # the more, the surer that it is interrupted while it waits
    first, x = begin(n)
    first.item(), x.tolist()
    expected = x.tolist()
    first, x = begin(n)
    first.item()
    interrupted(x.tolist, 0.02)
    waiting = bool(flight.awaited)
    if waiting:
        break
print(waiting, x.tolist() == expected)
""", 2)
    assert waiting == right == "True"


def test_a_handler_of_the_programs_own_interrupts_nothing():
    assert run("""
asked = []
signal.signal(signal.SIGINT, lambda *_: asked.append((w[0, 0] * 2).item()))
def long():
    x = w
    for _ in range(150):
        x = torch.tanh(x @ w)
    return x.tolist()
expected = long()
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
print(long() == expected)
while not asked:
    time.sleep(0.01)
print(asked == [(w[0, 0] * 2).item()])
""", 2) == ["True", "True"]


def test_a_replayed_step_is_given_up_before_it_changes_anything():
    right, = run("""
torch.manual_seed(0)
model = torch.nn.Sequential(*[torch.nn.Linear(500, 500) for _ in range(3)])
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
data = torch.randn(1000, 500)

@torch.compile
def step(data):
    optimizer.zero_grad()
    model(data).square().mean().backward()
    optimizer.step()

for _ in range(8):
    step(data)
step(data), model[0].weight.tolist()
time_of_a_step = seconds(lambda: [step(data), model[0].weight.tolist()])
for part in (0.1, 0.4, 0.8):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    sum(v.sum() for v in before.values()).item()
    interrupted(lambda: [step(data), model[0].weight.tolist()], part * time_of_a_step)
    if all(torch.equal(v, model.state_dict()[k]) for k, v in before.items()):
        step(data)
    after = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(before)
    step(data)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in after.items()), part
print(True)
""", 2)
    assert right == "True"


def test_an_interrupted_program_ends_at_once():
    script = BEGIN.replace("{threads}", "2") + """
x = w
p = torch.ones(300_000)
p.sum().item()
p.add_(1)
for _ in range(3000):
    x = torch.tanh(x @ w)
threading.Thread(target=press, args=(2, threading.Event()), daemon=True).start()
print(x.sum().item())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=500)
    assert "KeyboardInterrupt" in done.stderr and not done.stdout
