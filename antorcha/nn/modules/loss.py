"""Losses as modules: functions of `nn.functional` with the options that the module keeps."""

from __future__ import annotations

from .. import functional as F
from .distance import PairwiseDistance
from .linear import Linear
from .module import Module


class _Loss(Module):
    """Calls the loss `function` with `reduction` and the attributes that `options` names."""

    function = ""
    options: tuple = ()

    def __init__(self, size_average=None, reduce=None, reduction: str = "mean"):
        super().__init__()
        older = size_average is not None or reduce is not None
        self.reduction = F.loss.reduction_name(size_average, reduce, reduction) if older else reduction

    def forward(self, input, target):
        return self._loss(input, target)

    def _loss(self, *tensors):
        options = {name: getattr(self, name) for name in self.options}
        return getattr(F, self.function)(*tensors, reduction=self.reduction, **options)


class _WeightedLoss(_Loss):
    def __init__(self, weight=None, size_average=None, reduce=None, reduction: str = "mean"):
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)


class L1Loss(_Loss):
    """|input - target|."""
    function = "l1_loss"


class MSELoss(_Loss):
    """(input - target)^2."""
    function = "mse_loss"


class SmoothL1Loss(_Loss):
    """A square over `beta` up to `beta`, a line beyond. Girshick, 2015."""
    function, options = "smooth_l1_loss", ("beta",)

    def __init__(self, size_average=None, reduce=None, reduction: str = "mean", beta: float = 1.0):
        super().__init__(size_average, reduce, reduction)
        self.beta = beta


class HuberLoss(_Loss):
    """A square up to `delta`, a line beyond. Huber, 1964."""
    function, options = "huber_loss", ("delta",)

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction=reduction)
        if not isinstance(delta, (int, float)):
            raise TypeError(f"delta must be a float or int, got: {type(delta)}")
        self.delta = delta


class NLLLoss(_WeightedLoss):
    """Minus the log-probability of the target class."""
    function, options = "nll_loss", ("weight", "ignore_index")

    def __init__(self, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction: str = "mean"):
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index = ignore_index


class NLLLoss2d(NLLLoss):
    """`NLLLoss` under its older name for images."""


class CrossEntropyLoss(_WeightedLoss):
    """Minus the log-probability of the target class, for logits."""
    function, options = "cross_entropy", ("weight", "ignore_index", "label_smoothing")

    def __init__(self, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction: str = "mean", label_smoothing=0.0):
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing


class LinearCrossEntropyLoss(_WeightedLoss):
    """`CrossEntropyLoss` of the logits that a linear layer of its own makes of the input."""

    def __init__(self, in_features, num_classes, *, out_features=(), bias=False, device=None, dtype=None, reduction="mean", weight=None,
                 ignore_index=None, label_smoothing=0.0, options=None):
        super().__init__(weight, reduction=reduction)
        if weight is not None and tuple(weight.shape) != (num_classes,):
            raise RuntimeError(f"expected weight shape to be {(num_classes,)}, got {tuple(weight.shape)}")
        if not 0 <= label_smoothing <= 1:
            raise RuntimeError(f"expected label_smoothing to be in range [0, 1], got {label_smoothing}")
        self.in_features, self.num_classes, self.out_features = in_features, num_classes, tuple(out_features)
        self.ignore_index, self.label_smoothing, self.options = ignore_index, label_smoothing, options
        rows = num_classes
        for size in self.out_features:
            rows *= size
        self.linear = Linear(in_features, rows, bias, device, dtype)

    def forward(self, input, target):
        shape = (self.num_classes, *self.out_features, -1)
        bias = None if self.linear.bias is None else self.linear.bias.reshape(shape[:-1])
        return F.linear_cross_entropy(input, self.linear.weight.reshape(shape), target, linear_bias=bias, weight=self.weight,
                                      reduction=self.reduction, ignore_index=self.ignore_index, label_smoothing=self.label_smoothing,
                                      options=self.options)

    def extra_repr(self):
        return (f"in_features={self.in_features}, num_classes={self.num_classes}, out_features={self.out_features}, "
                f"bias={self.linear.bias is not None}, reduction={self.reduction}, ignore_index={self.ignore_index}, "
                f"label_smoothing={self.label_smoothing}, options={self.options}")


class KLDivLoss(_Loss):
    """The Kullback-Leibler divergence from log-probabilities to the target."""
    function, options = "kl_div", ("log_target",)

    def __init__(self, size_average=None, reduce=None, reduction: str = "mean", log_target: bool = False):
        super().__init__(size_average, reduce, reduction)
        self.log_target = log_target


class BCELoss(_WeightedLoss):
    """Binary cross-entropy of probabilities."""
    function, options = "binary_cross_entropy", ("weight",)


class BCEWithLogitsLoss(_WeightedLoss):
    """Binary cross-entropy of logits."""
    function, options = "binary_cross_entropy_with_logits", ("weight", "pos_weight")

    def __init__(self, weight=None, size_average=None, reduce=None, reduction: str = "mean", pos_weight=None):
        super().__init__(weight, size_average, reduce, reduction)
        self.register_buffer("pos_weight", pos_weight)


