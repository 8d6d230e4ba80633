"""Collective operations that return a new tensor."""

from __future__ import annotations

import antorcha as torch

from ..autograd import Function
from . import collectives
from .group import ReduceOp, member


def wait_tensor(tensor):
    """The tensor: operations are done when they return."""
    return tensor


def all_reduce(self, reduceOp: str, group, tag: str = ""):
    """The tensors of all, combined as "sum", "avg", "product", "min" or "max"."""
    out = self.detach().clone()
    collectives.all_reduce(out, getattr(ReduceOp, reduceOp.upper()), group)
    return out


def all_gather_tensor(self, gather_dim: int, group, tag: str = ""):
    """The tensors of all, one after the other along a dimension."""
    parts = [torch.empty_like(self) for _ in range(member(group).size())]
    collectives.all_gather(parts, self, group)
    return torch.cat(parts, gather_dim)


def all_to_all_single(self, output_split_sizes, input_split_sizes, group, tag: str = ""):
    """The parts that all processes have for this one."""
    rows = self.shape[0] if output_split_sizes is None else sum(output_split_sizes)
    out = self.new_empty((rows, *self.shape[1:]))
    collectives.all_to_all_single(out, self.detach(), output_split_sizes, input_split_sizes, group)
    return out


class _AllToAll(Function):
    @staticmethod
    def forward(ctx, x, output_split_sizes, input_split_sizes, group):
        ctx.sizes, ctx.group = (output_split_sizes, input_split_sizes), group
        return all_to_all_single(x, output_split_sizes, input_split_sizes, group)

    @staticmethod
    def backward(ctx, g):
        out_sizes, in_sizes = ctx.sizes
        return all_to_all_single(g, in_sizes, out_sizes, ctx.group), None, None, None


def all_to_all_single_autograd(self, output_split_sizes, input_split_sizes, group, tag: str = ""):
    """`all_to_all_single` with a derivative."""
    return _AllToAll.apply(self, output_split_sizes, input_split_sizes, group)
