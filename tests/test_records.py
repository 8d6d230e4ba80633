"""Every record on the samples that it declares: all ways of computing give the same values; `out=`, in-place forms and methods do, too;
derivatives of first and second order equal differences; wrong arguments are refused."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from typing import NamedTuple

import numpy as np
import pytest
from tolerance import agree, array

import antorcha as torch
import antorcha.nn.functional
import antorcha.ops
from antorcha.base import config
from antorcha.graph import flush
from antorcha.ops.record import RECORDS, Record
from antorcha.ops.samples import Inputs, samples_of
from antorcha.runtime import jit
from antorcha.targets import kernel

for module in pkgutil.iter_modules(antorcha.ops.__path__, "antorcha.ops."):     # some are loaded when they are used
    importlib.import_module(module.name)


class Case(NamedTuple):
    """A sample of a record. `leading`: what its open dimensions are."""
    record: Record
    sample: object
    leading: str = "whole"

    def inputs(self, given=(), tensor=None) -> tuple[list, dict, Inputs]:
        """(arguments, arguments by name, their maker)."""
        t = Inputs(self.leading, given, tensor)
        arguments = self.sample(t)
        named = arguments.pop() if isinstance(arguments[-1], dict) else {}
        return arguments, named, t

    def call(self, given=(), change=lambda x: x, library=torch, function=None):
        """The result, of arguments made anew and changed. Random numbers are always the same."""
        arguments, named, _ = self.inputs(given, library.from_numpy)
        library.manual_seed(3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return (function or self.record.call)(*changed(arguments, change), **changed(named, change))

    def differentiable(self, library=torch) -> tuple[list, list]:
        """(tensors to give, those among them that require grad)."""
        _, _, t = self.inputs(tensor=library.from_numpy)
        given = list(t.made)
        for i in t.floats:
            given[i] = given[i].clone().requires_grad_()
        return given, [given[i] for i in t.floats]


def derivatives(case, change=lambda x: x, library=torch, function=None) -> tuple[list, list]:
    """(which results require grad, the derivatives of all of them together by what the sample is made of) where the tensors that the record
    is called with are changed ones."""
    given, leaves = case.differentiable(library)
    results = flat(case.call(given, change, library, function))
    tracked = [x for x in results if x.requires_grad]
    weights = [library.linspace(0.5, 1.5, x.numel()).reshape(x.shape).to(x.device, x.real.dtype) for x in tracked]
    total = sum((part * w).sum() for x, w in zip(tracked, weights) for part in ([x.real, x.imag] if x.is_complex() else [x]))
    found = library.autograd.grad(total, leaves, materialize_grads=True) if tracked else []
    return [x.requires_grad for x in results], list(found)


def cases() -> list[Case]:
    found = []
    for name, record in sorted(RECORDS.items()):
        samples = samples_of(record) if record.public or record.samples is not None else ()
        for n, sample in enumerate(samples):
            case = Case(record, sample)
            several = len(case.inputs()[2].open)
            for leading in ["whole", *["empty"] * (several > 0), *["broadcast"] * (several > 1)]:
                found.append(pytest.param(case._replace(leading=leading), id="-".join(
                    [name, *[str(n)] * (n > 0), *[leading] * (leading != "whole")])))
    return found


def changed(x, change):
    """`x` with `change` made to the tensors in it."""
    if hasattr(x, "requires_grad"):
        return change(x)
    return {k: changed(v, change) for k, v in x.items()} if isinstance(x, dict) else type(x)(changed(v, change) for v in x) \
        if type(x) in (list, tuple) else x


def flat(result) -> list:
    """All tensors of a result."""
    return [x for part in result for x in flat(part)] if isinstance(result, (tuple, list)) else [result] * hasattr(result, "requires_grad")


def numbers(result) -> list[np.ndarray]:
    return [np.array(array(x)[0]) for x in flat(result)]


def same(found: list, expected: list, target: str = "cpu") -> None:
    assert [x.dtype for x in found] == [x.dtype for x in expected]
    agree(found, expected, target)


CASES = cases()
WHOLE = [p for p in CASES if p.values[0].leading == "whole"]


def test_records_have_samples():
    silent = [name for name, record in RECORDS.items() if record.public and not samples_of(record)]
    assert not silent, f"declare sample inputs with these, samples=lambda t: [t(3, 4), ...] (see ops/samples.py): {silent}"


@pytest.mark.parametrize("case", CASES)
def test_all_ways_of_computing_agree(case, monkeypatch):
    result = case.call()
    assert flat(result)
    expected = numbers(result)
    assert [tuple(x.shape) for x in flat(result)] == [x.shape for x in expected]
    for setting in [dict(target="interp"), *[dict(eager=True), dict(fuse=False, target="interp")] * (case.leading == "whole")]:
        with monkeypatch.context() as m:
            for key, value in setting.items():
                m.setattr(config, key, value)
            same(numbers(case.call()), expected)
    if not case.record.strided:
        same(numbers(case.call(change=spread)), expected)


@pytest.fixture(scope="session")
def drafts_only(tmp_path_factory):
    return tmp_path_factory.mktemp("drafts")


@pytest.mark.parametrize("case", WHOLE)
def test_drafts_have_the_same_bits(case, monkeypatch, drafts_only):
    """What runs until optimised code is there computes the same: what a program prints does not depend on what is on disk."""
    optimised = [x.tobytes() for x in numbers(case.call())]
    monkeypatch.setattr(config, "drafts", True)
    monkeypatch.setattr(config, "cache", str(drafts_only))
    monkeypatch.setattr(kernel, "_kernels", {})
    monkeypatch.setattr(jit, "_libraries", {})
    monkeypatch.setattr(jit, "_drafts", {})
    monkeypatch.setattr(jit, "finish", lambda keys: None)
    flush.clear()
    found = [x.tobytes() for x in numbers(case.call())]
    flush.clear()
    assert found == optimised


def spread(x):
    """`x` in memory in another order, with gaps."""
    order = list(range(x.dim()))[::-1]
    return torch.stack([x.permute(order)] * 2, -1)[..., 1].permute(order)


@pytest.mark.parametrize("case", [p for p in CASES if p.values[0].leading == "broadcast"])
def test_broadcast_inputs_are_read_as_expanded_ones(case):
    _, _, t = case.inputs()
    lead = np.broadcast_shapes(*[t.made[i].shape[:t.made[i].dim() - own] for i, own in zip(t.open, t.own)])
    given = list(t.made)
    for i, own in zip(t.open, t.own):
        given[i] = given[i].expand(*lead, *given[i].shape[given[i].dim() - own:])
    same(numbers(case.call(given)), numbers(case.call()))


@pytest.mark.parametrize("case", WHOLE)
def test_forms_agree(case):
    """The method, the one that writes into its tensor, and `out=`."""
    record, result = case.record, case.call()
    expected = numbers(result)
    if record.out and record.family != "view":
        arguments, named, _ = case.inputs()
        torch.manual_seed(3)
        target = changed(tuple(result) if isinstance(result, tuple) else result, lambda x: torch.empty(0, dtype=x.dtype))
        given = record.call(*arguments, **named, out=target)
        assert record.silent or all(a is b for a, b in zip(flat(given), flat(target)))
        same(numbers(target), expected)
    name = record.torch_name or record.name
    if record.public and record.method and (record.namespace in (True, False) or record.torch_name):
        arguments, named, _ = case.inputs()
        torch.manual_seed(3)
        same(numbers(getattr(arguments[0], name)(*arguments[1:], **named)), expected)
        if record.inplace and expected[0].dtype == arguments[0].numpy().dtype and expected[0].shape == arguments[0].shape:
            torch.manual_seed(3)
            assert getattr(arguments[0], name + "_")(*arguments[1:], **named) is arguments[0]
            same(numbers(arguments[0]), expected)


@pytest.mark.parametrize("case", [p for p in WHOLE if p.values[0].record.public])
def test_what_is_no_tensor_is_refused(case):
    """Each of the tensors in its turn: the error says which argument it is about, and what it was."""
    record = case.record
    arguments, named, _ = case.inputs()
    names = [*record.names[:record.positional], *[record.variadic] * len(arguments)]
    for i, name in enumerate(names[:len(arguments)]):
        if isinstance(arguments[i], torch.Tensor):
            with pytest.raises(TypeError, match=f"{record.name}.*{name}.*object"):
                record.call(*arguments[:i], object(), *arguments[i + 1:], **named)


DIFFERENTIABLE = [p for p in CASES if p.values[0].inputs()[2].floats and not p.values[0].record.surrogate]


def differentiated(case):
    """(function, its inputs) that the derivatives are to be checked of; None for results that have none."""
    given, leaves = case.differentiable()
    places = [i for i, x in enumerate(given) if x.requires_grad]

    def function(*leaves):
        found = list(given)
        for i, leaf in zip(places, leaves):
            found[i] = leaf
        return tuple(x for x in flat(case.call(found)) if x.dtype.continuous)
    results = function(*leaves)
    assert not results or any(x.requires_grad for x in results), "make inputs without a derivative with t.fixed(...)"
    return (function, tuple(leaves)) if results else None


@pytest.mark.parametrize("case", DIFFERENTIABLE)
def test_derivatives_equal_differences(case, monkeypatch):
    if case.leading != "whole":
        monkeypatch.setattr(config, "target", "interp")
    found = differentiated(case)
    if found:
        assert torch.autograd.gradcheck(*found, atol=1e-4)


@pytest.mark.parametrize("case", [p for p in DIFFERENTIABLE if p.values[0].leading == "whole"])
def test_second_derivatives_equal_differences(case, monkeypatch):
    monkeypatch.setattr(config, "target", "interp")     # nothing is compiled that no other test needs
    found = differentiated(case)
    if found:
        assert torch.autograd.gradgradcheck(*found, atol=1e-4, fast_mode=True)
