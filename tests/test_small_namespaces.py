"""Namespaces that programs import by the way: futures, _foreach functions, scripting, quantization stubs, what is absent."""

from __future__ import annotations

import importlib
import pkgutil
import threading

import pytest

import antorcha as torch
from antorcha.unavailable import unavailable_class, unavailable_function


def test_futures():
    f = torch.futures.Future()
    after = f.then(lambda x: x.wait() + 1)
    threading.Timer(0.01, lambda: f.set_result(2)).start()
    assert after.wait() == 3 and f.done() and torch.futures.wait_all([f, after]) == [2, 3]
    bad = torch.jit.fork(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        torch.jit.wait(bad)
    with pytest.raises(RuntimeError, match="completed once"):
        f.set_result(1)


def test_foreach_functions_work_on_lists():
    xs = [torch.ones(2), torch.full((3,), 2.0)]
    assert [x.tolist() for x in torch._foreach_add(xs, [1.0, 2.0])] == [[2.0, 2.0], [4.0, 4.0, 4.0]]
    torch._foreach_mul_(xs, 3)
    assert xs[0].tolist() == [3.0, 3.0] and [n.item() for n in torch._foreach_norm(xs, 1)] == [6.0, 18.0]
    torch._foreach_addcdiv_(xs, xs, [x + 0 for x in xs], 0.5)
    torch._foreach_lerp_(xs, torch._foreach_sqrt(xs), 1.0)
    torch._foreach_zero_(xs[:1])
    torch._foreach_copy_(xs[:1], [torch.ones(2)])
    assert xs[0].tolist() == [1.0, 1.0] and torch.allclose(xs[1], torch.full((3,), 6.5**0.5))
    with pytest.raises(RuntimeError, match="same number"):
        torch._foreach_add(xs, [1.0])


def test_recurrent_networks_by_their_weights():
    layer = torch.nn.LSTM(3, 4, 2, bidirectional=True, batch_first=True)
    x, h, c = torch.randn(2, 5, 3), torch.randn(4, 2, 4), torch.randn(4, 2, 4)
    out, (hn, cn) = layer(x, (h, c))
    got = torch.lstm(x, (h, c), layer._flat_weights, True, 2, 0.0, False, True, True)
    assert all(torch.equal(a, b) for a, b in zip(got, (out, hn, cn)))
    gru = torch.nn.GRU(3, 4, bias=False)
    packed = torch.nn.utils.rnn.pack_sequence([torch.randn(3, 3), torch.randn(2, 3)])
    want, last = gru(packed, h[:1])
    data, hidden = torch.gru(packed.data, packed.batch_sizes, h[:1], gru._flat_weights, False, 1, 0.0, False, False)
    assert torch.equal(data, want.data) and torch.equal(hidden, last)


def test_stubs_and_names_of_the_dispatcher():
    stub = torch.ao.quantization.QuantStub()
    x = torch.ones(1)
    assert stub(x) is x and torch.ao.quantization.DeQuantStub()(x) is x
    keys = torch._C._dispatch_keys(x)
    assert keys.has(torch._C.DispatchKey.CPU) and keys.highestPriorityTypeId() is torch._C.DispatchKey.AutogradCPU
    assert torch._C._nn.gelu is torch.nn.functional.gelu and torch._C._linalg.linalg_cross is torch.linalg.cross
    assert torch.Tensor.is_sparse.__get__(x) is False and torch.Tensor.layout.__get__(x) is torch.strided
    torch._assert(True, "no")
    with pytest.raises(AssertionError, match="no"):
        torch._assert(False, "no")
    block = torch.ops.profiler._record_function_enter_new("mine")
    torch.ops.profiler._record_function_exit(block)
    assert torch._dynamo.utils.is_compile_supported("cpu")
    from antorcha.jit.annotations import BroadcastingList2
    assert BroadcastingList2[int] is None


def test_what_is_absent_says_so():
    kind, function = unavailable_class("torch.a.B", "use C"), unavailable_function("torch.a.f", "use g")
    assert not isinstance(1, kind) and kind.__name__ == "B"
    for call, words in ((kind, "torch.a.B: use C"), (function, "torch.a.f: use g")):
        with pytest.raises(NotImplementedError, match=words):
            call(1)
    torch.onnx.register_custom_op_symbolic("tests::op", torch.onnx.symbolic_helper.parse_args("v", "i")(lambda g, x, n: x), 11)
    with pytest.raises(NotImplementedError, match="state_dict"):
        torch.onnx.export(None, None)


def test_every_module_can_be_imported():
    for info in pkgutil.walk_packages(torch.__path__, "antorcha."):
        if not info.name.endswith("__main__"):
            try:
                importlib.import_module(info.name)
            except ImportError as error:
                assert "is not installed" in str(error), info.name     # made for a package that need not be here, and says so


def test_scatter_and_gather_cut_and_join_containers():
    from collections import namedtuple

    from antorcha.nn.parallel import gather, scatter, scatter_kwargs

    Pair = namedtuple("Pair", "x y")
    x = torch.arange(4)
    parts = scatter({"a": Pair(x, "s"), "b": [x]}, ["cpu", "cpu"])
    assert [part["a"].x.tolist() for part in parts] == [[0, 1], [2, 3]] and parts[1]["a"].y == "s" and parts[0]["b"][0].tolist() == [0, 1]
    assert scatter_kwargs((x,), {}, ["cpu"] * 2)[1] == ({}, {})
    assert gather([Pair(x, {"k": x[0]})] * 2, "cpu").y["k"].tolist() == [0, 0]


def test_flat_vectors_of_tensors():
    from antorcha._utils import _flatten_dense_tensors, _take_tensors, _unflatten_dense_tensors

    tensors = [torch.ones(2, 3), torch.zeros(4)]
    flat = _flatten_dense_tensors(tensors)
    assert flat.shape == (10,) and all(torch.equal(a, b) for a, b in zip(_unflatten_dense_tensors(flat, tensors), tensors))
    assert [len(group) for group in _take_tensors([torch.ones(2)] * 5, 16)] == [2, 2, 1]


def test_namespaces_of_devices():
    assert torch.get_device_module("cpu") is torch.cpu and torch.get_device_module(torch.device("cuda:0")) is torch.cuda
    with pytest.raises(RuntimeError, match="namespace"):
        torch.get_device_module("meta")


def test_warnings_are_shown_always_and_the_programs_filters_stay():
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "of the program")
        before = list(warnings.filters)
        torch.set_warn_always(True)
        assert torch.is_warn_always_enabled() and warnings.filters != before
        torch.set_warn_always(False)
        assert not torch.is_warn_always_enabled() and warnings.filters == before


