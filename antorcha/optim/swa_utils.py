"""Averages of a model's weights over its training (Izmailov et al. 2018; Polyak and Juditsky 1992)."""

from __future__ import annotations

import itertools
import math
from copy import deepcopy

import antorcha as torch

from ..nn import Module
from .lr_scheduler import LRScheduler, _per_group

__all__ = ["AveragedModel", "SWALR", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn", "get_swa_multi_avg_fn", "update_bn"]


def _check_decay(decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


def get_ema_avg_fn(decay=0.999):
    """The average as decay * average + (1 - decay) * value."""
    _check_decay(decay)

    @torch.no_grad()
    def ema_update(ema_param, current_param, num_averaged):
        return decay * ema_param + (1 - decay) * current_param

    return ema_update


def get_swa_avg_fn():
    """The mean of all values so far."""
    @torch.no_grad()
    def swa_update(averaged_param, current_param, num_averaged):
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)

    return swa_update


def _of_lists(function):
    @torch.no_grad()
    def update(averages, values, num_averaged):
        for average, value in zip(averages, values):
            average.copy_(function(average, value, num_averaged))

    return update


def get_ema_multi_avg_fn(decay=0.999):
    """`get_ema_avg_fn` for lists, in place."""
    return _of_lists(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn():
    """`get_swa_avg_fn` for lists, in place."""
    return _of_lists(get_swa_avg_fn())


class AveragedModel(Module):
    """A copy of `model` whose parameters (with `use_buffers` buffers too) are averages; `update_parameters(model)` takes one more
    value in."""

    def __init__(self, model, device=None, avg_fn=None, multi_avg_fn=None, use_buffers=False):
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", torch.tensor(0, dtype=torch.long, device=device))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)

    def _values(self, model) -> list:
        own = model.parameters()
        return list(itertools.chain(own, model.buffers()) if self.use_buffers else own)

    def update_parameters(self, model) -> None:
        averages, values = self._values(self.module), self._values(model)
        with torch.no_grad():
            if int(self.n_averaged) == 0:
                for average, value in zip(averages, values):
                    average.copy_(value)
            else:
                update = self.multi_avg_fn or _of_lists(self.avg_fn or get_swa_avg_fn())
                floating = [(a, v) for a, v in zip(averages, values) if a.is_floating_point()]
                update([a for a, _ in floating], [v for _, v in floating], self.n_averaged)
                for average, value in zip(averages, values):
                    if not average.is_floating_point():
                        average.copy_(value)
            if not self.use_buffers:
                for average, value in zip(self.module.buffers(), model.buffers()):
                    average.copy_(value)
        self.n_averaged += 1


@torch.no_grad()
def update_bn(loader, model, device=None) -> None:
    """Compute the running statistics of all batch normalisations anew, in one pass over the data."""
    momenta = {m: m.momentum for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)}
    if not momenta:
        return
    training = model.training
    model.train()
    for m in momenta:
        m.reset_running_stats()
        m.momentum = None
    for batch in loader:
        batch = batch[0] if isinstance(batch, (list, tuple)) else batch
        model(batch.to(device) if device is not None else batch)
    for m, momentum in momenta.items():
        m.momentum = momentum
    model.train(training)


class SWALR(LRScheduler):
    """From the rate at the beginning to `swa_lr` in `anneal_epochs` epochs, along a line or half a cosine, then constant."""

    def __init__(self, optimizer, swa_lr, anneal_epochs=10, anneal_strategy="cos", last_epoch=-1):
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must by one of 'cos' or 'linear', instead got {anneal_strategy}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        for group, rate in zip(optimizer.param_groups, _per_group(optimizer, "swa_lr", swa_lr)):
            group["swa_lr"] = rate
        self._anneal_strategy, self.anneal_epochs = anneal_strategy, anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _part(self, t: float) -> float:
        t = max(0, min(1, t))
        return (1 - math.cos(math.pi * t)) / 2 if self._anneal_strategy == "cos" else t

    def get_lr(self):
        step = self._step_count - 1
        epochs = max(1, self.anneal_epochs) if self.anneal_epochs == 0 else self.anneal_epochs
        before, now = self._part((step - 1) / epochs), self._part(step / epochs)
        rates = []
        for group in self.optimizer.param_groups:
            rate, end = group["lr"], group["swa_lr"]
            start = end if before == 1 else (rate - before * end) / (1 - before)
            rates.append(end * now + start * (1 - now))
        return rates
