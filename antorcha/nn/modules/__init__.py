"""Modules: layers, activations, losses, containers."""

from . import activation, container, layers, loss, module
from .module import Module

__all__ = ["Module", "module"]
for _source in (container, layers, activation, loss):
    for _name, _value in list(vars(_source).items()):
        if isinstance(_value, type) and issubclass(_value, Module) and not _name.startswith("_"):
            globals()[_name] = _value
            __all__.append(_name)
