"""Every record's samples (test_records.py) in PyTorch: the same values, whether they have a derivative, and the derivatives."""

from __future__ import annotations

import operator

import numpy as np
import pytest
from test_records import WHOLE, changed, derivatives, numbers

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]


BOUND = 1e-3        # PyTorch computes some functions with four digits


def function(record):
    """PyTorch's function for a record: of the namespace that the record is in, a method, a function of networks or what the dispatcher
    calls so."""
    if isinstance(record.namespace, str):
        return operator.attrgetter(f"{record.namespace}.{record.name.removeprefix(record.namespace + '_')}")(torch)
    places = [torch] * record.namespace + [torch.Tensor] * record.method + [torch.nn.functional, torch.ops.aten]
    return next(getattr(place, record.name) for place in places if hasattr(place, record.name))


def plain(results) -> list:
    """Tensors of PyTorch in memory of their own, neither conjugates nor zeros that are only marked."""
    return numbers(changed(results, lambda x: x.detach().clone().resolve_conj()))


def close(found: list, expected: list) -> None:
    assert [(x.shape, x.dtype) for x in found] == [(x.shape, x.dtype) for x in expected]
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=BOUND, atol=BOUND)


@pytest.mark.parametrize("case", [p for p in WHOLE if p.values[0].record.public])
def test_records_are_pytorchs(case):
    theirs = function(case.record)
    found, expected = numbers(case.call()), plain(case.call(library=torch, function=theirs))
    if case.record.differs:
        assert [(x.shape, x.dtype) for x in found] == [(x.shape, x.dtype) for x in expected]
        return
    close(found, expected)
    try:
        tracked, expected = derivatives(case, library=torch, function=theirs)
    except RuntimeError:        # PyTorch has none
        return
    if any(tracked):
        ours_tracked, found = derivatives(case)
        assert ours_tracked == tracked
        close(numbers(found), plain(expected))
