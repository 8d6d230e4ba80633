"""Modules: layers, activations, losses, containers. A public module of one of these files is a name of torch.nn."""

from . import (
    activation,
    adaptive,
    batchnorm,
    channelshuffle,
    container,
    conv,
    distance,
    dropout,
    flatten,
    fold,
    instancenorm,
    linear,
    loss,
    normalization,
    padding,
    pixelshuffle,
    pooling,
    rnn,
    sparse,
    transformer,
    upsampling,
)
from .module import Module

__all__ = ["Module", "module"]
for _source in (
    activation,
    adaptive,
    batchnorm,
    channelshuffle,
    container,
    conv,
    distance,
    dropout,
    flatten,
    fold,
    instancenorm,
    linear,
    loss,
    normalization,
    padding,
    pixelshuffle,
    pooling,
    rnn,
    sparse,
    transformer,
    upsampling,
):
    for _name, _value in vars(_source).items():
        if isinstance(_value, type) and issubclass(_value, Module) and _value.__module__ == _source.__name__ and not _name.startswith("_"):
            globals()[_name] = _value
            __all__.append(_name)
