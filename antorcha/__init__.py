"""antorcha: PyTorch's API on a small, readable engine. `import antorcha as torch`."""

from __future__ import annotations

import builtins
import math

from . import ops
from .base import config
from .base import dtype as _dtype
from .base.device import device
from .base.dtype import (  # noqa: F401
    bfloat16,
    complex32,
    complex64,
    complex128,
    dtype,
    float4_e2m1fn_x2,
    float8_e4m3fn,
    float8_e4m3fnuz,
    float8_e5m2,
    float8_e5m2fnuz,
    float8_e8m0fnu,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    qint8,
    qint32,
    quint8,
    uint8,
    uint16,
    uint32,
    uint64,
)
from .base.formats import (  # noqa: F401
    Size,
    channels_last,
    channels_last_3d,
    contiguous_format,
    jagged,
    layout,
    memory_format,
    per_channel_affine,
    per_channel_affine_float_qparams,
    per_channel_symmetric,
    per_tensor_affine,
    per_tensor_symmetric,
    preserve_format,
    qscheme,
    sparse_bsc,
    sparse_bsr,
    sparse_coo,
    sparse_csc,
    sparse_csr,
    strided,
)
from .core import override as _override
from .core import surface as _surface
from .core.arrays import (  # noqa: F401
    as_tensor,
    from_dlpack,
    from_numpy,
    tensor,
)
from .core.autograd import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled  # noqa: F401
from .core.surface import allclose, isclose  # noqa: F401
from .core.tensor import Tensor
from .ops.record import broadcast_shapes as _broadcast_shapes
from .ops.record import result_dtype as _result_dtype
from .torch_version import __version__  # noqa: F401

bool, float, double, half, long, int, short = _dtype.bool_, float32, float64, float16, int64, int32, int16
chalf, cfloat, cdouble = complex32, complex64, complex128
inf, nan, pi, e = math.inf, math.nan, math.pi, math.e
newaxis = None

globals().update(_surface.torch_functions())
from . import printing as _printing  # noqa: E402 (shows the tensors defined above)
from .queries import *  # noqa: E402, F403
from .random_api import (  # noqa: E402, F401
    Generator,
    default_generator,
    fork_rng,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)
from .type_info import finfo, iinfo  # noqa: E402, F401

set_printoptions = _printing.set_printoptions


def _reduce(self, protocol):
    from .io.rebuild import reduce_tensor
    return reduce_tensor(self)


Tensor.__reduce_ex__ = _reduce
asarray = as_tensor


class _Aten:
    """torch.ops.aten; see `aten.py`."""

    def __getattr__(self, name):
        from .aten import find
        return find(name)


ops.aten = _Aten()


def _namespace(name):
    """torch.ops.<name>: operators that programs define; see `library.py`."""
    from importlib.util import find_spec

    if name.startswith("__") or find_spec(f"{ops.__name__}.{name}"):        # a module of our own: `from .ops import name` imports it
        raise AttributeError(name)
    from .library import Namespace
    space = ops.__dict__[name] = Namespace(name)
    return space


def _load_library(path):
    """Refused: compiled operators are made for PyTorch's own binary interface."""
    raise OSError(f"torch.ops.load_library: {path} is compiled for PyTorch and cannot be loaded here. Define operators with torch.library.")


ops.__getattr__, ops.load_library, ops.loaded_libraries = _namespace, _load_library, set()


def is_tensor(obj):
    """Whether `obj` is a tensor."""
    return isinstance(obj, Tensor)


def get_default_dtype():
    """The dtype of floats without one of their own."""
    return _dtype.default()


def set_default_dtype(d):
    """Set the dtype of floats without one of their own."""
    from .ops.record import forget
    _dtype.set_default(d)
    forget()


def set_default_device(device):
    """Set where new tensors are made when no device is given."""
    from .ops.placement import core, device_name
    core.default_device = "cpu" if device is None else device_name(device)


def get_default_device():
    """Where new tensors are made when no device is given."""
    from .ops.record import core
    return device(core.default_device)


def result_type(*tensors):
    """The dtype that an operator of these tensors and numbers computes in."""
    return _result_dtype(tensors)


def promote_types(type1, type2):
    """The smallest dtype that both convert to."""
    return _dtype.promote(_dtype.asked("promote_types", type1, name="type1"), _dtype.asked("promote_types", type2, name="type2"))


def can_cast(from_, to):
    """Whether PyTorch's promotion allows the conversion."""
    from_, to = _dtype.asked("can_cast", from_, name="from_"), _dtype.asked("can_cast", to, name="to")
    return _dtype.CATEGORY[from_.kind] <= _dtype.CATEGORY[to.kind] and not (to.kind == "b" and from_.kind != "b")


def broadcast_shapes(*shapes):
    """The shape that all the given ones broadcast to."""
    return Size(_broadcast_shapes("broadcast_shapes", *[(s,) if isinstance(s, builtins.int) else tuple(s) for s in shapes]))


def get_num_threads():
    """How many threads compute."""
    from .runtime import pool
    return pool.get_num_threads()


