"""Methods of Tensor, made from the operators' records."""

from __future__ import annotations

import operator

from ..base import dtype as dt
from ..base.grad_mode import mode
from ..ops import (  # noqa: F401 (they declare operators)
    activation,
    arrange,
    bilinear,
    comparison,
    complex_numbers,
    factory,
    gamma,
    joining,
    linalg,
    lowrank,
    norms,
    numeric,
    products,
    random,
    record,
    reduction,
    scan,
    short_time,
    sorting,
    special,
    spectral,
    statistics,
)
from ..ops import pointwise as pw
from . import at_once, float8, indexing, methods  # noqa: F401 (float8 declares operators)
from .tensor import Tensor
from .writing import check_inplace, inplace

ALIASES = {
    "absolute": "abs", "arccos": "acos", "arcsin": "asin", "arctan": "atan", "arctan2": "atan2", "arccosh": "acosh", "arcsinh": "asinh",
    "arctanh": "atanh", "clip": "clamp", "concat": "cat", "divide": "div", "multiply": "mul", "subtract": "sub", "negative": "neg",
    "true_divide": "div", "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le", "not_equal": "ne", "fix": "trunc",
    "ger": "outer", "concatenate": "cat", "row_stack": "vstack",
    "_segment_reduce": "segment_reduce", "moveaxis": "movedim", "swapaxes": "transpose", "swapdims": "transpose",
}


def torch_functions() -> dict:
    """name -> function of the torch namespace."""
    out = {name: r.call for name, r in record.RECORDS.items() if r.public and r.namespace is True}
    out.update({r.torch_name: r.call for r in record.RECORDS.values() if r.torch_name})
    for module in (factory, random):
        for f in module.FUNCTIONS:
            out[f.__name__] = f
    out["range"] = factory.range_
    out["index_put"] = indexing.index_put
    out.update({a: out[n] for a, n in ALIASES.items() if n in out})
    for name in ("clone", "numel", "is_floating_point", "is_complex", "is_signed", "detach", "detach_", "equal", "allclose",
                 "is_same_size", "zero_", "resize_as_"):
        out.setdefault(name, _method(name))
    for name in list(out):
        if hasattr(Tensor, name + "_") and name not in ("requires_grad", "copy", "resize", "set", "detach"):
            out[name + "_"] = _method(name + "_")
    return out


def _method(name):
    def function(input, *args, **kwargs):
        record.check_tensor(name, "input", input, 1)
        return getattr(input, name)(*args, **kwargs)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = getattr(Tensor, name).__doc__
    return function


def inplace_form(name, call, **rules):
    """The method `name`_ that writes what `call` gives. `rules`: see `inplace`; by default those of the record."""
    rec = getattr(call, "record", None)
    if rec is not None:
        rules = dict(apart=rec.apart is not None, repeated=rec.onto_repeated)
        if rec.inplace == "exact":
            call = _exact(name, call)

    def method(self, *args, **kwargs):
        return inplace(self, call, args, kwargs, name + "_", **rules)
    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"In-place version of {name}."
    return method


def _exact(name: str, call):
    """`call`, whose result has the dtype of its first argument."""
    def checked(input, *args, **kwargs):
        result = call(input, *args, **kwargs)
        if result.dtype is not input.dtype:
            raise RuntimeError(f"the base given to {name}_ has dtype {input.dtype} but the operation's result requires dtype "
                               f"{result.dtype}. Use {name}, or convert the base first: x.to({result.dtype})")
        return result
    return checked


def _sign(call):
    def method(self, other):
        if type(other) is Tensor or type(other) in record.NUMBERS or isinstance(other, Tensor) or record.number(other) is not None:
            return call(self, other)
        return NotImplemented
    return method


def _reflected(call):
    def method(self, other):
        if type(other) in record.NUMBERS or isinstance(other, Tensor) or record.number(other) is not None:
            return call(other, self)
        return NotImplemented
    return method


def _quotient(other, x):
    """other / x for a number, as PyTorch computes it."""
    return pw.mul(pw.reciprocal(x), other)


def _inplace_operator(call, name):
    def method(self, other):
        return inplace(self, call, (other,), None, name)
    return method


