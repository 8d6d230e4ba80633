"""__torch_function__: subclasses of Tensor, classes that only look like tensors, and modes."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

import antorcha as torch
from antorcha import overrides
from antorcha.nn import functional as F


class Kept(torch.Tensor):
    """Says nothing about functions."""


class Logged(torch.Tensor):
    calls: list = []

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.calls.append(overrides.resolve_name(func))
        return super().__torch_function__(func, types, args, kwargs)


class Free(torch.Tensor):
    __torch_function__ = torch._C._disabled_torch_function_impl


class Scalar:
    """A multiple of the identity, that is no tensor at all."""

    def __init__(self, n, value):
        self.n, self.value = n, value

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.mean:
            return args[0].value / args[0].n
        if func is torch.mul and len(args) == 2:
            return cls(args[0].n, args[0].value * args[1])
        return NotImplemented


def test_a_subclass_keeps_its_type():
    x, p = torch.ones(2, 3).as_subclass(Kept), torch.ones(2, 3)
    for y in (
        x + 1,
        1 - x,
        p + x,
        p.add(x),
        x.T,
        x[0],
        x.sum(),
        torch.cat([p, x]),
        F.relu(x),
        x.to(torch.float64),
        x.reshape(-1),
        x == p,
        torch.where(p > 0, p, x),
        x.clone(),
        torch.linalg.norm(x),
        x.detach(),
        torch.zeros_like(x),
        x.split(1)[0],
        x.max(0).values,
    ):
        assert type(y) is Kept
    assert type(p + 1) is torch.Tensor and type(x.shape) is torch.Size and isinstance(x.sum().item(), float)
    assert repr(torch.ones(1).as_subclass(Kept)) == "Kept([1.])"
    y = x * 1
    assert y.add_(1) is y and y[0].mul_(2).tolist() == [4, 4, 4] and y.tolist() == [[4, 4, 4], [2, 2, 2]]


def test_derivatives_flow_through_subclasses():
    w = torch.ones(3).requires_grad_()
    x = torch.arange(3.0).as_subclass(Kept)
    loss = (w * x).sin().sum()
    assert type(loss) is Kept
    loss.backward()
    assert torch.allclose(w.grad, torch.arange(3.0) * torch.arange(3.0).cos())
    leaf = torch.ones(2).as_subclass(Kept).requires_grad_()
    (leaf * 3).sum().backward()
    assert leaf.grad.tolist() == [3, 3]
    assert type(torch.nn.Linear(3, 2)(x)) is Kept
    assert type(torch.nn.Parameter(torch.ones(2)) + 1) is torch.Tensor


def test_every_call_is_seen_once():
    x, p = torch.ones(2, 2).as_subclass(Logged), torch.ones(2, 2)
    for call, name in [
        (lambda: x + 1, "torch.Tensor.add"),
        (lambda: p - x, "torch.Tensor.sub"),
        (lambda: 1 - x, "torch.Tensor.__rsub__"),
        (lambda: torch.add(x, 1), "torch.add"),
        (lambda: F.softmax(x, 0), "torch.nn.functional.softmax"),
        (lambda: x @ p, "torch.Tensor.matmul"),
        (lambda: x.T, "torch.Tensor.T.__get__"),
        (lambda: x.shape, "torch.Tensor.shape.__get__"),
        (lambda: torch.stack((p, x)), "torch.stack"),
        (lambda: x.mean(0), "torch.Tensor.mean"),
        (lambda: len(x), "torch.Tensor.__len__"),
        (lambda: p.copy_(x), "torch.Tensor.copy_"),
        (lambda: torch.sum(input=x), "torch.sum"),
        (lambda: x[0], "torch.Tensor.__getitem__"),
        (lambda: x < 1, "torch.Tensor.lt"),
        (lambda: p == x, "torch.Tensor.__eq__"),
        (lambda: str(x), "torch.Tensor.__repr__"),
    ]:
        Logged.calls.clear()
        call()
        assert Logged.calls[0] == name and len([c for c in Logged.calls if not c.endswith("__get__")]) <= 1
    Logged.calls.clear()
    with torch._C.DisableTorchFunctionSubclass():
        y = x + 1
    assert not Logged.calls and type(y) is torch.Tensor


def test_a_class_can_opt_out():
    assert type(torch.ones(2).as_subclass(Free) + 1) is torch.Tensor
    assert not overrides.has_torch_function((torch.ones(2).as_subclass(Free), torch.ones(2), 3))
    assert overrides.has_torch_function_unary(torch.ones(2).as_subclass(Kept)) and overrides.has_torch_function_variadic(
        1, Scalar(2, 3)
    )


def test_a_class_that_is_no_tensor():
    s = Scalar(4, 2.0)
    assert torch.mean(s) == 0.5 and torch.mul(s, 3).value == 6
    with pytest.raises(
        TypeError, match=r"no implementation found for 'torch.add' on types that implement __torch_function__: \[.*Scalar"
    ):
        torch.add(s, 1)
    assert overrides.is_tensor_like(s) and overrides.is_tensor_like(torch.ones(1)) and not overrides.is_tensor_like(3)


def test_the_more_special_class_is_asked_first():
    asked = []

    def recording(name, answer):
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            asked.append(name)
            return answer

        return classmethod(__torch_function__)

    class Base(torch.Tensor):
        __torch_function__ = recording("base", 1)

    class Derived(Base):
        __torch_function__ = recording("derived", NotImplemented)

    base, derived = torch.ones(1).as_subclass(Base), torch.ones(1).as_subclass(Derived)
    assert torch.add(base, derived) == 1 and asked == ["derived", "base"]


def test_modes():
    seen = []

    class Mode(overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    class Doubling(overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            return result * 2 if func is torch.add else result

    with Mode():
        torch.ones(2).exp()
    assert seen == [torch.ones, torch.Tensor.exp]
    seen.clear()
    with Mode(), Doubling():
        assert torch.add(torch.tensor(1.0), 1).item() == 4
    assert torch.add in seen and torch.add(torch.tensor(1.0), 1).item() == 2


def test_overridable_functions_of_ones_own():
    @overrides.wrap_torch_function(lambda a, b: (a, b))
    def combine(a, b):
        return a, b

    def join(a, b):
        if overrides.has_torch_function((a, b)):
            return overrides.handle_torch_function(join, (a, b), a, b)
        return "plain"

    class Answer:
        __torch_function__ = classmethod(lambda cls, func, types, args=(), kwargs=None: (func, args))

    a = Answer()
    assert combine(1, 2) == (1, 2) and combine(a, 2) == (combine, (a, 2))
    assert join(1, 2) == "plain" and join(1, a) == (join, (1, a))


def test_redispatch():
    seen = []

    class Mode(overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            with self:
                return overrides.redispatch_function(func, types, args, kwargs)

    def scaled(a):
        if overrides.has_torch_function((a,)):
            return overrides.handle_torch_function(scaled, (a,), a)
        return torch.mul(a, 2)

    one = torch.ones(1)
    with Mode():
        out = scaled(one)
    assert seen == [scaled, torch.mul] and out.item() == 2


def test_what_can_be_overridden():
    functions = overrides.get_overridable_functions()
    assert torch.add in functions[torch] and torch.Tensor.add in functions[torch.Tensor] and F.relu in functions[F]
    assert torch.is_tensor in overrides.get_ignored_functions() and torch.is_tensor not in functions[torch]
    assert overrides.get_testing_overrides()[torch.add](1, 2) == -1
    assert overrides.is_tensor_method_or_property(torch.Tensor.add) and not overrides.is_tensor_method_or_property(torch.add)
    for f in (torch.add, F.relu, torch.Tensor.add):
        assert pickle.loads(pickle.dumps(f)) is f


def test_nothing_is_replaced_where_nobody_overrides():
    script = (
        "import antorcha as torch; before = torch.add, torch.Tensor.add\n"
        "torch.nn.Linear(2, 2)(torch.ones(1, 2)).sum().backward()\n"
        "assert before == (torch.add, torch.Tensor.add) and torch.add.__code__.co_name != 'asking'\n"
        "class T(torch.Tensor): pass\n"
        "assert torch.add is not before[0] and torch.add.__wrapped__ is before[0]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_librarys_method_of_tensor_is_called_as_it_is():
    torch.Tensor.note_for_test = lambda self, text: setattr(self, "noted", text)
    try:
        class Noting(torch.Tensor):
            @classmethod
            def __torch_function__(cls, func, types, args=(), kwargs=None):
                result = super().__torch_function__(func, types, args, kwargs or {})
                if isinstance(result, Noting):
                    result.note_for_test("made")
                return result

        assert (torch.ones(2).as_subclass(Noting) + 1).noted == "made"
    finally:
        del torch.Tensor.note_for_test


def test_a_parameter_is_made_from_anothers_attributes():
    p = torch.nn.Parameter(torch.ones(2))
    loss = (p * 2).sum()
    loss.backward()
    other = torch.nn.Parameter(torch.zeros(2), **{**p.__dict__, "requires_grad": False})
    assert not other.requires_grad and other.grad is None
    with pytest.raises(TypeError, match="colour"):
        torch.nn.Parameter(torch.zeros(2), colour=1)
