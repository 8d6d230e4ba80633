"""torch.ops.aten: operators by the names of PyTorch's dispatcher, with their overloads (`aten.add.Tensor`), which are one function here."""

from __future__ import annotations

import functools
import math

from .core.surface import inplace_form
from .core.tensor import Tensor
from .ops import pointwise as pw
from .ops import pooling, record, reduction, sampling


class Overload:
    """One name of an operator, such as `aten.add.Tensor`."""

    def __init__(self, name: str, overload: str, function):
        self.__name__, self._overloadname, self._function = f"{name}.{overload}", overload, function

    def __call__(self, *args, **kwargs):
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        name, _, overload = self.__name__.partition(".")
        return f"<OpOverload(op='aten.{name}', overload='{overload}')>"


class Packet:
    """All overloads of an operator: called itself, or by an overload's name."""

    def __init__(self, name: str, function):
        self.__name__ = self.__qualname__ = name
        self._function = function

    def __call__(self, *args, **kwargs):
        return self._function(*args, **kwargs)

    def __getattr__(self, overload):
        if overload.startswith("__"):
            raise AttributeError(overload)
        found = self.__dict__[overload] = Overload(self.__name__, overload, self._function)
        return found

    def __repr__(self) -> str:
        return f"<OpOverloadPacket(op='aten.{self.__name__}')>"


# -- operators that only the dispatcher names -------------------------------------------------------------------

def _softmax_backward_data(grad_output, output, dim, input_dtype):
    """The derivative of softmax from its result."""
    g, y = record.widened(grad_output), record.widened(output)
    return (y * (g - (g * y).sum(dim, True))).to(input_dtype)


def _log_softmax_backward_data(grad_output, output, dim, input_dtype):
    """The derivative of log_softmax from its result."""
    g = record.widened(grad_output)
    return (g - pw.exp(record.widened(output)) * g.sum(dim, True)).to(input_dtype)


def _safe_softmax(self, dim, dtype=None):
    """Softmax, 0 along rows that are -inf throughout."""
    nothing = (self == -math.inf).all(dim, True)
    return pw.where(nothing, 0.0, reduction.softmax(pw.where(nothing, 0.0, self), dim, dtype))


def native_dropout_backward(grad_output, mask, scale):
    """The derivative of dropout: the cotangents that its mask lets through."""
    return grad_output * mask * scale


def _to_copy(self, *, dtype=None, layout=None, device=None, pin_memory=None, non_blocking=False, memory_format=None):
    """A copy with another dtype or on another device."""
    return self.to(device=self.device if device is None else device, dtype=self.dtype if dtype is None else dtype, copy=True)


def alias(self):
    """Another view of all of a tensor."""
    return self.view_as(self)


def _sparse_addmm(self, mat1, mat2, *, beta=1, alpha=1):
    """beta self + alpha mat1 mat2 of a sparse mat1."""
    return self * beta + (mat1 @ mat2) * alpha


def _pin_memory(self, device=None):
    """A copy in pinned memory."""
    return self.pin_memory()


def _upsampled(mode):
    def upsample(input, output_size, align_corners, scales_h=None, scales_w=None, *, scale_factors=None):
        if isinstance(scales_h, (list, tuple)):
            scale_factors = scales_h
        if output_size is None:
            output_size = [math.floor(m * f) for m, f in zip(input.shape[2:], scale_factors)]
        return sampling.interpolated(input, tuple(output_size), scale_factors or (scales_h, scales_w), mode, align_corners, True)
    upsample.__name__ = f"_upsample_{mode}2d_aa"
    return upsample


OPERATORS = {f.__name__: f for f in (_softmax_backward_data, _log_softmax_backward_data, _safe_softmax, native_dropout_backward,
                                     _to_copy, _pin_memory, alias, _sparse_addmm,
                                     pooling.max_pool2d_with_indices_backward, _upsampled("bilinear"), _upsampled("bicubic"))}


@functools.cache
def find(name: str) -> Packet:
    """The operator of this name; AttributeError where there is none."""
    function = OPERATORS.get(name)
    if function is None:
        found, base = record.RECORDS.get(name), record.RECORDS.get(name.removesuffix("_"))
        if found is not None:
            function = found.call
        elif base is not None and base.inplace:
            function = inplace_form(base.name, base.call)
        else:
            import antorcha
            function = getattr(antorcha, name, None) or getattr(Tensor, name, None)
    if not callable(function):
        raise AttributeError(f"'_OpNamespace' 'aten' object has no attribute '{name}'")
    return Packet(name, function)
