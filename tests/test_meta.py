"""The device "meta": shapes without values."""

from __future__ import annotations

import copy

import pytest

import antorcha as torch
from antorcha import nn
from antorcha.graph import tape
from antorcha.runtime.void import Void


def test_shapes_dtypes_and_printing():
    x = torch.empty(2, 3, device="meta")
    y = (x.half() @ x.half().T).sum(0)
    assert y.shape == (2,) and y.dtype is torch.float16 and y.is_meta and y.device == torch.device("meta") and not y.is_cpu
    assert repr(x) == "tensor(..., device='meta', size=(2, 3))" and x.data_ptr() == 0 == x.untyped_storage().data_ptr()
    assert torch.zeros_like(x).is_meta and torch.zeros_like(x, device="cpu").tolist() == [[0.0] * 3] * 2
    assert torch.ones(3).to("meta").is_meta and copy.deepcopy(x).is_meta


@pytest.mark.parametrize("ask, error", [
    (lambda x: x.cpu(), NotImplementedError), (lambda x: x.tolist(), NotImplementedError), (lambda x: x.sum().item(), RuntimeError),
    (lambda x: x + torch.ones(3), RuntimeError), (lambda x: bool(x[0]), RuntimeError),
])
def test_values_cannot_be_had(ask, error):
    with pytest.raises(error, match="meta"):
        ask(torch.empty(3, device="meta"))


def test_modules_are_made_without_memory_or_random_numbers():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(10 ** 6, 10 ** 6), nn.BatchNorm1d(4), nn.Dropout(), nn.Embedding(5, 2))
        assert torch.randn(2).is_meta and torch.tensor([1.0]).is_meta and torch.arange(3).is_meta
    nn.init.trunc_normal_(model[0].weight)
    assert all(tensor.is_meta for tensor in model.state_dict().values()) and torch.equal(torch.rand(2), expected)


def test_gradients_have_shapes_too():
    layer = nn.Linear(3, 2, device="meta")
    layer(torch.empty(4, 3, device="meta")).sum().backward()
    assert layer.weight.grad.shape == (2, 3) and layer.weight.grad.is_meta


def test_values_come_with_loading():
    layer = nn.Linear(2, 1, device="meta")
    layer.load_state_dict({"weight": torch.ones(1, 2), "bias": torch.zeros(1)}, assign=True)
    assert layer(torch.ones(2)).item() == 2
    assert nn.Linear(2, 2, device="meta").to_empty(device="cpu").weight.device.type == "cpu"


def test_nobody_asks_for_devices_when_meta_tensors_are_gone(settled):
    before = Void.alive
    x = torch.empty(3, device="meta")
    y = x + 1
    torch.ones(1).add(1).item()
    assert tape.state.devices and Void.alive == before + 2
    del x, y
    torch.ones(1).add(1).item()
    assert Void.alive == before and (tape.state.devices == tape.state.gpus or before)


def test_a_meta_tensor_elsewhere_changes_no_plan(settled):
    """Others' plans and copies are the same while one is alive."""
    from antorcha.graph import flush

    kept = torch.ones(3, device="meta") + 1
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer, made = torch.optim.Adam([parameter], lr=0.1), []
    samples = [torch.full((1, 3), float(k)) for k in range(60)]
    for s in samples:
        s.tolist()
    for i in range(3):
        loss = (torch.cat([samples[i * k] for k in range(12)]) * parameter).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        made.append(flush.counters["made"])
    assert made[0] == made[1] == made[2] and kept.is_meta
