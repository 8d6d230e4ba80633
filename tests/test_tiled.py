"""Transpositions are written in tiles, through copies in cache."""

from __future__ import annotations

import re

import numpy as np
import pytest

import antorcha as torch
from antorcha.base import config
from antorcha.graph import flush
from benchmarks import kernels

CASES = {
    "transposed": ((130, 71), lambda x: x.T + 1),
    "beside what is not": ((67, 67), lambda x: x.T * 2 + x),
    "several": ((3, 40, 33), lambda x: x.swapaxes(1, 2) + 1),
    "three dimensions turned": ((20, 3, 35), lambda x: x.swapaxes(0, 2) + 1),
}


def numbers(shape):
    return np.sin(np.arange(int(np.prod(shape)), dtype=np.float32) * 0.37).reshape(shape)


@pytest.mark.parametrize("target", ["llvm", "interp"])
@pytest.mark.parametrize("name", CASES)
def test_values(name, target, monkeypatch):
    monkeypatch.setattr(config, "target", target)
    shape, function = CASES[name]
    a = numbers(shape)
    x = torch.tensor(a)
    found = function(x).contiguous() + 0
    np.testing.assert_array_equal(found.tolist(), function(a))
    assert any(slot.role == "scratch" for k in flush.last().kernels() for slot in k["program"].slots)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.bool])
def test_other_dtypes(dtype):
    a = torch.arange(40 * 50).reshape(40, 50).remainder(3).to(dtype)
    assert (a.t().contiguous() == 0).tolist() == (a == 0).numpy().T.tolist()


def test_a_result_stored_across():
    """A value and its transpose: one kernel writes both."""
    a = numbers((70, 90))
    y = torch.tensor(a) * 2
    turned = y.t().contiguous()
    np.testing.assert_array_equal(turned.tolist(), a.T * 2)
    np.testing.assert_array_equal(y.tolist(), a * 2)


@pytest.mark.parametrize("target", ["llvm", "interp"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float64, np.complex64, np.complex128], ids=lambda d: d.__name__)
def test_squares_and_what_is_left_beside_them(dtype, target, monkeypatch):
    """Elements of all sizes; extents of several tiles, of less than one, of whole squares, and of less than one."""
    monkeypatch.setattr(config, "target", target)
    for shape in ((300, 131), (64, 32), (17, 530), (3, 20, 37)):
        a = (np.arange(np.prod(shape)) * 7 % 251).reshape(shape).astype(dtype)
        x = torch.tensor(a)
        x.sum().item()
        found = x.swapaxes(-1, -2).contiguous()
        np.testing.assert_array_equal((found + 0).numpy(), a.swapaxes(-1, -2))


SHUFFLES = {"avx512": r"vpunpckldq\s.*zmm", "avx2": r"vp?unpckl(dq|ps)\s.*ymm", "neon": r"zip1\s"}


@pytest.mark.parametrize("processor, shuffle", SHUFFLES.items())
def test_squares_are_turned_in_registers(processor, shuffle, monkeypatch):
    x = torch.ones(300, 500)
    monkeypatch.setitem(kernels.PROGRAMS, "turned", lambda: (x.t().contiguous() + 0).tolist())
    code = "".join(text for path, text in kernels.texts(processor, ["turned"]) if path.endswith(".s"))
    assert re.search(shuffle, code)
    assert not re.search(r"vpinsr|vinsertps|vgather|vscatter", code)
