"""Losses as modules."""

from __future__ import annotations

from .. import functional as F
from .module import Module


class _Loss(Module):
    """Calls the loss of `function` with the options kept in the module."""

    function = ""
    options: tuple = ()

    def __init__(self, size_average=None, reduce=None, reduction: str = "mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, input, target):
        return getattr(F, self.function)(input, target, reduction=self.reduction, **{name: getattr(self, name) for name in self.options})


class MSELoss(_Loss):
    """(input - target)^2."""
    function = "mse_loss"


class L1Loss(_Loss):
    """|input - target|."""
    function = "l1_loss"


class _Weighted(_Loss):
    def __init__(self, weight=None, size_average=None, reduce=None, reduction: str = "mean"):
        super().__init__(reduction=reduction)
        self.register_buffer("weight", weight)


class NLLLoss(_Weighted):
    """Minus the log-probability of the target class."""
    function, options = "nll_loss", ("weight", "ignore_index")

    def __init__(self, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction: str = "mean"):
        super().__init__(weight, reduction=reduction)
        self.ignore_index = ignore_index


class CrossEntropyLoss(_Weighted):
    """Minus the log-probability of the target class, for logits."""
    function, options = "cross_entropy", ("weight", "ignore_index", "label_smoothing")

    def __init__(self, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction: str = "mean", label_smoothing=0.0):
        super().__init__(weight, reduction=reduction)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing


class BCELoss(_Weighted):
    """Binary cross-entropy of probabilities."""
    function, options = "binary_cross_entropy", ("weight",)


class BCEWithLogitsLoss(_Weighted):
    """Binary cross-entropy of logits."""
    function, options = "binary_cross_entropy_with_logits", ("weight", "pos_weight")

    def __init__(self, weight=None, size_average=None, reduce=None, reduction: str = "mean", pos_weight=None):
        super().__init__(weight, reduction=reduction)
        self.register_buffer("pos_weight", pos_weight)


class HuberLoss(_Loss):
    """A square up to `delta`, a line beyond."""
    function, options = "huber_loss", ("delta",)

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction=reduction)
        self.delta = delta


class SmoothL1Loss(_Loss):
    """A square over `beta` up to `beta`, a line beyond."""
    function, options = "smooth_l1_loss", ("beta",)

    def __init__(self, size_average=None, reduce=None, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction=reduction)
        self.beta = beta


class KLDivLoss(_Loss):
    """The Kullback-Leibler divergence from log-probabilities to the target."""
    function, options = "kl_div", ("log_target",)

    def __init__(self, size_average=None, reduce=None, reduction: str = "mean", log_target: bool = False):
        super().__init__(reduction=reduction)
        self.log_target = log_target
