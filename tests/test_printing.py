"""Tensors are shown character for character as PyTorch shows them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from golden_cases import HERE, printed
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import antorcha as torch

RECORDED = json.loads((HERE / "printing.json").read_text())


@pytest.mark.parametrize("expression, options, text", RECORDED, ids=[f"{e} {o}" for e, o, _ in RECORDED])
def test_recorded(expression, options, text):
    assert printed(torch, expression, options) == text


def test_a_number_is_formatted_as_its_value():
    assert f"{torch.tensor(2.5)} {torch.tensor(2.5):.3f} {torch.tensor(7):4d}" == "2.5 2.500    7"


SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9)
VALUES = st.one_of(
    arrays.arrays(np.float32, SHAPES, elements=st.floats(width=32)),
    arrays.arrays(np.float64, SHAPES, elements=st.floats(-1e5, 1e5) | st.integers(-9, 9).map(float) | st.just(float("nan"))),
    arrays.arrays(st.sampled_from([np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_]), SHAPES),
)
OPTIONS = st.fixed_dictionaries({}, optional={
    "precision": st.integers(0, 8), "threshold": st.integers(0, 50), "edgeitems": st.integers(1, 4), "linewidth": st.integers(20, 120),
    "sci_mode": st.booleans()})


@pytest.mark.oracle
@settings(max_examples=300)
@given(values=VALUES, options=OPTIONS, wants_grad=st.booleans())
def test_equal_to_pytorch(values, options, wants_grad):
    oracle = pytest.importorskip("torch")
    expression = "t.tensor(values)" + (".requires_grad_()" if wants_grad and values.dtype.kind == "f" else "")
    texts = []
    for library in (torch, oracle):
        library.values = values
        texts.append(printed(library, expression.replace("values", "t.values"), options))
        del library.values
    assert texts[0] == texts[1]