def install() -> None:
    for name, r in record.RECORDS.items():
        name = r.torch_name or name
        if not r.public or not r.method or isinstance(r.namespace, str) and not r.torch_name:
            continue
        if not hasattr(Tensor, name) or name in ("sum",):
            setattr(Tensor, name, r.call)
        if r.inplace:
            setattr(Tensor, name + "_", inplace_form(name, r.call))
    for f in random.METHODS:
        if not hasattr(Tensor, f.__name__):
            setattr(Tensor, f.__name__, f)
    for alias, name in ALIASES.items():
        for suffix in ("", "_"):
            if hasattr(Tensor, name + suffix) and not hasattr(Tensor, alias + suffix):
                setattr(Tensor, alias + suffix, getattr(Tensor, name + suffix))
    Tensor.index_put = indexing.index_put
    Tensor.index_put_ = inplace_form("index_put", indexing.index_put, apart=True, repeated=True)
    Tensor.polygamma = polygamma
    Tensor.polygamma_ = inplace_form("polygamma", polygamma)
    Tensor.where = where
    Tensor.std, Tensor.var = reduction.std, reduction.var
    _install_operators()
    _install_views_inplace()
    methods.install()
    Tensor.equal = equal
    Tensor.allclose = allclose
    Tensor.isclose = isclose


def polygamma(self, n):
    """The n-th derivative of digamma."""
    return special.polygamma(n, self)


def where(self, condition, other):
    """This tensor's elements where the condition holds, else those of `other`."""
    return pw.where(condition, self, other)


def equal(self, other) -> bool:
    """Whether the other tensor has the same shape and elements."""
    record.check_tensor("equal", "other", other, 2)
    return self.shape == other.shape and bool((self == other).all())


def isclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Where |input - other| <= atol + rtol * |other|, or both are equal."""
    for i, (name, x) in enumerate((("input", input), ("other", other)), 1):
        record.check_tensor("isclose", name, x, i)
    if input.dtype is not other.dtype:
        raise RuntimeError(
            f"isclose: expected input and other of one dtype; received {input.dtype} and {other.dtype}. Convert one of them."
        )
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not value >= 0:
            raise RuntimeError(f"{name} must be greater than or equal to zero, but got {value}")
    if input.dtype.kind not in "fc":
        input, other = input.to(dt.default()), other.to(dt.default())
    close = (input == other) | ((input - other).abs() <= atol + rtol * other.abs()) & input.isfinite() & other.isfinite()
    return close | (input.isnan() & other.isnan()) if equal_nan else close


def allclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False) -> bool:
    """Whether all elements are close (`isclose`)."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


def _install_operators() -> None:
    plain = dict(add=pw.add_, sub=pw.sub_, mul=pw.mul, truediv=pw.div_, floordiv=pw.floor_divide, mod=pw.remainder, pow=pw.pow,
                 lt=comparison.lt, le=comparison.le, gt=comparison.gt, ge=comparison.ge, eq=comparison.eq, ne=comparison.ne)
    plain["and"], plain["or"], plain["xor"] = comparison.bitwise_and, comparison.bitwise_or, comparison.bitwise_xor
    plain["lshift"], plain["rshift"] = comparison.bitwise_left_shift, comparison.bitwise_right_shift
    for name, call in plain.items():
        raw = call.record.raw if call is not pw.pow else call
        setattr(Tensor, f"__{name}__", _sign(call) if call is pw.pow else call.record.sign())
        if name not in ("lt", "le", "gt", "ge", "eq", "ne"):
            setattr(Tensor, f"__r{name}__", _reflected(raw))
            setattr(Tensor, f"__i{name}__", _inplace_operator(raw, f"__i{name}__"))
        if name in ("add", "sub", "mul", "truediv"):
            at_once.SIGNS[raw] = getattr(operator, name)
    for name in ("add", "sub", "mul"):
        at_once.SIGNS[getattr(pw, name)] = getattr(operator, name)
    for name, call in dict(neg=pw.neg, abs=pw.abs, invert=comparison.bitwise_not).items():
        setattr(Tensor, f"__{name}__", lambda self, call=call: call(self))
    Tensor.__pos__ = numeric.positive
    Tensor.__rtruediv__ = _reflected(_quotient)


def _install_views_inplace() -> None:
    def reshaping(name):
        call = getattr(Tensor, name)

        def method(self, *args, **kwargs):
            tracked = self._rg and mode.grad
            if tracked:
                check_inplace(self)
            result = call(self if tracked else self.detach(), *args, **kwargs)
            self._meta = result._meta
            if tracked:
                self._grad_fn, self._nr = result._grad_fn, result._nr
            return self
        method.__name__ = method.__qualname__ = name + "_"
        method.__doc__ = f"`{name}`, of this tensor itself."
        return method
    for name in ("transpose", "t", "squeeze", "unsqueeze", "swapaxes", "swapdims", "as_strided"):
        setattr(Tensor, name + "_", reshaping(name))


install()
