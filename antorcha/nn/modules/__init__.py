"""Modules: layers, activations, losses, containers. A public module of one of these files is a name of torch.nn."""

from importlib import import_module

from .module import Module

_FILES = """
    activation adaptive batchnorm channelshuffle container conv distance dropout flatten fold instancenorm linear loss
    normalization padding pixelshuffle pooling rnn sparse transformer upsampling
"""
__all__ = ["Module", "module"]
for _file in _FILES.split():
    _source = import_module(f".{_file}", __name__)
    for _name, _value in vars(_source).items():
        if isinstance(_value, type) and issubclass(_value, Module) and _value.__module__ == _source.__name__ and not _name.startswith("_"):
            globals()[_name] = _value
            __all__.append(_name)
