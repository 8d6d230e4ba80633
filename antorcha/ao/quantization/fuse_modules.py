"""Layers that follow each other made one, so that only the last result is rounded to a grid."""

from __future__ import annotations

import copy

from ... import nn
from ...nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from ..nn import intrinsic

_TRAINED = {tuple(kinds): getattr(intrinsic, name) for name, kinds in {
    **{f"ConvBnReLU{n}d": (getattr(nn, f"Conv{n}d"), getattr(nn, f"BatchNorm{n}d"), nn.ReLU) for n in (1, 2, 3)},
    **{f"ConvBn{n}d": (getattr(nn, f"Conv{n}d"), getattr(nn, f"BatchNorm{n}d")) for n in (1, 2, 3)},
    **{f"ConvReLU{n}d": (getattr(nn, f"Conv{n}d"), nn.ReLU) for n in (1, 2, 3)},
    **{f"BNReLU{n}d": (getattr(nn, f"BatchNorm{n}d"), nn.ReLU) for n in (2, 3)},
    "LinearReLU": (nn.Linear, nn.ReLU), "LinearBn1d": (nn.Linear, nn.BatchNorm1d)}.items()}


def _one(layers: list):
    """A module that does what the layers do one after the other: in evaluation, normalisations are merged into the layer before."""
    kinds = tuple(type(x) for x in layers)
    if kinds not in _TRAINED and kinds != (nn.Linear, nn.BatchNorm1d, nn.ReLU):
        raise NotImplementedError(f"fuse_modules: expected a convolution or linear layer, then a batch normalisation, a ReLU or both; "
                                  f"received {', '.join(k.__name__ for k in kinds)}")
    if len({x.training for x in layers}) > 1:
        raise AssertionError("fuse_modules: expected all layers in training, or all in evaluation")
    if layers[0].training or not isinstance(layers[1], nn.modules.batchnorm._BatchNorm):
        return _TRAINED[kinds](*layers)
    merge = fuse_linear_bn_eval if kinds[0] is nn.Linear else fuse_conv_bn_eval
    merged = merge(layers[0], layers[1])
    return merged if len(layers) == 2 else _TRAINED[kinds[0], nn.ReLU](merged, layers[2])


def fuse_known_modules(mod_list, is_qat=False, additional_fuser_method_mapping=None):
    """One module for several, and identities for the others."""
    first = _one(mod_list)
    for hook in mod_list[0]._forward_pre_hooks.values():
        first.register_forward_pre_hook(hook)
    for hook in mod_list[-1]._forward_hooks.values():
        first.register_forward_hook(hook)
    rest = [nn.Identity() for _ in mod_list[1:]]
    for identity in rest:
        identity.training = mod_list[0].training
    return [first, *rest]


def fuse_modules(model, modules_to_fuse, inplace=False, fuser_func=fuse_known_modules, fuse_custom_config_dict=None):
    """A copy of `model` in which each list of names, such as ["conv", "bn", "relu"], is one module in the place of the first and identities
    in the others'. In evaluation normalisations are merged into the weights; in training they stay as they are."""
    model = model if inplace else copy.deepcopy(model)
    for names in modules_to_fuse if all(isinstance(x, (list, tuple)) for x in modules_to_fuse) else [modules_to_fuse]:
        for name, module in zip(names, fuser_func([model.get_submodule(name) for name in names])):
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, module)
    return model


def fuse_modules_qat(model, modules_to_fuse, inplace=False, fuser_func=fuse_known_modules, fuse_custom_config_dict=None):
    """`fuse_modules` for a model in training."""
    return fuse_modules(model, modules_to_fuse, inplace, fuser_func)
