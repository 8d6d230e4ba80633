"""Tools for parameters and their gradients."""

from __future__ import annotations

import importlib

from . import rnn
from .clip_grad import clip_grad_norm, clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm
from .convert_parameters import parameters_to_vector, vector_to_parameters
from .spectral_norm import remove_spectral_norm, spectral_norm
from .weight_norm import remove_weight_norm, weight_norm

_LATER = {      # name -> the module that has it; modules by their own names
    "parametrizations": "", "parametrize": "", "prune": "", "stateless": "", "fusion": "", "init": "", "memory_format": "",
    "fuse_conv_bn_eval": "fusion", "fuse_conv_bn_weights": "fusion", "fuse_linear_bn_eval": "fusion", "fuse_linear_bn_weights": "fusion",
    "convert_conv2d_weight_memory_format": "memory_format", "convert_conv3d_weight_memory_format": "memory_format", "skip_init": "init",
}

__all__ = [
    "clip_grad_norm", "clip_grad_norm_", "clip_grads_with_norm_", "clip_grad_value_", "convert_conv2d_weight_memory_format",
    "convert_conv3d_weight_memory_format", "fuse_conv_bn_eval", "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights",
    "get_total_norm", "parameters_to_vector", "parametrizations", "parametrize", "remove_spectral_norm", "remove_weight_norm", "rnn",
    "skip_init", "spectral_norm", "stateless", "vector_to_parameters", "weight_norm",
]


def __getattr__(name):
    if name not in _LATER:
        raise AttributeError(f"module 'torch.nn.utils' has no attribute {name!r} in antorcha: if it is part of PyTorch, "
                             "it is missing here so far")
    module = importlib.import_module("." + (_LATER[name] or name), __name__)
    return getattr(module, name) if _LATER[name] else module
