"""What several files of tests need."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--fake-gpu", action="store_true", help="run what needs a GPU on the driver of the tests (fake_cuda.py)")


def pytest_configure(config):
    if config.getoption("--fake-gpu"):
        sys.path.insert(0, str(Path(__file__).parent))
        import fake_cuda

        fake_cuda.install()


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
    tape.state.devices = False
    flush.clear()
