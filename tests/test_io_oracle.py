"""Files go both ways between antorcha and PyTorch."""

from __future__ import annotations

import io
from collections import OrderedDict

import numpy as np
import pytest

import antorcha
from antorcha.nn.parameter import Parameter

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.oracle

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64"]


def both_ways(make, **options):
    """The object made by PyTorch and read here, and made here and read by PyTorch."""
    ours, theirs = io.BytesIO(), io.BytesIO()
    antorcha.save(make(antorcha), ours)
    torch.save(make(torch), theirs)
    ours.seek(0)
    theirs.seek(0)
    return antorcha.load(theirs, **options), torch.load(ours, **options)


def assert_same(a, b):
    if isinstance(a, (antorcha.Tensor, torch.Tensor)):
        assert str(a.dtype) == str(b.dtype) and tuple(a.shape) == tuple(b.shape) and tuple(a.stride()) == tuple(b.stride())
        assert a.storage_offset() == b.storage_offset() and a.requires_grad == b.requires_grad
        assert type(a).__name__ == type(b).__name__
        assert np.array_equal(np.array(a.tolist()), np.array(b.tolist()))
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            assert_same(x, y)
    else:
        assert str(a) == str(b)


def everything(torch):
    x = torch.arange(24.0).reshape(4, 6)
    parameter = antorcha.nn.parameter.Parameter if torch is antorcha else torch.nn.Parameter
    return {
        "x": x, "view": x[1:, ::2], "turned": x.t(), "scalar": torch.tensor(3), "empty": torch.zeros(0, 3),
        "dtypes": [torch.tensor([0, 1]).to(getattr(torch, name)) for name in DTYPES],
        "grad": torch.ones(2, requires_grad=True), "parameter": parameter(torch.ones(3)),
        "frozen": parameter(torch.ones(3), requires_grad=False), "dtype": torch.float64, "device": torch.device("cpu"),
        "size": torch.Size([1, 2]), "set": {1}, "ordered": OrderedDict(a=1), "nested": [({"k": (1, 2.5, None, True)},)],
        "text": "é", "long": list(range(500)), "big": 2**80, "bytes": b"\x00\xff", "complex": 2j,
    }


@pytest.mark.parametrize("weights_only", [True, False])
def test_everything(weights_only):
    read_here, read_there = both_ways(everything, weights_only=weights_only)
    assert_same(read_here, read_there)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_protocols(protocol):
    file = io.BytesIO()
    torch.save(everything(torch), file, pickle_protocol=protocol)
    file.seek(0)
    assert_same(antorcha.load(file), everything(torch))
    file = io.BytesIO()
    antorcha.save(everything(antorcha), file, pickle_protocol=protocol)
    file.seek(0)
    assert_same(torch.load(file, weights_only=protocol == 2), everything(torch))


def test_sharing_survives():
    read_here, read_there = both_ways(lambda torch: (lambda x: [x, x[1]])(torch.zeros(2, 3)))
    for x, row in (read_here, read_there):
        row.fill_(5)
        assert x.tolist() == [[0.0] * 3, [5.0] * 3]


@pytest.mark.parametrize("weights_only", [True, False])
def test_module_and_optimizer_state(weights_only):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    back = antorcha.load(file, weights_only=weights_only)
    assert_same(back, state)
    assert back["model"]._metadata[""] == {"version": 1}
    file = io.BytesIO()
    antorcha.save(back, file)
    file.seek(0)
    again = torch.load(file)
    model.load_state_dict(again["model"])
    optimizer.load_state_dict(again["optimizer"])


@pytest.mark.parametrize("weights_only", [True, False])
def test_legacy_format(weights_only):
    file = io.BytesIO()
    x = torch.arange(6.0)
    obj = {"x": x, "tail": x[4:], "p": torch.nn.Parameter(torch.ones(2)), "n": 3}
    torch.save(obj, file, _use_new_zipfile_serialization=False)
    data = file.getvalue()
    back = antorcha.load(io.BytesIO(data), weights_only=weights_only)
    assert back["x"].tolist() == x.tolist() and back["tail"].tolist() == [4.0, 5.0] and type(back["p"]) is Parameter
    for length in range(10, len(data), 37):
        with pytest.raises((RuntimeError, EOFError, antorcha.serialization.pickle.UnpicklingError)):
            antorcha.load(io.BytesIO(data[:length]), weights_only=weights_only)


def test_files_without_checksums_and_other_dtypes():
    torch.serialization.set_crc32_options(False)
    try:
        file = io.BytesIO()
        torch.save(torch.ones(3), file)
    finally:
        torch.serialization.set_crc32_options(True)
    file.seek(0)
    assert antorcha.load(file).tolist() == [1.0] * 3
    for name in ("float16", "bfloat16", "complex64", "complex128", "uint16", "uint32", "uint64"):
        file = io.BytesIO()
        torch.save(torch.arange(3).to(getattr(torch, name)), file)
        file.seek(0)
        back = antorcha.load(file)
        assert back.dtype is getattr(antorcha, name) and back.tolist() == [0, 1, 2]


def test_hostile_files_of_pytorch():
    import os

    file = io.BytesIO()
    torch.save({"x": os.system}, file)
    for load in (antorcha.load, torch.load):
        file.seek(0)
        with pytest.raises(antorcha.serialization.pickle.UnpicklingError, match="system"):
            load(file)
    file.seek(0)
    assert antorcha.serialization.get_unsafe_globals_in_checkpoint(file) == ["posix.system"]
