"""Every record, on inputs made from its signature: fused, unfused, interpreted and compiled runs agree; `out=`, in-place forms and methods
give the same; derivatives of first and second order equal differences."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest

import antorcha as torch
import antorcha.fft
import antorcha.linalg
import antorcha.nn.functional
import antorcha.special
from antorcha.base import config
from antorcha.ops.record import RECORDS

UNEVEN = {"empty", "empty_like", "new_empty", "resize_as_", "empty_permuted", "empty_strided"}      # values are not told
KINDS = ["own", "shares", "square", "large", "integers", "flags", "vector"]
ROWS = [2, 0, 2]
# What the signature does not tell: shapes that fit each other, indices, numbers. t(3, 4) makes a tensor.
OWN = {
    "_native_batch_norm_legit": lambda t: [t(5, 4), t(4), t(4), t(4), t(4), True, 0.1, 1e-5],
    "addbmm": lambda t: [t(3, 5), t(2, 3, 4), t(2, 4, 5)],
    "addmv": lambda t: [t(3), t(3, 4), t(4)],
    "baddbmm": lambda t: [t(2, 3, 5), t(2, 3, 4), t(2, 4, 5)],
    "bincount": lambda t: [torch.tensor(ROWS)],
    "bmm": lambda t: [t(2, 3, 4), t(2, 4, 5)],
    "cat": lambda t: [[t(3, 4), t(2, 4)]],
    "clamp": lambda t: [t(3, 4), 0.3, 0.6],
    "diagonal_scatter": lambda t: [t(3, 4), t(3)],
    "embedding": lambda t: [t(3, 4), torch.tensor(ROWS)],
    "fill": lambda t: [t(3, 4), t()],
    "gather": lambda t: [t(3, 4), 1, torch.tensor([ROWS] * 2)],
    "imag": lambda t: [torch.complex(t(3, 4), t(3, 4))],
    "index_add": lambda t: [t(3, 4), 0, torch.tensor(ROWS), t(3, 4)],
    "index_copy": lambda t: [t(3, 4), 0, torch.tensor([1, 0]), t(2, 4)],
    "index_select": lambda t: [t(3, 4), 0, torch.tensor(ROWS)],
    "linalg_householder_product": lambda t: [t(4, 3), t(3)],
    "linalg_tensorinv": lambda t: [(t(6, 6) + 2 * torch.eye(6, dtype=torch.float64)).reshape(2, 3, 6)],
    "linalg_tensorsolve": lambda t: [(t(6, 6) + 2 * torch.eye(6, dtype=torch.float64)).reshape(2, 3, 6), t(2, 3)],
    "masked_fill": lambda t: [t(3, 4), torch.tensor([True, False, True, False]), t()],
    "mv": lambda t: [t(3, 4), t(4)],
    "native_group_norm": lambda t: [t(2, 4, 3), t(4), t(4), 2, 4, 3, 2, 1e-5],
    "native_layer_norm": lambda t: [t(3, 4), (4,), t(4), t(4), 1e-5],
    "ormqr": lambda t: [t(4, 3), t(3), t(4, 2)],
    "prelu": lambda t: [t(3, 4) - 0.5, t(4)],
    "put": lambda t: [t(3, 4), torch.tensor(ROWS), t(3), True],
    "repeat_interleave": lambda t: [t(3, 4), torch.tensor(ROWS), 0],
    "roll": lambda t: [t(3, 4), 1, 1],
    "scatter_add": lambda t: [t(3, 4), 1, torch.tensor([ROWS] * 2), t(2, 3)],
    "scatter_reduce": lambda t: [t(3, 4), 1, torch.tensor([ROWS] * 2), t(2, 3), "amax"],
    "searchsorted": lambda t: [t(4).sort()[0], t(3)],
    "topk": lambda t: [t(3, 4), 2],
    "unfold": lambda t: [t(3, 7), 1, 3, 2],
    "view_as_complex": lambda t: [t(3, 2)],
    "view_as_complex_copy": lambda t: [t(3, 2)],
    "view_as_real": lambda t: [torch.complex(t(3, 4), t(3, 4))],
    "view_as_real_copy": lambda t: [torch.complex(t(3, 4), t(3, 4))],
}
# They read one triangle and take the other for granted: inputs are made so.
HALVES = {
    name: lambda x: (x + x.mT) / 2 for name in ("cholesky", "linalg_cholesky", "linalg_cholesky_ex", "linalg_eigh", "linalg_eigvalsh")
}
HALVES |= {name: lambda x: x.tril() for name in ("cholesky_inverse", "cholesky_solve")}
# Without a derivative that differences could show: columns beyond the rank are arbitrary; arguments that are numbers.
EXCEPT = {"linalg_svd", "threshold", "_dirichlet_grad"}


def inputs(record, kind: str):
    """Arguments for the parameters that have no default: tensors. None where one must be something else."""
    rng = np.random.default_rng(7)
    if kind == "own":
        return OWN[record.name](lambda *shape: torch.tensor(rng.uniform(0.15, 0.85, shape))) if record.name in OWN else None
    make = {
        "shares": lambda: torch.tensor(rng.uniform(0.15, 0.85, (3, 4))),
        "square": lambda: torch.tensor(rng.uniform(0.15, 0.85, (3, 3)) + 2 * np.eye(3)),
        "large": lambda: torch.tensor(rng.uniform(1.2, 4.0, (3, 4))),
        "integers": lambda: torch.tensor(rng.integers(1, 6, (3, 4))),
        "flags": lambda: torch.tensor(rng.random((3, 4)) < 0.5),
        "vector": lambda: torch.tensor(rng.uniform(0.15, 0.85, 5)),
    }[kind]
    found = []
    for p in inspect.signature(record.function).parameters.values():
        if p.kind is p.VAR_POSITIONAL or p.kind is p.KEYWORD_ONLY and p.default is not p.empty:
            continue
        if p.default is not p.empty:
            continue
        if record.family == "pointwise" or str(p.annotation) in ("Tensor", "'Tensor'"):
            found.append(make())
        elif p.name == "dim" and found:
            found.append(0)
        else:
            return None
    return found or None


def flat(result) -> list:
    return [result] if isinstance(result, torch.Tensor) else [x for x in result if isinstance(x, torch.Tensor)] if \
        isinstance(result, (tuple, list)) else []


def numbers(result) -> list[np.ndarray]:
    return [np.array(x.detach().numpy()) for x in flat(result)]


def attempt(record, kind: str):
    """(arguments, results) of a record that takes this kind of input; None of one that does not."""
    arguments = inputs(record, kind)
    if arguments is None:
        return None
    torch.manual_seed(3)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = numbers(record.call(*arguments))
    except (RuntimeError, TypeError, ValueError, NotImplementedError, IndexError, AssertionError):
        return None
    return (arguments, result) if result else None


def cases() -> list:
    return [pytest.param(name, kind, id=f"{name}-{kind}") for name, record in sorted(RECORDS.items()) for kind in KINDS
            if name not in UNEVEN and inputs(record, kind) is not None and record.public]


CASES = cases()


def same(found: list, expected: list) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9) if a.dtype.kind in "fc" else np.testing.assert_array_equal(a, b)


def random(record, arguments, expected) -> bool:
    """Whether two draws differ."""
    torch.manual_seed(4)
    again = numbers(record.call(*arguments))
    return any(a.shape != b.shape or not np.array_equal(a, b, equal_nan=a.dtype.kind in "fc") for a, b in zip(again, expected))


def covered() -> dict:
    found: dict = {}
    for case in CASES:
        name, kind = case.values
        found.setdefault(name, []).append(kind)
    return found


def sample(name: str) -> tuple:
    """(record, kind of inputs, arguments, results) for the first kind that a record takes; skips the test where there is none."""
    record = RECORDS[name]
    for kind in covered()[name]:
        done = attempt(record, kind)
        if done is not None:
            if random(record, *done):
                pytest.skip("draws random numbers")
            return record, kind, *done
    pytest.skip("takes none of these inputs")


@pytest.mark.parametrize("name", sorted(covered()))
def test_all_ways_of_computing_agree(name, monkeypatch):
    record, kind, arguments, expected = sample(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for setting in (dict(eager=True), dict(fuse=False), dict(target="interp")):
            with monkeypatch.context() as m:
                for key, value in setting.items():
                    m.setattr(config, key, value)
                same(numbers(record.call(*inputs(record, kind))), expected)
        expanded = [a.unsqueeze(-1).expand(*a.shape, 2)[..., 1] if isinstance(a, torch.Tensor) else a for a in arguments]
        same(numbers(record.call(*expanded)), expected)
        if record.out and record.family != "view" and isinstance(record.call(*arguments), torch.Tensor):
            target = torch.empty(0, dtype=record.call(*arguments).dtype)
            given = record.call(*arguments, out=target)
            assert given is target
            same(numbers(given), expected)
        if record.inplace and len(expected) == 1 and expected[0].dtype == arguments[0].numpy().dtype:
            twin = inputs(record, kind)
            method = getattr(twin[0], name + "_", None)
            if method is not None and twin[0].shape == expected[0].shape:
                assert method(*twin[1:]) is twin[0]
                same(numbers(twin[0]), expected)


DIFFERENTIABLE = [name for name in sorted(covered()) if RECORDS[name].family != "view" and name not in EXCEPT]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_equal_differences(name):
    record = RECORDS[name]
    half = HALVES.get(name, lambda x: x)
    for kind in ("own", "shares", "square", "large", "vector"):
        done = attempt(record, kind) if kind in covered()[name] else None
        if done is None or random(record, *done) or any(x.dtype.kind == "f" and not np.isfinite(x).all() for x in done[1]):
            continue
        arguments = [a.requires_grad_() if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in done[0]]
        try:
            out = flat(record.call(*arguments))
        except RuntimeError:        # out= forms and the like refuse
            break
        if not any(x.requires_grad for x in out):
            break

        def call(*args):
            args = [half(x) if isinstance(x, torch.Tensor) and x.dim() == 2 else x for x in args]
            return tuple(x for x in flat(record.call(*args)) if x.is_floating_point())
        try:
            assert torch.autograd.gradcheck(call, tuple(arguments), atol=1e-4)
        except NotImplementedError as e:
            assert "derivative" in str(e)
        return
    pytest.skip("has no derivative for these inputs")


def test_records_are_covered():
    """What is tried at all can be computed."""
    assert len(covered()) > 350
    assert not [name for name in covered() if not any(attempt(RECORDS[name], kind) for kind in covered()[name])]
