"""How exactly results are to agree: one table for all tests that compare what is computed with what it should be.

The bounds are relative to each element, and to the largest one of a result: sums that cancel keep the error of what was added.
They are for rounding only. Tests of one function's last bits (test_math_accuracy.py), of which way numbers of 16 or 8 bits are rounded,
of random numbers' frequencies and of what is approximate by its nature (quantization, iterations that converge) say there what they allow.
"""

from __future__ import annotations

import numpy as np

# dtype: what results of the CPU may differ by, and those of GPUs, where scatters and sums have no order of their own.
TOLERANCE = {
    "float64": {"cpu": 1e-10, "gpu": 1e-9},
    "float32": {"cpu": 2e-5, "gpu": 1e-4},
    "tfloat32": {"gpu": 2e-2},              # float32 whose products are of ten bits, where a program allows it
    "float16": {"cpu": 2e-3, "gpu": 1e-2},
    "bfloat16": {"cpu": 1.6e-2, "gpu": 6e-2},
}
ROWS = {"complex128": "float64", "complex64": "float32", "float": "float32", "complex": "float32"}     # Python's are of the default dtype
EXACT = ("bool", "int", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")


def array(x) -> tuple[np.ndarray, str]:
    """The elements of a tensor (ours or PyTorch's), an array or a number, and the dtype they were computed in."""
    kind = str(getattr(x, "dtype", type(x).__name__)).rpartition(".")[2]
    if hasattr(x, "detach"):
        x = x.detach() if x.device.type == "cpu" else x.detach().cpu()
        x = (x.float() if kind == "bfloat16" else x).numpy()
    return np.asarray(x), kind


def agree(found, expected, target: str = "cpu", dtype: str | None = None) -> None:
    """Fails unless both (tensors, arrays, numbers; or lists and tuples of them) have the same shapes and, as exactly as the table says
    for the dtype of `found` on that target, the same elements; one number is expected of all. `dtype` names another row of the table."""
    number = isinstance(expected, (int, float))
    if isinstance(found, (list, tuple)):
        assert number or len(found) == len(expected), f"{len(found)} results, expected {len(expected)}"
        for a, b in zip(found, [expected] * len(found) if number else expected):
            agree(a, b, target, dtype)
        return
    (a, kind), (b, _) = array(found), array(expected)
    assert number or a.shape == b.shape, f"shape {a.shape}, expected {b.shape}"
    kind = dtype or ROWS.get(kind, kind)
    if kind in EXACT:
        np.testing.assert_array_equal(a, b)
    elif a.size:
        bound = TOLERANCE[kind][target]
        finite = np.abs(b[np.isfinite(b)])
        np.testing.assert_allclose(a, b, rtol=bound, atol=bound * max(1.0, float(finite.max(initial=0.0))))
