"""What several files of tests need."""

from __future__ import annotations

import pytest


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
