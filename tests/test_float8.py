"""8-bit floats: kept, moved and converted; nothing is computed in them."""

from __future__ import annotations

import io

import numpy as np
import pytest

import antorcha as torch
from antorcha.base import float8

DTYPES = [d for d in (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu)]


@pytest.mark.parametrize("d", DTYPES, ids=str)
def test_every_code_comes_back_and_is_nearest(d):
    codes = torch.arange(256).to(torch.uint8)
    values = codes.view(d).float()
    numbers = ~values.isnan()
    assert torch.equal(values.to(d).view(torch.uint8)[numbers], codes[numbers])
    x = torch.randn(1000) * 10
    x = x.abs() if d is torch.float8_e8m0fnu else x
    known = float8.values(d)[np.isfinite(float8.values(d))]
    best = np.abs(x.numpy()[:, None] - known).min(1)
    assert np.allclose(np.abs(x.to(d).float().numpy() - x.numpy()), best)


def test_elements_are_moved():
    x = torch.tensor([[1.0, -2.0], [0.5, 3.0]]).to(torch.float8_e4m3fn)
    assert x.itemsize == 1 and x.T.contiguous().tolist() == [[1.0, 0.5], [-2.0, 3.0]]
    assert torch.cat([x, x[:1]]).float().sum().item() == 1.5 and torch.stack([x, x]).shape == (2, 2, 2)
    assert x[:, 1].tolist() == [-2.0, 3.0] and x[[1, 0], [0, 1]].tolist() == [0.5, -2.0]
    assert x.index_select(0, torch.tensor([1])).shape == (1, 2)
    y = torch.zeros(2, 2, dtype=torch.float8_e5m2)
    y[0] = 7.0
    y[1].copy_(x[1])
    assert y.tolist() == [[7.0, 7.0], [0.5, 3.0]] and torch.ones(2, dtype=torch.float8_e5m2).double().tolist() == [1.0, 1.0]
    assert repr(x[0]) == "tensor([ 1., -2.], dtype=torch.float8_e4m3fn)" and torch.where(x.float() > 0, x, x).dtype is x.dtype
    buffer = io.BytesIO()
    torch.save(x, buffer)
    buffer.seek(0)
    assert torch.load(buffer).tolist() == x.tolist() and torch.load(io.BytesIO(buffer.getvalue())).dtype is x.dtype


def test_nothing_is_computed():
    x = torch.ones(2).to(torch.float8_e4m3fn)
    for compute in (lambda: x + x, lambda: x.sum(), lambda: -x, lambda: x @ x):
        with pytest.raises(NotImplementedError, match="not implemented"):
            compute()
    with pytest.raises(RuntimeError, match="Promotion for Float8"):
        x.float() + x
    with pytest.raises(NotImplementedError, match="copy_kernel"):
        torch.ones(2).to(torch.float4_e2m1fn_x2)
    w = torch.randn(3, requires_grad=True)
    w.to(torch.float8_e5m2).float().sum().backward()
    assert w.grad.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.oracle
@pytest.mark.parametrize("d", DTYPES, ids=str)
def test_conversions_are_pytorchs(d):
    oracle = pytest.importorskip("torch")
    name = str(d).removeprefix("torch.")
    theirs = getattr(oracle, name)
    codes = np.arange(256, dtype=np.uint8)
    back = oracle.from_numpy(codes).view(theirs).float().numpy()
    assert np.array_equal(float8.values(d), back, equal_nan=True)
    rng = np.random.default_rng(0)
    finite = np.sort(np.abs(back[np.isfinite(back)]))
    middle = (finite[1:] + finite[:-1]) / 2
    x = np.concatenate([rng.standard_normal(4000) * 10.0 ** rng.integers(-9, 6, 4000), middle, -middle, finite * 1.0001, -finite, back,
                        [0.0, -0.0, np.inf, -np.inf, np.nan, 448, 464, 465, 480, 240, 248, 57344, 61440, 1e30]]).astype(np.float32)
    x = x[~((x != 0) & (np.abs(x) < 1.2e-38))]      # PyTorch rounds numbers that float32 keeps with fewer digits another way
    want = oracle.from_numpy(x).to(theirs)
    got = torch.from_numpy(x).to(d)
    assert np.array_equal(got.float().numpy(), want.float().numpy(), equal_nan=True)
    ours, info = torch.finfo(d), oracle.finfo(theirs)
    assert [getattr(ours, n) for n in ("bits", "max", "min", "tiny")] == [getattr(info, n) for n in ("bits", "max", "min", "tiny")]
