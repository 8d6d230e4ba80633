"""Mixed precision. Micikevicius et al., "Mixed Precision Training", 2018."""

from __future__ import annotations

import functools

from ..base import dtype as dt
from ..base.grad_mode import casts, mode, set_autocast
from ..ops.recall import warn

DEVICES = ("cpu", "cuda")
_chosen = {"cpu": dt.bfloat16, "cuda": dt.float16}


def _gpu_available() -> bool:
    from ..cuda import is_available
    return is_available()


def is_autocast_available(device_type: str) -> bool:
    """Whether `autocast` knows this kind of device."""
    return device_type in DEVICES


class autocast:
    """A context (or decorator) in which products and convolutions are computed in a 16-bit float and losses in float32.

    On a GPU exponentials, logarithms, powers, sums, softmax and norms are computed in float32, too, as in PyTorch; on the CPU Fourier
    transforms, factorizations and some pooling. Each function's declaration says what it casts (`ops/casts.py`); tensors on other
    devices are left alone. `dtype` is bfloat16 on "cpu" if it is not given, float16 on "cuda".
    """

    def __init__(self, device_type: str, dtype=None, enabled: bool = True, cache_enabled: bool | None = None):
        if not isinstance(device_type, str):
            raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        if device_type not in DEVICES:
            raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}': expected one of {', '.join(DEVICES)}")
        self.device, self.fast_dtype = device_type, _chosen[device_type] if dtype is None else dtype
        if self.fast_dtype not in (dt.bfloat16, dt.float16):
            warn(f"In {device_type} autocast, but the target dtype is not supported: expected bfloat16 or float16; received "
                 f"{self.fast_dtype}. Autocast is disabled.")
            enabled = False
        if enabled and device_type == "cuda" and not _gpu_available():
            warn("autocast: no GPU is available for 'cuda'. Autocast is disabled; for the CPU, use torch.autocast('cpu').")
            enabled = False
        self._enabled, self._before = enabled, []

    def __enter__(self):
        self._before.append(mode.autocast)
        set_autocast(casts(self.fast_dtype, self.device) if self._enabled else None)
        return self

    def __exit__(self, *error):
        set_autocast(self._before.pop())
        return False

    def __call__(self, function):
        @functools.wraps(function)
        def inside(*args, **kwargs):
            with self:
                return function(*args, **kwargs)
        return inside


def custom_fwd(fwd=None, *, device_type: str, cast_inputs=None):
    """For `forward` of a custom Function: run it without autocast, its floating point inputs cast to `cast_inputs` if that is given."""
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def forward(ctx, *args, **kwargs):
        ctx._autocast = mode.autocast
        if cast_inputs is None or mode.autocast is None:
            return fwd(ctx, *args, **kwargs)
        from ..ops.casts import as_cast
        with autocast(device_type, enabled=False):
            return fwd(ctx, *[as_cast(x, cast_inputs, device_type) for x in args],
                       **{n: as_cast(x, cast_inputs, device_type) for n, x in kwargs.items()})
    return forward


def custom_bwd(bwd=None, *, device_type: str):
    """For `backward` of a custom Function: run it in the autocast state of its `forward`."""
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def backward(ctx, *args):
        before = mode.autocast
        set_autocast(ctx._autocast)
        try:
            return bwd(ctx, *args)
        finally:
            set_autocast(before)
    return backward


# -- names of the torch namespace -------------------------------------------------------------------------------

def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether autocast is on in this thread, for this kind of device."""
    return mode.autocast is not None and mode.autocast.device == device_type


def get_autocast_dtype(device_type: str):
    """The dtype that autocast on this kind of device casts to; outside of it, that it will if none is given."""
    return mode.autocast.dtype if is_autocast_enabled(device_type) else _chosen[device_type]


def set_autocast_dtype(device_type: str, dtype) -> None:
    """Choose that dtype."""
    _chosen[device_type] = dtype


def set_autocast_enabled(device_type, enabled: bool | None = None) -> None:
    """Turn autocast on or off without a context."""
    device_type, enabled = ("cuda", device_type) if enabled is None else (device_type, enabled)
    set_autocast(casts(_chosen[device_type], device_type) if enabled else None)


def get_autocast_gpu_dtype():
    """`get_autocast_dtype("cuda")`."""
    return get_autocast_dtype("cuda")


def is_autocast_cache_enabled() -> bool:
    """Casts are part of the recording, where equal ones are computed once: there is no cache to turn off."""
    return True


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Nothing to do: see `is_autocast_cache_enabled`."""


def clear_autocast_cache() -> None:
    """Nothing to do: see `is_autocast_cache_enabled`."""


_nesting = 0


def autocast_increment_nesting() -> int:
    """How many contexts there are, one more than before. Counted only: there is no cache to clear at the end of the outermost."""
    global _nesting
    _nesting += 1
    return _nesting


def autocast_decrement_nesting() -> int:
    """How many contexts there are, one less than before."""
    global _nesting
    _nesting -= 1
    return _nesting


def autocast_decorator(autocast_instance, func):
    """`func`, run within the context."""
    return autocast_instance(func)


def _for_device(kind: str) -> dict:
    """The functions that name a kind of device."""
    def get_dtype():
        return get_autocast_dtype(kind)

    def set_dtype(dtype) -> None:
        set_autocast_dtype(kind, dtype)

    def is_enabled() -> bool:
        return kind in DEVICES and is_autocast_enabled(kind)

    def set_enabled(enabled: bool) -> None:
        if kind not in DEVICES:
            raise RuntimeError(f"set_autocast_{kind}_enabled: expected one of the devices {', '.join(DEVICES)}; there is no {kind} here.")
        set_autocast_enabled(kind, enabled)

    made = {f"get_autocast_{kind}_dtype": get_dtype, f"set_autocast_{kind}_dtype": set_dtype, f"is_autocast_{kind}_enabled": is_enabled,
            f"set_autocast_{kind}_enabled": set_enabled}
    for name, function in made.items():
        function.__name__ = function.__qualname__ = name
        function.__doc__ = f"`{name.replace(kind + '_', '')}` of {kind} devices."
    return made


_chosen.update(ipu=dt.float16, xla=dt.bfloat16)
for _kind in ("cpu", "ipu", "xla"):
    globals().update(_for_device(_kind))


def set_autocast_gpu_dtype(dtype) -> None:
    """`set_autocast_dtype("cuda", dtype)`."""
    set_autocast_dtype("cuda", dtype)
