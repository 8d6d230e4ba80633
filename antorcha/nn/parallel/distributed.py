"""Training one model in several processes, each on its part of the data."""

from __future__ import annotations

import contextlib

import antorcha as torch

from ...core import autograd
from ..modules.module import Module


class DistributedDataParallel(Module):
    """`module`, whose gradients are averaged over all processes at the end of each backward pass.

    Parameters and buffers begin as those of process 0; with `broadcast_buffers` buffers are its at every forward pass, too.
    find_unused_parameters: parameters without a gradient count as zero; otherwise they are an error. Options of buckets and
    streams change nothing: all gradients of a dtype are one message.
    """

    def __init__(self, module, device_ids=None, output_device=None, dim=0, broadcast_buffers=True, init_sync=True, process_group=None,
                 bucket_cap_mb=None, find_unused_parameters=False, check_reduction=False, gradient_as_bucket_view=False,
                 static_graph=False, **options):
        super().__init__()
        from ... import distributed

        self._distributed = distributed
        self.process_group = distributed.group.WORLD if process_group is None else process_group
        if self.process_group is None:
            raise RuntimeError("DistributedDataParallel: Default process group has not been initialized, please make sure to call "
                               "init_process_group.")
        self._learned = [p for p in module.parameters() if p.requires_grad]
        if not self._learned:
            raise RuntimeError("DistributedDataParallel is not needed when a module doesn't have any parameter that requires a gradient.")
        self.module, self.device_ids, self.output_device, self.dim = module, device_ids, output_device, dim
        self.broadcast_buffers, self.find_unused_parameters = broadcast_buffers, find_unused_parameters
        self.require_backward_grad_sync, self._waiting = True, False
        if init_sync:
            self._take_over([*module.parameters(), *module.buffers()])
        for p in self._learned:
            p.register_post_accumulate_grad_hook(self._arrived)

    def _take_over(self, tensors) -> None:
        """Give the tensors of the group's first process to all."""
        for t in tensors:
            self._distributed.broadcast(t.detach(), group_src=0, group=self.process_group)

    def forward(self, *inputs, **kwargs):
        if self.broadcast_buffers and self.training and self.require_backward_grad_sync:
            self._take_over(self.module.buffers())
        return self.module(*inputs, **kwargs)

    @contextlib.contextmanager
    def no_sync(self):
        """Inside, gradients stay each process's own and add up; the next backward pass outside averages them."""
        before, self.require_backward_grad_sync = self.require_backward_grad_sync, False
        try:
            yield
        finally:
            self.require_backward_grad_sync = before

    def _arrived(self, parameter) -> None:
        """A gradient is there: average all of them when the backward pass ends."""
        if self.require_backward_grad_sync and not self._waiting:
            self._waiting = True
            autograd.when_done(self._average)

    def _average(self) -> None:
        self._waiting = False
        missing = [p for p in self._learned if p.grad is None]
        if missing and not self.find_unused_parameters:
            names = [n for n, p in self.module.named_parameters() if any(p is m for m in missing)]
            raise RuntimeError(f"Expected to have finished reduction in the prior iteration before starting a new one: parameters {names} "
                               "were not used in producing loss. Pass find_unused_parameters=True to DistributedDataParallel.")
        with torch.no_grad():
            for p in missing:
                p.grad = torch.zeros_like(p)
            for dtype in {p.grad.dtype for p in self._learned}:
                grads = [p.grad for p in self._learned if p.grad.dtype is dtype]
                flat = torch.cat([g.to_dense().reshape(-1) for g in grads])
                self._distributed.all_reduce(flat, self._distributed.ReduceOp.AVG, self.process_group)
                for g, part in zip(grads, flat.split([g.numel() for g in grads])):
                    g.copy_(part.view_as(g))

    def __getstate__(self):
        return {k: v for k, v in super().__getstate__().items() if k not in ("_distributed", "process_group")}
