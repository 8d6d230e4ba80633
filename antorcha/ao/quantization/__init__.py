"""torch.ao.quantization: models with weights and activations of 8 bits.

`quantize_dynamic(model)` quantizes the weights of linear and recurrent layers. With `prepare`, some data, and `convert` activations are
quantized as well, on grids found beforehand, between the `QuantStub` and the `DeQuantStub` of a model; `prepare_qat` trains for that.
Quantization of traced graphs (`quantize_fx`, `pt2e`) is missing.
"""

from . import fake_quantize, observer, qconfig
from .fake_quantize import *  # noqa: F403
from .fuse_modules import fuse_known_modules, fuse_modules, fuse_modules_qat
from .observer import *  # noqa: F403
from .qconfig import *  # noqa: F403
from .quantize import (
    add_quant_dequant,
    convert,
    default_eval_fn,
    get_default_dynamic_quant_module_mappings,
    get_default_qat_module_mappings,
    get_default_qconfig_propagation_list,
    get_default_static_quant_module_mappings,
    no_observer_set,
    prepare,
    prepare_qat,
    propagate_qconfig_,
    quantize,
    quantize_dynamic,
    quantize_qat,
    swap_module,
)
from .stubs import DeQuantStub, QuantStub, QuantWrapper

__all__ = fake_quantize.__all__ + observer.__all__ + qconfig.__all__ + [
    "DeQuantStub",
    "QuantStub",
    "QuantWrapper",
    "add_quant_dequant",
    "convert",
    "default_eval_fn",
    "fuse_known_modules",
    "fuse_modules",
    "fuse_modules_qat",
    "get_default_dynamic_quant_module_mappings",
    "get_default_qat_module_mappings",
    "get_default_qconfig_propagation_list",
    "get_default_static_quant_module_mappings",
    "no_observer_set",
    "prepare",
    "prepare_qat",
    "propagate_qconfig_",
    "quantize",
    "quantize_dynamic",
    "quantize_qat",
    "swap_module",
]