def set_num_threads(n):
    """Compute with `n` threads; results are the same bits for any number."""
    from .runtime import pool
    pool.set_num_threads(n)


def is_inference_mode_enabled():
    from .core.autograd import mode
    return mode.inference


def use_deterministic_algorithms(mode, *, warn_only=False):
    """Everything here is deterministic already."""


def are_deterministic_algorithms_enabled():
    return True


def set_float32_matmul_precision(precision):
    """How float32 products are computed on GPUs: "highest" in float32, "high" or "medium" from operands rounded to TF32 (10 bits after
    the point), summed in float32. On the CPU always in float32."""
    from .base import config

    if precision not in config.PRECISIONS:
        raise ValueError(f"set_float32_matmul_precision: expected one of {', '.join(config.PRECISIONS)}; received {precision!r}.")
    config.float32_matmul = precision


def get_device_module(device=None):
    """torch.cuda, torch.cpu and their like: the namespace of a device's type; for None, of the GPU if there is one."""
    import importlib

    from .base.device import device as Device

    if device is None:
        device = "cuda" if __getattr__("cuda").is_available() else "cpu"
    kind = Device(device).type
    if kind not in ("cpu", "cuda", "mps", "xpu", "mtia"):
        raise RuntimeError(f"get_device_module: expected the device of a namespace such as torch.cuda; received {device!r}.")
    return importlib.import_module(f".{kind}", __name__)


def synchronize():
    """Compute everything that was recorded."""
    from .graph import tape
    tape.flush()


def _overridable():
    """The modules whose functions a class with `__torch_function__` can override, by their names in PyTorch."""
    import importlib.util

    globals().update({name: __getattr__(name) for name in _FROM if name not in _override.IGNORED})
    names = ("", ".nn.functional", ".autograd", ".linalg", ".fft", ".special")
    return {f"torch{n}": importlib.import_module(n or __name__, __name__) for n in names
            if not n or importlib.util.find_spec(__name__ + n) is not None}


