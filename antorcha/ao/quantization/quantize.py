"""From a model of floats to a quantized one: `prepare`, run some data, `convert`; or `quantize_dynamic`, which needs no data."""

from __future__ import annotations

import copy

import antorcha as torch

from ... import nn
from ..nn import intrinsic, qat, quantized
from ..nn.quantized import dynamic
from .fake_quantize import FakeQuantizeBase
from .observer import ObserverBase
from .qconfig import default_dynamic_qconfig, float16_dynamic_qconfig, float_qparams_weight_only_qconfig
from .stubs import DeQuantStub, QuantStub, QuantWrapper

DYNAMIC = {
    nn.Linear: dynamic.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear: dynamic.Linear,
    nn.LSTM: dynamic.LSTM, nn.GRU: dynamic.GRU,
    nn.LSTMCell: dynamic.LSTMCell, nn.RNNCell: dynamic.RNNCell, nn.GRUCell: dynamic.GRUCell, nn.Embedding: quantized.Embedding,
}
STATIC = {
    QuantStub: quantized.Quantize, DeQuantStub: quantized.DeQuantize, quantized.FloatFunctional: quantized.QFunctional,
    nn.Embedding: quantized.Embedding, qat.Embedding: quantized.Embedding,
    nn.modules.linear.NonDynamicallyQuantizableLinear: quantized.Linear,
    **{getattr(nn, name): getattr(quantized, name) for name in (
        "Linear", "Conv1d", "Conv2d", "Conv3d", "BatchNorm2d", "BatchNorm3d", "LayerNorm", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d",
        "InstanceNorm3d", "ELU", "Hardswish", "LeakyReLU", "PReLU", "ReLU6", "Sigmoid", "Softmax")},
    **{getattr(intrinsic, name): getattr(intrinsic.quantized, name) for name in (
        "LinearReLU", "ConvReLU1d", "ConvReLU2d", "ConvReLU3d", "BNReLU2d", "BNReLU3d")},
    **{getattr(qat, name): getattr(quantized, name) for name in ("Linear", "Conv1d", "Conv2d", "Conv3d")},
    **{getattr(intrinsic.qat, name): getattr(intrinsic.quantized, name) for name in (
        "LinearReLU", "ConvReLU1d", "ConvReLU2d", "ConvReLU3d")},
    **{getattr(intrinsic.qat, f"ConvBn{n}d"): getattr(quantized, f"Conv{n}d") for n in (1, 2, 3)},
    **{getattr(intrinsic.qat, f"ConvBnReLU{n}d"): getattr(intrinsic.quantized, f"ConvReLU{n}d") for n in (1, 2, 3)},
    intrinsic.qat.LinearBn1d: quantized.Linear,
}
TRAINED = {
    **{getattr(nn, name): getattr(qat, name) for name in ("Linear", "Conv1d", "Conv2d", "Conv3d", "Embedding")},
    **{getattr(intrinsic, name): getattr(intrinsic.qat, name) for name in intrinsic.qat.__all__ if hasattr(intrinsic, name)},
}
# What keeps the grid of its input, and so is not observed.
_UNOBSERVED = (nn.Dropout, nn.Identity, DeQuantStub, nn.Embedding, nn.Sequential)


def get_default_dynamic_quant_module_mappings() -> dict:
    """The class of layers with quantized weights for each class of float layers."""
    return dict(DYNAMIC)


def get_default_static_quant_module_mappings() -> dict:
    """The class of quantized layers for each class that `convert` replaces."""
    return dict(STATIC)


def get_default_qat_module_mappings() -> dict:
    """The class that trains with fake quantization for each class that `prepare_qat` replaces."""
    return dict(TRAINED)


def get_default_qconfig_propagation_list() -> set:
    """The classes of modules that observe their results once they have a configuration."""
    return set(STATIC) | set(TRAINED) | set(DYNAMIC)


def propagate_qconfig_(module, qconfig_dict=None, prepare_custom_config_dict=None):
    """Give every module below the configuration of its parent, unless it has one of its own, or `qconfig_dict` has one for its name or
    class; "" is the name of the model itself."""
    _propagate(module, qconfig_dict or {}, None, "")


def _propagate(module, given: dict, inherited, name: str) -> None:
    own = vars(module).get("qconfig", inherited)
    found = given.get(name, given.get(type(module), own))
    module.qconfig = found
    for child_name, child in module.named_children():
        _propagate(child, given, found, f"{name}.{child_name}" if name else child_name)


def _observe(module) -> None:
    """Give a module an observer of its results."""
    module.activation_post_process = module.qconfig.activation()
    module.register_forward_hook(_pass_through)


def _pass_through(module, inputs, output):
    return module.activation_post_process(output)


def prepare(model, inplace=False, allow_list=None, observer_non_leaf_module_list=None, prepare_custom_config_dict=None):
    """A copy of `model` whose modules with a `qconfig` observe their results; run representative data through it, then `convert`."""
    model = model if inplace else copy.deepcopy(model)
    propagate_qconfig_(model)
    _add_observers(model, tuple(allow_list or get_default_qconfig_propagation_list()))
    return model


