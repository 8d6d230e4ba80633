"""Quantized tensors, fake quantization, and models converted to 8 bits; against PyTorch where that is installed."""

from __future__ import annotations

import copy
import importlib
import io

import pytest

import antorcha as torch
from antorcha import nn
from antorcha.ao import quantization as Q


def test_a_quantized_tensor_keeps_integers_and_their_grid():
    t = torch.quantize_per_tensor(torch.tensor([-1.0, 0.0, 1.234, 99.0]), 0.1, 10, torch.quint8)
    assert t.int_repr().tolist() == [0, 10, 22, 255] and t.is_quantized and t.dtype is torch.quint8
    assert torch.allclose(t.dequantize(), torch.tensor([-1.0, 0.0, 1.2, 24.5]))
    assert (t.q_scale(), t.q_zero_point(), t.qscheme()) == (0.1, 10, torch.per_tensor_affine)
    assert t.reshape(2, 2)[1].int_repr().tolist() == [22, 255] and torch.relu(t).int_repr().tolist() == [10, 10, 22, 255]
    assert torch.cat([t, t]).shape == (8,) and copy.deepcopy(t).equal(t)
    with pytest.raises(NotImplementedError, match="dequantize"):
        t + 1
    with pytest.raises(RuntimeError, match="range"):
        torch.quantize_per_tensor(torch.ones(1), 0.1, 300, torch.quint8)
    rows = torch.quantize_per_channel(torch.ones(2, 3), torch.tensor([0.5, 0.25]), torch.tensor([0, 1]), 0, torch.qint8)
    assert rows.int_repr().tolist() == [[2, 2, 2], [5, 5, 5]] and rows.dequantize().tolist() == [[1.0] * 3] * 2
    assert rows.q_per_channel_axis() == 0 and rows.qscheme() is torch.per_channel_affine


def test_quantized_and_sparse_tensors_are_saved():
    kept = dict(q=torch.quantize_per_tensor(torch.ones(2), 0.1, 3, torch.qint8), s=torch.eye(3).to_sparse(), r=torch.eye(3).to_sparse_csr())
    file = io.BytesIO()
    torch.save(kept, file)
    file.seek(0)
    got = torch.load(file)
    assert got["q"].equal(kept["q"]) and got["s"].to_dense().equal(torch.eye(3)) and got["r"].layout is torch.sparse_csr


def test_fake_quantization_lets_derivatives_through_within_the_grid():
    x = torch.tensor([-3.0, 0.26, 5.0], requires_grad=True)
    y = torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -20, 20)
    y.sum().backward()
    assert torch.allclose(y, torch.tensor([-2.0, 0.3, 2.0])) and x.grad.tolist() == [0.0, 1.0, 0.0]
    each = torch.fake_quantize_per_channel_affine(torch.ones(2, 2) * 0.26, torch.tensor([0.1, 0.5]), torch.tensor([0, 0]), 0, 0, 9)
    assert torch.allclose(each, torch.tensor([[0.3, 0.3], [0.5, 0.5]]))


def test_dynamic_quantization_of_a_model():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(5, 8)
    small = Q.quantize_dynamic(model, {nn.Linear})
    assert "DynamicQuantizedLinear(in_features=8, out_features=4, dtype=torch.qint8" in repr(small)
    assert type(model[0]) is nn.Linear and torch.allclose(small(x), model(x), atol=0.05)
    other = nn.Sequential(nn.quantized.dynamic.Linear(8, 4), nn.ReLU(), nn.quantized.dynamic.Linear(4, 2))
    other.load_state_dict(small.state_dict())
    assert other(x).equal(small(x)) and copy.deepcopy(small)(x).equal(small(x))
    lstm, y = nn.LSTM(4, 3, bidirectional=True), torch.randn(3, 2, 4)
    assert torch.allclose(Q.quantize_dynamic(lstm)(y)[0], lstm(y)[0], atol=0.05)
    cell = nn.GRUCell(4, 3)
    assert torch.allclose(Q.quantize_dynamic(cell)(y[0]), cell(y[0]), atol=0.05)


def _network(torch):
    """A small model with stubs, in terms of either library."""
    nn, Q = torch.nn, torch.ao.quantization

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.quant, self.dequant, self.sum = Q.QuantStub(), Q.DeQuantStub(), nn.quantized.FloatFunctional()
            self.conv, self.bn, self.relu, self.fc = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Linear(4, 3)

        def forward(self, x):
            x = self.relu(self.bn(self.conv(self.quant(x))))
            x = nn.functional.max_pool2d(self.sum.add(x, x), 2)
            return self.dequant(self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1)))

    torch.manual_seed(1)
    return Net()


def _data(torch):
    return torch.randn(6, 2, 8, 8, generator=torch.Generator().manual_seed(2))


def _static(torch):
    Q, net = torch.ao.quantization, _network(torch).eval()
    net.qconfig = Q.get_default_qconfig("fbgemm")
    prepared, x = Q.prepare(Q.fuse_modules(net, [["conv", "bn", "relu"]])), _data(torch)
    prepared(x)
    return net(x), Q.convert(prepared), x


def _trained(torch):
    Q, net, losses = torch.ao.quantization, _network(torch).train(), []
    net.qconfig = Q.get_default_qat_qconfig("fbgemm")
    model, x = Q.prepare_qat(Q.fuse_modules_qat(net, [["conv", "bn", "relu"]])), _data(torch)
    step = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(3):
        step.zero_grad()
        loss = (model(x) - 1).pow(2).mean()
        loss.backward()
        step.step()
        losses.append(loss.item())
    return losses, model(x), Q.convert(model.eval()), x


def test_static_quantization_stays_near_the_model():
    plain, model, x = _static(torch)
    assert type(model.conv).__name__ == "ConvReLU2d" and "QuantizedLinear" in repr(model)
    assert torch.allclose(model(x), plain, atol=0.1)


def test_training_with_fake_quantization():
    losses, before, model, x = _trained(torch)
    assert losses[-1] < losses[0] and model.fc.weight().dtype is torch.qint8
    assert model(x).shape == before.shape and model(x).isfinite().all()


@pytest.mark.oracle
def test_as_pytorch():
    theirs = pytest.importorskip("torch")
    (_, a, x), (_, b, y) = _static(torch), _static(theirs)
    assert abs(a(x).numpy() - b(y).numpy()).max() < 0.02 and list(a.state_dict()) == list(b.state_dict())
    assert _trained(torch)[0] == pytest.approx(_trained(theirs)[0], rel=1e-3)
    linear = [t.ao.quantization.quantize_dynamic(_seeded(t)) for t in (torch, theirs)]
    x = torch.randn(5, 8)
    assert abs(linear[0](x).numpy() - linear[1](theirs.from_numpy(x.numpy())).numpy()).max() < 1e-5


def _seeded(torch):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 4))


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["HistogramObserver", "MinMaxObserver", "PerChannelMinMaxObserver", "MovingAverageMinMaxObserver"])
def test_observers_choose_pytorchs_grids(name):
    pytest.importorskip("torch")
    found = []
    for library in ("antorcha", "torch"):
        t = importlib.import_module(library)
        observer, generator = getattr(t.ao.quantization, name)(), t.Generator().manual_seed(0)
        for factor in (1.0, 2.0):
            observer(t.randn(4, 64, generator=generator) * factor)
        found.append([x.tolist() for x in observer.calculate_qparams()])
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-2 if name == "HistogramObserver" else 1e-5)
