"""Every record's samples (test_records.py) on the CPU and on a GPU: the same values, and the same derivatives.

Here the GPU is the simulator. It is slow, so a run takes a share of the records, another one each day (always the first in continuous
integration, which is to show what a change does); ANTORCHA_ALL_RECORDS=1 takes all.
`test_gpu.py` takes all on a real one.
"""

from __future__ import annotations

import os
import time

import pytest
from test_records import WHOLE, derivatives, flat, numbers, same

SHARES = 8
SAMPLES = {p.id: p.values[0] for p in WHOLE}
DAY = 0 if os.environ.get("CI") else int(time.time() // 86_400)
TODAY = WHOLE if os.environ.get("ANTORCHA_ALL_RECORDS") else WHOLE[DAY % SHARES::SHARES]


def compare(case) -> None:
    """A sample on the CPU and on the GPU at hand, which has random numbers of its own."""
    results = flat(case.call(change=lambda x: x.to("cuda")))
    assert all(x.is_cuda for x in results)
    there, here = numbers(results), numbers(case.call())
    if case.record.draws:
        assert [(x.shape, x.dtype) for x in there] == [(x.shape, x.dtype) for x in here]
    else:
        same(there, here, "gpu")
        same(numbers(derivatives(case, lambda x: x.to("cuda"))[1]), numbers(derivatives(case)[1]), "gpu")


@pytest.mark.parametrize("case", TODAY)
def test_records_agree(gpus, case):
    compare(case)
