"""The adaptive softmax over a large vocabulary."""

from __future__ import annotations

from collections import namedtuple

import antorcha as torch

from .. import functional as F
from .container import ModuleList, Sequential
from .linear import Linear
from .module import Module

_ASMoutput = namedtuple("_ASMoutput", ["output", "loss"])


class AdaptiveLogSoftmaxWithLoss(Module):
    """The log-probability of each target, where frequent classes (small numbers) are scored directly and the others in clusters.

    `cutoffs`: where the clusters begin; the scores of cluster i are computed in in_features / div_value^i dimensions. Returns the
    log-probabilities (N,) and their negative mean. Grave et al., 2017.
    """

    def __init__(self, in_features, n_classes, cutoffs, div_value=4.0, head_bias=False, device=None, dtype=None):
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        if (cutoffs != sorted(set(cutoffs)) or min(cutoffs) <= 0 or max(cutoffs) > n_classes - 1
                or any(int(c) != c for c in cutoffs)):
            raise ValueError("cutoffs should be a sequence of unique, positive integers sorted in an increasing order, "
                             "where each value is between 1 and n_classes-1")
        self.in_features, self.n_classes, self.div_value, self.head_bias = in_features, n_classes, div_value, head_bias
        self.cutoffs = [*cutoffs, n_classes]
        self.shortlist_size, self.n_clusters = self.cutoffs[0], len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, head_bias, device, dtype)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            inner, size = int(in_features // div_value ** (i + 1)), self.cutoffs[i + 1] - self.cutoffs[i]
            self.tail.append(Sequential(Linear(in_features, inner, False, device, dtype), Linear(inner, size, False, device, dtype)))

    def reset_parameters(self):
        self.head.reset_parameters()
        for inner, outer in self.tail:
            inner.reset_parameters()
            outer.reset_parameters()

    def forward(self, input, target):
        single = target.dim() == 0
        self._check(input, target)
        if single:
            input, target = input.unsqueeze(0), target.unsqueeze(0)
        head = F.log_softmax(self.head(input), 1)
        place = torch.where(target < self.shortlist_size, target, 0)    # in the head: the class, or the cluster
        output = torch.zeros_like(head[:, 0])
        for i, cluster in enumerate(self.tail):
            low, high = self.cutoffs[i], self.cutoffs[i + 1]
            inside = (target >= low) & (target < high)
            place = torch.where(inside, self.shortlist_size + i, place)
            rows = inside.nonzero().squeeze(1)
            if rows.numel():
                scores = F.log_softmax(cluster(input.index_select(0, rows)), 1)
                picked = scores.gather(1, (target.index_select(0, rows) - low).unsqueeze(1)).squeeze(1)
                output = output.index_copy(0, rows, picked)
        output = output + head.gather(1, place.unsqueeze(1)).squeeze(1)
        loss = -output.mean()
        return _ASMoutput(output.squeeze(0) if single else output, loss)

    def _check(self, input, target) -> None:
        if target.dim() not in (0, 1):
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        if target.dim() == 0 and input.dim() != 1:
            raise RuntimeError("0D target tensor expects 1D input tensor")
        if target.dim() == 1 and input.dim() != 2:
            raise RuntimeError("1D target tensor expects 2D input tensor")
        if target.dim() == 1 and input.shape[0] != target.shape[0]:
            raise RuntimeError("Input and target should have the same size in the batch dimension.")
        if target.numel() and (int(target.min()) < 0 or int(target.max()) >= self.n_classes):
            raise RuntimeError(f"Target values should be in [0, {self.n_classes - 1}], but values in range "
                               f"[{int(target.min())}, {int(target.max())}] were found. ")

    def log_prob(self, input):
        """The log-probabilities of all classes, (N, n_classes)."""
        head = self.head(input)
        scores = F.log_softmax(head, 1)
        clusters = [F.log_softmax(cluster(input), 1) + scores[:, self.shortlist_size + i].unsqueeze(1)
                    for i, cluster in enumerate(self.tail)]
        return torch.cat([scores[:, :self.shortlist_size], *clusters], 1)

    def predict(self, input):
        """The most probable class of each row."""
        return self.log_prob(input).argmax(1)