def _add_observers(module, kinds: tuple) -> None:
    for child in module.children():
        if isinstance(child, (ObserverBase, FakeQuantizeBase)) or getattr(child, "qconfig", None) is None:
            if getattr(child, "qconfig", None) is None:
                _add_observers(child, kinds)
            continue
        if isinstance(child, quantized.FloatFunctional):
            child.activation_post_process = child.qconfig.activation()
        elif type(child) in kinds and not isinstance(child, _UNOBSERVED) or isinstance(child, intrinsic._FusedModule):
            _observe(child)
        else:
            _add_observers(child, kinds)


def convert(module, mapping=None, inplace=False, remove_qconfig=True, is_reference=False, convert_custom_config_dict=None,
            use_precomputed_fake_quant=False):
    """A copy of a prepared model in which every module of `mapping` is replaced by its quantized one."""
    if is_reference:
        raise NotImplementedError("convert(is_reference=True): reference models are for other compilers. Use is_reference=False")
    module = module if inplace else copy.deepcopy(module)
    _swap_below(module, STATIC if mapping is None else mapping)
    if remove_qconfig:
        for m in module.modules():
            vars(m).pop("qconfig", None)
    return module


def _swap_below(module, mapping: dict) -> None:
    for name, child in list(module.named_children()):
        if type(child) not in mapping and not isinstance(child, quantized.FloatFunctional):
            _swap_below(child, mapping)
        setattr(module, name, swap_module(child, mapping, {}))


def swap_module(mod, mapping, custom_module_class_mapping=None, use_precomputed_fake_quant=False):
    """The module that `mapping` has for the class of `mod`, made from it; `mod` itself if there is none or it has no `qconfig`."""
    if type(mod) not in mapping or getattr(mod, "qconfig", None) is None and not isinstance(mod, DeQuantStub):
        return mod
    new = mapping[type(mod)].from_float(mod)
    for hook in mod._forward_pre_hooks.values():
        new.register_forward_pre_hook(hook)
    for hook in mod._forward_hooks.values():
        if hook is not _pass_through:
            new.register_forward_hook(hook)
    return new


def quantize(model, run_fn, run_args, mapping=None, inplace=False):
    """`prepare`, `run_fn(model, *run_args)` to let it see data, `convert`."""
    model = model if inplace else copy.deepcopy(model)
    model.eval()
    prepare(model, inplace=True)
    run_fn(model, *run_args)
    return convert(model, mapping, inplace=True)


def quantize_dynamic(model, qconfig_spec=None, dtype=torch.qint8, mapping=None, inplace=False):
    """A copy of `model` whose linear and recurrent layers have weights of int8 (or float16), a quarter (half) of the memory.

    Inputs are put on a grid of their own as they come. `qconfig_spec`: the classes or names of modules to replace, or a dict from these to
    configurations; by default linear layers, LSTM, GRU and cells. `dtype`: torch.qint8, torch.float16, or torch.quint8 for embeddings.
    """
    layers = (nn.Linear, nn.LSTM, nn.GRU, nn.LSTMCell, nn.RNNCell, nn.GRUCell)
    configs = {torch.qint8: (default_dynamic_qconfig, layers), torch.float16: (float16_dynamic_qconfig, layers),
               torch.quint8: (float_qparams_weight_only_qconfig, (nn.Embedding,))}
    if dtype not in configs:
        raise ValueError(f"quantize_dynamic: expected dtype torch.qint8, torch.float16 or torch.quint8; received {dtype}")
    config, kinds = configs[dtype]
    if not isinstance(qconfig_spec, dict):
        qconfig_spec = dict.fromkeys(kinds if qconfig_spec is None else qconfig_spec, config)
    qconfig_spec = {name: config if c is None else c for name, c in qconfig_spec.items()}
    model = model if inplace else copy.deepcopy(model)
    model.eval()
    propagate_qconfig_(model, qconfig_spec)
    whole = nn.ModuleList([model])      # so that a model that is a single layer is replaced, too
    return convert(whole, DYNAMIC if mapping is None else mapping, inplace=True)[0]


def prepare_qat(model, mapping=None, inplace=False):
    """A copy of a model in training whose weights and results are moved to the grids that they will have; train it, then `convert`."""
    if not model.training:
        raise AssertionError("prepare_qat only works on models in training mode")
    model = model if inplace else copy.deepcopy(model)
    propagate_qconfig_(model)
    _swap_below(model, TRAINED if mapping is None else mapping)
    _add_observers(model, tuple(get_default_qconfig_propagation_list() | set(TRAINED.values())))
    return model


def quantize_qat(model, run_fn, run_args, inplace=False):
    """`prepare_qat`, `run_fn(model, *run_args)` to train it, `convert`."""
    model = model if inplace else copy.deepcopy(model)
    model.train()
    prepare_qat(model, inplace=True)
    run_fn(model, *run_args)
    return convert(model, inplace=True)


def add_quant_dequant(module):
    """`module` with a `QuantWrapper` around each layer below that has a configuration of its own."""
    if not list(module.children()) and getattr(module, "qconfig", None):
        return QuantWrapper(module)
    for name, child in list(module.named_children()):
        setattr(module, name, add_quant_dequant(child))
    return module


def default_eval_fn(model, calib_data):
    """Run pairs of data and targets through a model."""
    for data, _ in calib_data:
        model(data)


def no_observer_set() -> set:
    """The classes of modules whose results are never observed."""
    return {quantized.Quantize, quantized.DeQuantize, *_UNOBSERVED}