class PoissonNLLLoss(_Loss):
    """The negative log-likelihood of Poisson counts."""
    function, options = "poisson_nll_loss", ("log_input", "full", "eps")

    def __init__(self, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction: str = "mean"):
        super().__init__(size_average, reduce, reduction)
        self.log_input, self.full, self.eps = log_input, full, eps

    def forward(self, log_input, target):
        return self._loss(log_input, target)


class GaussianNLLLoss(_Loss):
    """The negative log-likelihood of normal numbers with given means and variances."""
    function, options = "gaussian_nll_loss", ("full", "eps")

    def __init__(self, *, full=False, eps=1e-6, reduction: str = "mean"):
        super().__init__(reduction=reduction)
        self.full, self.eps = full, eps

    def forward(self, input, target, var):
        return self._loss(input, target, var)


class HingeEmbeddingLoss(_Loss):
    """x where the target is 1, max(0, margin - x) where it is -1."""
    function, options = "hinge_embedding_loss", ("margin",)

    def __init__(self, margin=1.0, size_average=None, reduce=None, reduction: str = "mean"):
        super().__init__(size_average, reduce, reduction)
        self.margin = margin


class SoftMarginLoss(_Loss):
    """log(1 + exp(-target x))."""
    function = "soft_margin_loss"


class MultiLabelMarginLoss(_Loss):
    """The margin between each target class and each other class."""
    function = "multilabel_margin_loss"


class MultiLabelSoftMarginLoss(_WeightedLoss):
    """Binary cross-entropy of logits, averaged over the classes."""
    function, options = "multilabel_soft_margin_loss", ("weight",)


class MultiMarginLoss(_WeightedLoss):
    """The margin (to the power p) between the target class and all others."""
    function, options = "multi_margin_loss", ("p", "margin", "weight")

    def __init__(self, p=1, margin=1.0, weight=None, size_average=None, reduce=None, reduction: str = "mean"):
        if p not in (1, 2):
            raise ValueError("only p == 1 and p == 2 supported")
        if weight is not None and weight.dim() != 1:
            raise ValueError(f"MultiMarginLoss: expected weight to be None or 1D tensor, got {weight.dim()}D instead")
        super().__init__(weight, size_average, reduce, reduction)
        self.p, self.margin = p, margin


class CosineEmbeddingLoss(_Loss):
    """1 - cos(x1, x2) for target 1, max(0, cos(x1, x2) - margin) for target -1."""
    function, options = "cosine_embedding_loss", ("margin",)

    def __init__(self, margin=0.0, size_average=None, reduce=None, reduction: str = "mean"):
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input1, input2, target):
        return self._loss(input1, input2, target)


class MarginRankingLoss(_Loss):
    """max(0, -target (x1 - x2) + margin)."""
    function, options = "margin_ranking_loss", ("margin",)

    def __init__(self, margin=0.0, size_average=None, reduce=None, reduction: str = "mean"):
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input1, input2, target):
        return self._loss(input1, input2, target)


class TripletMarginLoss(_Loss):
    """max(0, d(anchor, positive) - d(anchor, negative) + margin). Balntas et al., 2016."""
    function, options = "triplet_margin_loss", ("margin", "p", "eps", "swap")

    def __init__(self, margin=1.0, p=2.0, eps=1e-6, swap=False, size_average=None, reduce=None, reduction: str = "mean"):
        super().__init__(size_average, reduce, reduction)
        if margin <= 0:
            raise ValueError(f"TripletMarginLoss: expected margin to be greater than 0, got {margin} instead")
        self.margin, self.p, self.eps, self.swap = margin, p, eps, swap

    def forward(self, anchor, positive, negative):
        return self._loss(anchor, positive, negative)


class TripletMarginWithDistanceLoss(_Loss):
    """`TripletMarginLoss` with a distance of one's own."""
    function, options = "triplet_margin_with_distance_loss", ("distance_function", "margin", "swap")

    def __init__(self, *, distance_function=None, margin=1.0, swap=False, reduction: str = "mean"):
        super().__init__(reduction=reduction)
        if margin <= 0:
            raise ValueError(f"TripletMarginWithDistanceLoss: expected margin to be greater than 0, got {margin} instead")
        self.distance_function = PairwiseDistance() if distance_function is None else distance_function
        self.margin, self.swap = margin, swap

    def forward(self, anchor, positive, negative):
        return self._loss(anchor, positive, negative)


class CTCLoss(_Loss):
    """Minus the log-probability of label sequences, over all their alignments with the input. Graves et al., 2006."""
    function, options = "ctc_loss", ("blank", "zero_infinity")

    def __init__(self, blank=0, reduction: str = "mean", zero_infinity=False):
        super().__init__(reduction=reduction)
        self.blank, self.zero_infinity = blank, zero_infinity

    def forward(self, log_probs, targets, input_lengths, target_lengths):
        return self._loss(log_probs, targets, input_lengths, target_lengths)
