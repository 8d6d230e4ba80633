"""torch.autograd.anomaly_mode: looking for the operation whose derivative is not a number."""

from __future__ import annotations

import warnings

from ..core import autograd


def _checked(node, grads: list):
    result = autograd.cotangents_plain(node, grads)
    for i, g in enumerate(result):
        if isinstance(g, autograd.Tensor) and g.dtype.kind in "fc" and bool(g.isnan().any()):
            raise RuntimeError(f"Function '{node.name()}' returned nan values in its {i}th output.")
    return result


class set_detect_anomaly:
    """With mode=True, a backward pass raises RuntimeError where an operation's derivative has a NaN, and names the operation;
    each derivative is computed at once for that, which takes time. check_nan=False: only switch."""

    def __init__(self, mode: bool = True, check_nan: bool = True):
        self._before = autograd._cotangents
        autograd._cotangents = _checked if mode and check_nan else autograd.cotangents_plain

    def __enter__(self):
        pass

    def __exit__(self, *exc):
        autograd._cotangents = self._before


class detect_anomaly(set_detect_anomaly):
    """`set_detect_anomaly(True)`, with a warning that it takes time."""

    def __init__(self, check_nan: bool = True):
        warnings.warn(
            "Anomaly Detection has been enabled. This mode will increase the runtime and should only be enabled for debugging.",
            stacklevel=2,
        )
        super().__init__(True, check_nan)


def set_anomaly_enabled(enabled: bool, check_nan: bool = True) -> None:
    """`set_detect_anomaly` without a context."""
    set_detect_anomaly(enabled, check_nan)


def is_anomaly_enabled() -> bool:
    """Whether derivatives are looked at."""
    return autograd._cotangents is _checked


is_anomaly_check_nan_enabled = is_anomaly_enabled

__all__ = ["is_anomaly_check_nan_enabled", "is_anomaly_enabled", "set_anomaly_enabled", "detect_anomaly", "set_detect_anomaly"]
