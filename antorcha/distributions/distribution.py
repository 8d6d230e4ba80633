"""The base of all distributions.

The shape of a sample is `sample_shape + batch_shape + event_shape`: draws that are independent and alike, independent ones with
parameters of their own, and the dimensions of one draw.
"""

from __future__ import annotations

import functools
import warnings

import antorcha as torch

from . import constraints
from .utils import lazy_property

__all__ = ["Distribution"]


class Distribution:
    """A probability distribution, or a batch of them.

    With `validate_args`, parameters are checked when a distribution is made and values when it is asked about them (ValueError).
    """

    has_rsample = False
    has_enumerate_support = False
    _validate_args = __debug__

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether distributions made without `validate_args` check their arguments."""
        if value not in (True, False):
            raise ValueError(f"set_default_validate_args: expected True or False; received {value!r}")
        Distribution._validate_args = value

    def __init__(self, batch_shape=None, event_shape=None, validate_args=None):
        self._batch_shape = torch.Size() if batch_shape is None else batch_shape
        self._event_shape = torch.Size() if event_shape is None else event_shape
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            self._validate_parameters()
        super().__init__()

    def _validate_parameters(self) -> None:
        try:
            expected = self.arg_constraints
        except NotImplementedError:
            warnings.warn(f"{type(self)} does not define `arg_constraints`. Please set `arg_constraints = {{}}` or initialize the "
                          "distribution with `validate_args=False` to turn off validation.", stacklevel=3)
            return
        found = []
        for name, constraint in expected.items():
            if constraints.is_dependent(constraint):
                continue
            if name not in self.__dict__ and isinstance(getattr(type(self), name, None), lazy_property):
                continue    # the other one of two forms of a parameter was given
            value = getattr(self, name)
            found.append((name, constraint, value, constraint.check(value)))
        if _all_true([valid for *_, valid in found]):
            return
        name, constraint, value, _ = next(f for f in found if not f[-1].all())
        raise ValueError(f"Expected parameter {name} ({type(value).__name__} of shape {tuple(value.shape)}) of distribution {self!r} "
                         f"to satisfy the constraint {constraint!r}, but found invalid values:\n{value}")

    # -- shapes -------------------------------------------------------------------------------------------------

    @property
    def batch_shape(self):
        """The shape over which the parameters vary."""
        return self._batch_shape

    @property
    def event_shape(self):
        """The shape of one draw."""
        return self._event_shape

    def expand(self, batch_shape, _instance=None):
        """The same distribution for a larger batch; its parameters are expanded, not copied."""
        raise NotImplementedError

    def _expanded(self, cls, batch_shape, instance, names=None):
        """`expand` where each parameter, by default each name of `cls.arg_constraints`, begins with the batch's dimensions."""
        new = self._get_checked_instance(cls, instance)
        batch_shape, rank = torch.Size(batch_shape), len(self._batch_shape)
        for name in cls.arg_constraints if names is None else names:
            if name in self.__dict__:
                value = self.__dict__[name]
                new.__dict__[name] = value.expand(batch_shape + value.shape[rank:])
        return self._as_expanded(new, cls, batch_shape)

    def _as_expanded(self, new, cls, batch_shape):
        """Finish `new`, whose parameters stand, as an expansion of this distribution."""
        super(cls, new).__init__(torch.Size(batch_shape), self._event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _get_checked_instance(self, cls, _instance=None):
        if _instance is None and type(self).__init__ != cls.__init__:
            raise NotImplementedError(f"Subclass {type(self).__name__} of {cls.__name__} that defines a custom __init__ method "
                                      "must also define a custom .expand() method.")
        return self.__new__(type(self)) if _instance is None else _instance

    def _extended_shape(self, sample_shape=()):
        return torch.Size(sample_shape) + self._batch_shape + self._event_shape

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def arg_constraints(self):
        """The constraint of each parameter, by name."""
        raise NotImplementedError

    @property
    def support(self):
        """The constraint of the values."""
        raise NotImplementedError

    @property
    def mean(self):
        """The expected value, shape batch_shape + event_shape."""
        raise NotImplementedError

    @property
    def mode(self):
        """The likeliest value, shape batch_shape + event_shape."""
        raise NotImplementedError(f"{type(self)} does not implement mode")

    @property
    def variance(self):
        """The variance, shape batch_shape + event_shape."""
        raise NotImplementedError

    @property
    def stddev(self):
        """The square root of the variance."""
        return self.variance.sqrt()

    def entropy(self):
        """The entropy in nats, shape batch_shape."""
        raise NotImplementedError

    def perplexity(self):
        """exp(entropy)."""
        return torch.exp(self.entropy())

    # -- samples ------------------------------------------------------------------------------------------------

    def sample(self, sample_shape=()):
        """Draws of shape sample_shape + batch_shape + event_shape, without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape=()):
        """Draws that are differentiable functions of the parameters."""
        raise NotImplementedError

    def sample_n(self, n: int):
        """`n` draws: use sample((n,))."""
        warnings.warn("`sample_n(n)` will be deprecated. Use `sample((n,))` instead.", FutureWarning, stacklevel=2)
        return self.sample(torch.Size((n,)))

    def enumerate_support(self, expand: bool = True):
        """All values of a discrete distribution along a new first dimension, expanded to the batch or of size 1 there."""
        raise NotImplementedError

    # -- values -------------------------------------------------------------------------------------------------

    def log_prob(self, value):
        """The logarithm of the density or probability at `value`."""
        raise NotImplementedError

    def cdf(self, value):
        """The probability of at most `value`."""
        raise NotImplementedError

    def icdf(self, value):
        """The value that is exceeded with probability 1 - `value`."""
        raise NotImplementedError

    def _validate_sample(self, value) -> None:
        """ValueError unless `value` is a tensor of fitting shape within the support."""
        if not isinstance(value, torch.Tensor):
            raise ValueError("The value argument to log_prob must be a Tensor")
        split = value.dim() - len(self._event_shape)
        if tuple(value.shape[max(split, 0):]) != tuple(self._event_shape):
            raise ValueError(f"The right-most size of value must match event_shape: {value.size()} vs {self._event_shape}.")
        expected = self._batch_shape + self._event_shape
        if any(i != 1 and j != 1 and i != j for i, j in zip(reversed(value.shape), reversed(expected))):
            raise ValueError(f"Value is not broadcastable with batch_shape+event_shape: {value.size()} vs {expected}.")
        try:
            support = self.support
        except NotImplementedError:
            warnings.warn(f"{type(self)} does not define `support` to enable sample validation. Please initialize the distribution with "
                          "`validate_args=False` to turn off validation.", stacklevel=3)
            return
        if not support.check(value).all():
            raise ValueError(f"Expected value argument ({type(value).__name__} of shape {tuple(value.shape)}) to be within the support "
                             f"({support!r}) of the distribution {self!r}, but found invalid values:\n{value}")

    def __repr__(self):
        names = [name for name in self.arg_constraints if name in self.__dict__]
        shown = [(name, self.__dict__[name]) for name in names]
        return f"{type(self).__name__}({', '.join(f'{n}: {v if v.numel() == 1 else v.size()}' for n, v in shown)})"


def _all_true(valid: list) -> bool:
    """Whether all elements of all these tensors are true, computed at once."""
    return not valid or bool(functools.reduce(torch.logical_and, [v.all() for v in valid]))
