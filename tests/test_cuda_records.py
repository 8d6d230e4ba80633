"""Every record's inputs (test_records.py) on the CPU and on a GPU: the same values, and the same derivatives.

Here the GPU is the simulator. It is slow, so a run takes a share of the records, another one each day (always the first in continuous
integration, which is to show what a change does); ANTORCHA_ALL_RECORDS=1 takes all.
`test_gpu.py` takes all on a real one.
"""

from __future__ import annotations

import os
import time
import warnings

import numpy as np
import pytest
from test_records import EXCEPT, UNEVEN, covered, flat, inputs, sample

import antorcha as torch

SHARES = 8
NAMES = [name for name in sorted(covered()) if name not in UNEVEN]
# On a GPU scatters add in any order, and whatever has no order of its own is done by NumPy, in its order.
DAY = 0 if os.environ.get("CI") else int(time.time() // 86_400)
TODAY = NAMES if os.environ.get("ANTORCHA_ALL_RECORDS") else NAMES[DAY % SHARES::SHARES]


def moved(x, device: str, grad: bool = False):
    if isinstance(x, list):
        return [moved(y, device) for y in x]
    if not isinstance(x, torch.Tensor):
        return x
    x = x.to(device)
    return x.requires_grad_() if grad and x.is_floating_point() else x


def host(results) -> list[np.ndarray]:
    there = [x.detach().cpu() for x in flat(results)]
    return [np.array((x.float() if x.dtype is torch.bfloat16 else x).numpy()) for x in there]


def agree(got: list, want: list) -> None:
    assert len(got) == len(want)
    for a, b in zip(got, want):
        assert a.shape == b.shape and a.dtype == b.dtype
        tolerance = 1e-9 if a.dtype in (np.float64, np.complex128) else 1e-4
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance) if a.dtype.kind in "fc" else np.testing.assert_array_equal(a, b)


def derivatives(record, arguments):
    """The derivatives of all results together with respect to the arguments; None where there is none."""
    try:
        results = [x for x in flat(record.call(*arguments)) if x.requires_grad and x.is_floating_point()]
        wanted = [a for a in arguments if isinstance(a, torch.Tensor) and a.requires_grad]
        if not results or not wanted:
            return None
        weights = [torch.linspace(0.5, 1.5, x.numel(), dtype=x.dtype).reshape(x.shape).to(x.device) for x in results]
        found = torch.autograd.grad(sum((x * w).sum() for x, w in zip(results, weights)), wanted, allow_unused=True)
    except (RuntimeError, NotImplementedError):
        return None
    return host([x for x in found if x is not None])


def compare(name: str) -> None:
    """A record on the CPU and on the GPU at hand."""
    record, kind, _, want = sample(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = record.call(*[moved(a, "cuda") for a in inputs(record, kind)])
        for x in flat(results):
            assert x.is_cuda, f"{name}: a result on {x.device}"
        agree(host(results), want)
        if name not in EXCEPT and record.family != "view":
            there = derivatives(record, [moved(a, "cuda", True) for a in inputs(record, kind)])
            here = derivatives(record, [moved(a, "cpu", True) for a in inputs(record, kind)])
            assert (there is None) == (here is None)
            agree(there or [], here or [])


@pytest.mark.parametrize("name", TODAY)
def test_records_agree(gpus, name):
    compare(name)
