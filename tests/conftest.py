"""What several files of tests need."""

from __future__ import annotations

import gc
import inspect
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from operator import attrgetter
from pathlib import Path

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")     # no test is timed: machines are shared


def pytest_addoption(parser):
    parser.addoption("--fake-gpu", action="store_true", help="run what needs a GPU on the driver of the tests (fake_cuda.py)")


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:       # shells have what runs in the background, and its children, ignore it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "fork" in multiprocessing.get_all_start_methods():       # datasets of tests are local; from Python 3.14 on they would be pickled
        multiprocessing.set_start_method("fork", force=True)
    if config.getoption("--fake-gpu"):
        sys.path.insert(0, str(Path(__file__).parent))
        import fake_cuda

        fake_cuda.install()
    from antorcha.base import config as settings
    settings.drafts = False     # what is tested is what runs in the end; drafts have tests of their own


# What is set for the whole process: module -> its attributes (of which functions are asked).
SETTINGS = {
    "antorcha.base.config": ("eager", "target", "cpu", "float32_matmul", "verify", "fuse", "drafts", "cache"),
    "antorcha.base.dtype": ("_default",),
    "antorcha.base.grad_mode": ("mode.grad", "mode.inference"),
    "antorcha.ops.record": ("core.default_device",),
    "antorcha.core.override": ("state.modes",),
    "antorcha.graph.tape": ("state.gpus", "state.watch", "state.kept", "state.rewriter", "watchers"),
    "antorcha.ops.derivative": ("saving",),
    "antorcha.runtime.pool": ("get_num_threads",),
}


def _process_wide() -> dict:
    found = {"the working directory": os.getcwd()}
    for module, names in SETTINGS.items():
        for name in names if module in sys.modules else ():
            value = attrgetter(name)(sys.modules[module])
            value = value() if inspect.isfunction(value) else value
            found[f"{module}.{name}"] = list(value) if isinstance(value, list) else value
    return found


@pytest.fixture(autouse=True)
def leaves_no_trace(request):
    """Tests run in any order: one that leaves a setting changed fails itself, not another one after it. Each draws its own random
    numbers, and what it leaves pending is no part of another's plan."""
    import antorcha as torch
    from antorcha.graph import tape

    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    before, environment = _process_wide(), set(os.environ.items())
    yield
    tape.flush()
    tape.state.urgent = False       # a look at memory that the outside knows asks for the next operation to be computed at once
    after = _process_wide()
    if request.node.get_closest_marker("gpu"):
        after.pop("antorcha.graph.tape.state.gpus", None)     # there is one from the first use on
    left = {k: (before[k], v) for k, v in after.items() if k in before and v != before[k]}
    if not request.node.get_closest_marker("oracle"):       # PyTorch sets variables when parts of it are imported
        changed = {name for name, _ in environment ^ set(os.environ.items())} - {"PYTEST_CURRENT_TEST"}
        left.update((f"${name}", (dict(environment).get(name), os.environ.get(name))) for name in changed)
    assert not left, f"this test left what is process-wide changed (before, after): {left}"


@pytest.fixture
def settled():
    """For tests that count plans, or what is alive: what others have left is gone, and garbage is collected only where the test asks."""
    from antorcha.graph import tape

    tape.flush()
    gc.collect()
    collects = gc.isenabled()
    gc.disable()
    yield
    if collects:
        gc.enable()


@pytest.fixture
def interrupted():
    """A function that works until a Ctrl-C comes `after` so many seconds. Python loses one that is raised in a finaliser: as a person
    does, it is pressed again."""
    def until_interrupted(work, after: float) -> None:
        answered = threading.Event()

        def press():
            wait = after
            while not answered.wait(wait):
                os.kill(os.getpid(), signal.SIGINT)
                wait = 60

        fingers = threading.Thread(target=press)
        try:
            fingers.start()
            while True:
                work()
                time.sleep(0)
        except KeyboardInterrupt:
            answered.set()
        fingers.join()

    return until_interrupted


@pytest.fixture
def doubling():
    """(an autograd.Function that doubles, a list that grows by one with each call of its derivative)."""
    import antorcha as torch

    calls: list = []

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            calls.append(1)
            return g * 2

    return Double, calls


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs of the imagination (fake_cuda.py)."""
    import fake_cuda

    from antorcha.graph import flush, tape
    from antorcha.runtime import cuda
    from antorcha.targets import ptx

    library = fake_cuda.Library(2)
    monkeypatch.setattr(ptx, "assemble", lambda key, make_ir, architecture, long: make_ir())
    cuda.use(library)
    flush.clear()
    yield library
    tape.flush()
    cuda.use(None)
    tape.state.devices = tape.state.gpus = False
    flush.clear()
