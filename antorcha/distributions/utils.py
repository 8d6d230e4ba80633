"""What the distributions share: broadcasting of parameters, probabilities and logits, values computed when first asked for."""

from __future__ import annotations

from numbers import Number

import antorcha as torch
from antorcha.nn import functional as F

euler_constant = 0.57721566490153286060     # of Euler and Mascheroni

__all__ = ["broadcast_all", "logits_to_probs", "clamp_probs", "probs_to_logits", "lazy_property", "tril_matrix_to_vec",
           "vec_to_tril_matrix"]


def broadcast_all(*values):
    """Tensors of one shape. Numbers become tensors of the first tensor's dtype, or of the default dtype."""
    for v in values:
        if not isinstance(v, (torch.Tensor, Number)):
            raise ValueError(f"broadcast_all: expected tensors and numbers; received {type(v).__name__}. "
                             "Input arguments must all be instances of Number or torch.Tensor.")
    dtype = next((v.dtype for v in values if isinstance(v, torch.Tensor)), torch.get_default_dtype())
    return torch.broadcast_tensors(*[v if isinstance(v, torch.Tensor) else torch.tensor(v, dtype=dtype) for v in values])


def _standard_normal(shape, dtype, device=None):
    return torch.normal(torch.zeros(shape, dtype=dtype), torch.ones(shape, dtype=dtype))


def _sum_rightmost(value, dim: int):
    """The sum over the last `dim` dimensions."""
    return value.reshape(value.shape[:-dim] + (-1,)).sum(-1) if dim else value


def logits_to_probs(logits, is_binary=False):
    """Probabilities from log odds (binary), or from unnormalised log probabilities along the last dimension."""
    return torch.sigmoid(logits) if is_binary else F.softmax(logits, dim=-1)


def clamp_probs(probs):
    """Probabilities kept away from 0 and 1 by the dtype's eps."""
    eps = torch.finfo(probs.dtype).eps
    return probs.clamp(min=eps, max=1 - eps)


def probs_to_logits(probs, is_binary=False):
    """Log odds (binary) or log probabilities, finite for all probabilities."""
    clamped = clamp_probs(probs)
    return torch.log(clamped) - torch.log1p(-clamped) if is_binary else torch.log(clamped)


class lazy_property:
    """A value computed when first asked for and kept as an attribute of the instance."""

    def __init__(self, wrapped):
        self.wrapped, self.__doc__ = wrapped, wrapped.__doc__

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        with torch.enable_grad():
            value = self.wrapped(instance)
        setattr(instance, getattr(self, "name", self.wrapped.__name__), value)
        return value


class ProbsOrLogits:
    """Of distributions given by `probs` or by `logits`: the one not given is computed from the other when asked for."""

    _binary = True

    def _given(self, probs, logits) -> str:
        """Which of the two was given. ValueError unless just one was."""
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        return "logits" if probs is None else "probs"

    def _take(self, probs, logits, *others):
        """Keep the one given, broadcast with `others`, which are returned in its dtype."""
        name = self._given(probs, logits)
        *others, given = broadcast_all(*others, probs if name == "probs" else logits)
        setattr(self, name, given)
        return [t.type_as(given) for t in others]

    @lazy_property
    def logits(self):
        return probs_to_logits(self.probs, is_binary=self._binary)

    @lazy_property
    def probs(self):
        return logits_to_probs(self.logits, is_binary=self._binary)

    @property
    def _param(self):
        return self.__dict__["probs"] if "probs" in self.__dict__ else self.__dict__["logits"]

    @property
    def param_shape(self):
        return self._param.size()


def tril_matrix_to_vec(mat, diag: int = 0):
    """The elements on and below diagonal `diag` of (..., n, n), row by row."""
    n = mat.shape[-1]
    if not -n <= diag < n:
        raise ValueError(f"tril_matrix_to_vec: expected diag in [{-n}, {n}); received {diag}")
    rows, columns = torch.tril_indices(n, n, diag)
    return mat[..., rows, columns]


def vec_to_tril_matrix(vec, diag: int = 0):
    """The (..., n, n) matrix whose elements on and below diagonal `diag` are those of `vec`, row by row; the others are 0."""
    length = vec.shape[-1]
    # n (n + 1) / 2 + n diag - diag (diag + 1) / 2 elements for diag >= 0, and for diag < 0 the triangle of n + diag
    n = (-(1 + 2 * diag) + ((1 + 2 * diag) ** 2 + 8 * length + 4 * abs(diag) * (diag + 1)) ** 0.5) / 2
    if n != int(n):
        raise ValueError(f"vec_to_tril_matrix: expected as many elements as a triangle below diagonal {diag} has; received {length}. "
                         "The size of last dimension is invalid.")
    n = int(n)
    out = torch.zeros(vec.shape[:-1] + (n, n), dtype=vec.dtype)
    rows, columns = torch.tril_indices(n, n, diag)
    out[..., rows, columns] = vec
    return out