_override.modules = _overridable
_LAZY = {  # namespaces in files of the same name, but for these
    **{
        name: f".{name}"
        for name in (
            "_dynamo",
            "_jit_internal",
            "_subclasses",
            "_utils",
            "accelerator",
            "amp",
            "ao",
            "autograd",
            "backends",
            "compiler",
            "cpu",
            "cuda",
            "distributed",
            "distributions",
            "export",
            "fft",
            "func",
            "futures",
            "fx",
            "hub",
            "io",
            "jit",
            "library",
            "linalg",
            "masked",
            "monitor",
            "mps",
            "mtia",
            "multiprocessing",
            "nested",
            "nn",
            "onnx",
            "optim",
            "overrides",
            "profiler",
            "quantization",
            "quasirandom",
            "return_types",
            "sparse",
            "special",
            "storage",
            "testing",
            "torch_version",
            "types",
            "utils",
            "version",
            "xpu",
        )
    },
    "signal": ".signal",
    "__config__": ".__config__",
    "random": ".random_api",
    "torch": ".",
    "serialization": ".io.serialization",
    "_C": "._C",
    "functional": ".functional",
}
_FROM = {
    "bartlett_window": ".signal.periodic",
    "blackman_window": ".signal.periodic",
    "hamming_window": ".signal.periodic",
    "hann_window": ".signal.periodic",
    "kaiser_window": ".signal.periodic",
    "vmap": ".func",
    "lobpcg": "._lobpcg",
    **dict.fromkeys(
        ["SymInt", "SymFloat", "SymBool", "sym_int", "sym_float", "sym_not", "sym_max", "sym_min", "sym_sqrt", "sym_ite", "sym_sum"],
        ".symbols",
    ),
    **dict.fromkeys(["rnn_tanh_cell", "rnn_relu_cell", "lstm_cell", "gru_cell"], ".nn.functional.recurrent"),
    "save": ".io",
    "load": ".io",
    "PyTorchFileReader": ".io.file_reader",
    "compile": ".compiler",
    "ScriptModule": ".jit",
    "ScriptFunction": ".jit",
    "autocast": ".amp",
    "GradScaler": ".amp",
    "Future": ".futures",
    "Stream": ".cuda",
    "Event": ".cuda",
    "explain": ".explaining",
    "UntypedStorage": ".core.untyped",
    "TypedStorage": ".core.untyped",
    **{
        kind + suffix: ".core.legacy"
        for suffix in ("Tensor", "Storage")
        for kind in ("Float", "Double", "Half", "BFloat16", "Byte", "Char", "Short", "Int", "Long", "Bool", "ComplexFloat", "ComplexDouble")
    },
    **dict.fromkeys(
        ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution", "conv_tbc"],
        ".ops.convolution",
    ),
    **dict.fromkeys(
        ["max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices", "avg_pool1d", "adaptive_avg_pool1d"], ".ops.pooling"
    ),
    **dict.fromkeys(
        [
            "alpha_dropout", "batch_norm", "bilinear", "binary_cross_entropy_with_logits", "celu", "celu_",
            "cosine_embedding_loss", "cosine_similarity", "ctc_loss", "dropout", "dropout_", "embedding", "embedding_bag",
            "feature_alpha_dropout", "feature_dropout", "group_norm", "gru", "hinge_embedding_loss", "instance_norm", "kl_div",
            "adaptive_max_pool1d", "alpha_dropout_", "feature_alpha_dropout_", "feature_dropout_", "native_dropout", "native_norm",
            "norm_except_dim", "embedding_renorm_",
            "layer_norm", "lstm", "margin_ranking_loss", "pairwise_distance", "pdist", "poisson_nll_loss", "relu_",
            "rms_norm", "rnn_relu", "rnn_tanh", "rrelu", "rrelu_", "selu", "selu_", "threshold", "threshold_", "triplet_margin_loss",
        ],
        ".layers",
    ),
    **dict.fromkeys(["pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle"], ".ops.folding"),
    **dict.fromkeys(["affine_grid_generator", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d"], ".ops.sampling"),
    **dict.fromkeys(
        ["native_batch_norm", "native_group_norm", "native_layer_norm", "_native_batch_norm_legit", "_batch_norm_with_update"],
        ".nn.functional.normalization",
    ),
    "constant_pad_nd": ".ops.padding",
    **dict.fromkeys(["quantize_per_tensor", "quantize_per_tensor_dynamic", "quantize_per_channel", "dequantize", "int_repr", "q_scale",
                     "q_zero_point", "q_per_channel_scales", "q_per_channel_zero_points", "q_per_channel_axis"], ".core.quantized"),
    **dict.fromkeys(["fake_quantize_per_tensor_affine", "fake_quantize_per_channel_affine"], ".ops.quantization"),
    **dict.fromkeys(["sparse_coo_tensor", "sparse_csr_tensor", "sparse_csc_tensor", "sparse_compressed_tensor", "spmm", "dsmm", "smm",
                     "hspmm", "hsmm", "sspaddmm", "saddmm"], ".core.sparse"),
    **dict.fromkeys(
        [
            "is_autocast_enabled",
            "is_autocast_cpu_enabled",
            "is_autocast_cache_enabled",
            "get_autocast_dtype",
            "get_autocast_gpu_dtype",
            "get_autocast_cpu_dtype",
            "set_autocast_dtype",
            "set_autocast_enabled",
            "set_autocast_cache_enabled",
            "autocast_increment_nesting",
            "autocast_decrement_nesting",
            "set_autocast_cpu_dtype",
            "set_autocast_cpu_enabled",
            "set_autocast_gpu_dtype",
            "get_autocast_ipu_dtype",
            "get_autocast_xla_dtype",
            "set_autocast_ipu_dtype",
            "set_autocast_xla_dtype",
            "is_autocast_ipu_enabled",
            "is_autocast_xla_enabled",
            "set_autocast_ipu_enabled",
            "set_autocast_xla_enabled",
            "clear_autocast_cache",
        ],
        ".amp.autocast_mode",
    ),
}

_APART = {  # classes, settings and control flow: what no class with __torch_function__ overrides
    **dict.fromkeys(["set_anomaly_enabled", "is_anomaly_enabled", "is_anomaly_check_nan_enabled"], ".autograd.anomaly_mode"),
    **dict.fromkeys(["DisableTorchFunction", "DisableTorchFunctionSubclass"], ".overrides"),
    **dict.fromkeys(["DispatchKey", "DispatchKeySet", "ExcludeDispatchKeyGuard", "Tag"], "._C.dispatch"),
    **dict.fromkeys(["OutOfMemoryError", "AcceleratorError", "FatalError", "JITException"], ".base.errors"),
    **dict.fromkeys(["sym_fresh_size", "sym_constrain_range", "sym_constrain_range_for_size"], ".symbols"),
    **dict.fromkeys(["fork", "wait"], ".jit"),
    **dict.fromkeys(
        ["cond", "from_file", "init_num_threads", "is_vulkan_available", "is_warn_always_enabled", "parse_schema", "set_warn_always",
         "AggregationType", "AVG", "SUM"],
        ".further"),
    "FileCheck": ".testing",
    "Storage": ".core.legacy",
    "ThroughputBenchmark": ".utils.throughput_benchmark",
    "BenchmarkConfig": ".utils.throughput_benchmark",
    "BenchmarkExecutionStats": ".utils.throughput_benchmark",
    "thread_safe_generator": ".random_api",
}


def __getattr__(name):
    import importlib
    if name in _LAZY:
        return importlib.import_module(_LAZY[name], __name__)
    if (place := _FROM.get(name) or _APART.get(name)) is not None:
        return getattr(importlib.import_module(place, __name__), name)
    from .torchscript import find as of_other_engines
    if (found := of_other_engines(name)) is not None:
        return found
    if name.startswith("_foreach_"):
        from .foreach import find
        if (function := find(name[9:])) is not None:
            return function
    raise AttributeError(f"module 'torch' has no attribute '{name}' in antorcha: if it is part of PyTorch, it is missing here so far")


__all__ = ["config"]
