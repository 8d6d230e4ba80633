"""Optimisers: what is done with the gradients."""

from __future__ import annotations

from . import lr_scheduler
from .adagrad import Adadelta, Adafactor, Adagrad
from .adam import Adam, Adamax, AdamW, AdamX, AdamZ, NAdam, RAdam, SparseAdam
from .lbfgs import LBFGS
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .sgd import ASGD, SGD, Muon, Rprop

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "AdamX",
    "AdamZ",
    "Adamax",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SparseAdam",
    "lr_scheduler",
]


def __getattr__(name: str):
    if name == "swa_utils":
        import importlib

        return importlib.import_module(".swa_utils", __name__)
    raise AttributeError(f"module 'torch.optim' has no attribute {name!r}: antorcha does not have it (yet)")