def test_the_version_is_compared_by_its_numbers():
    v = torch.__version__
    assert isinstance(v, str) and v >= "2.4" and v > (2, 4) and "2.9" < v < "3" and v != "2.13.0" and str(v).startswith("2.13.0")


def test_derivatives_of_convolutions_by_name():
    x, w = torch.randn(1, 2, 5), torch.randn(3, 2, 3)
    x.requires_grad_(), w.requires_grad_()
    y = torch.nn.functional.conv1d(x, w, None, 1, 1)
    g = torch.ones_like(y)
    y.backward(g)
    assert torch.allclose(torch.nn.grad.conv1d_input(x.shape, w, g, 1, 1), x.grad)
    assert torch.allclose(torch.nn.grad.conv1d_weight(x, w.shape, g, 1, 1), w.grad)


def test_products_of_groups_of_rows():
    a, b, ends = torch.randn(5, 3), torch.randn(2, 3, 4), torch.tensor([2, 5])
    grouped = torch.nn.functional.grouped_mm
    assert torch.allclose(grouped(a, b, offs=ends), torch.cat([a[:2] @ b[0], a[2:] @ b[1]]))
    assert grouped(a.t(), a, offs=ends).shape == (2, 3, 3)
    with pytest.raises(RuntimeError, match="offs"):
        grouped(a, b)


def test_shapes_that_two_tensors_decide():
    x, y = torch.tensor([[3.0], [4.0]]), torch.tensor([[3.0, 4.0]])
    assert torch.allclose(torch.nn.functional.cosine_similarity(x, y, dim=1), torch.full((2,), 7 / 50**0.5))
    assert torch.quantile(torch.tensor(3.0), 0.5, dim=0, keepdim=True).shape == ()
    assert torch.tensordot(torch.ones(1, 2, dtype=torch.uint8), torch.ones(3, 2, dtype=torch.uint8), ([0], [0])).dtype is torch.uint8


def test_derivatives_by_sparse_tensors():
    s, d = torch.eye(2).to_sparse().requires_grad_(), torch.ones(2, 2)
    (g,) = torch.autograd.grad((s @ d).sum(), s)
    assert g.is_sparse and g.to_dense().tolist() == [[2.0, 0.0], [0.0, 2.0]] and torch.smm(s.detach(), d).is_sparse


def test_masked_products_over_several_dimensions_have_derivatives():
    x, mask = torch.tensor([[2.0, 3.0], [0.0, 5.0]], requires_grad=True), torch.tensor([[True, True], [True, False]])
    torch.masked.prod(x, (0, 1), mask=mask).backward()
    assert x.grad.tolist() == [[0.0, 0.0], [6.0, 0.0]]
