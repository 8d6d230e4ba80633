"""torch.backends: switches of PyTorch's backends. Those that antorcha does not have say so, and their switches do nothing."""

from __future__ import annotations

import contextlib
import sys
from collections import namedtuple
from types import ModuleType

from ..base import config


class _Backend(ModuleType):
    """A namespace of flags, any of which may be read and set."""

    def __init__(self, name: str, available: bool = False, **flags):
        super().__init__(f"{__name__}.{name}")
        self._available = available
        self.__dict__.update(flags)
        sys.modules[self.__name__] = self

    def is_available(self) -> bool:
        """Whether this backend computes anything here."""
        return self._available

    def is_built(self) -> bool:
        """Whether this backend is part of antorcha."""
        return self._available

    def set_flags(self, **values) -> tuple:
        """Set flags (None leaves one as it is); their values before."""
        before = tuple(self.__dict__.get(name) for name in values)
        self.__dict__.update({name: value for name, value in values.items() if value is not None})
        return before

    @contextlib.contextmanager
    def flags(self, **values):
        """A context with other values of the flags."""
        before = {name: self.__dict__.get(name) for name in values}
        self.__dict__.update(values)
        try:
            yield
        finally:
            self.__dict__.update(before)


class _CPU(_Backend):
    def get_cpu_capability(self) -> str:
        """The vector instructions that kernels are compiled for."""
        from ..runtime import cpu as machine
        return {64: "AVX512", 32: "AVX2"}.get(machine.vector_bytes(), "DEFAULT")


class _CUDA(_Backend):
    def is_built(self) -> bool:
        """Code for GPUs is always made here; whether there is a GPU, `torch.cuda.is_available()` says."""
        return True


class _Matmul(_Backend):
    """Products on GPUs. `allow_tf32` and `fp32_precision` are other ways to say `torch.set_float32_matmul_precision`."""

    @property
    def allow_tf32(self) -> bool:
        return config.float32_matmul != "highest"

    @allow_tf32.setter
    def allow_tf32(self, allowed: bool) -> None:
        config.float32_matmul = "high" if allowed else "highest"

    @property
    def fp32_precision(self) -> str:
        return "tf32" if self.allow_tf32 else "ieee"

    @fp32_precision.setter
    def fp32_precision(self, precision: str) -> None:
        if precision not in ("ieee", "tf32", "none"):
            raise ValueError(f"fp32_precision: expected 'ieee', 'tf32' or 'none'; received {precision!r}.")
        self.allow_tf32 = precision == "tf32"


def _precision(name: str) -> _Backend:
    """Operators of a library whose `fp32_precision` can be chosen."""
    return _Backend(name, fp32_precision="none")


class _Verbose:
    """A context in which a library would tell what it does: it is not called."""

    def __init__(self, enable):
        self.enable = self.level = enable

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        pass


@contextlib.contextmanager
def _attention_kernels(enable_flash: bool = True, enable_math: bool = True, enable_mem_efficient: bool = True, enable_cudnn: bool = True):
    """The older form of torch.nn.attention.sdpa_kernel: the kernels are always antorcha's own."""
    yield {}


def _is_macos_or_newer(major: int, minor: int) -> bool:
    import platform

    version = platform.mac_ver()[0]
    return bool(version) and tuple(map(int, version.split(".")[:2])) >= (major, minor)


def _no_mps(name: str):
    raise RuntimeError(f"torch.backends.mps.{name}: antorcha has no mps device. Ask torch.backends.mps.is_available() first.")


_frozen = False


def flags_frozen() -> bool:
    """Whether flags may only be set within the context `flags`."""
    return _frozen


def disable_global_flags() -> None:
    """Say so. Kept only: flags of backends change nothing that is computed, but for the precision of products on GPUs."""
    global _frozen
    _frozen = True


def set_flags(_fp32_precision: str = "none") -> tuple:
    """Choose the precision of float32 for all backends; the one before."""
    before = cuda.matmul.fp32_precision
    cuda.matmul.fp32_precision = _fp32_precision
    return (before,)


@contextlib.contextmanager
def flags(fp32_precision: str = "none"):
    """A context with another precision."""
    (before,) = set_flags(fp32_precision)
    try:
        yield
    finally:
        set_flags(before)


cpu = _CPU("cpu", True)
cuda = _CUDA(
    "cuda",
    matmul=_Matmul(
        "cuda.matmul",
        allow_fp16_reduced_precision_reduction=True,
        allow_bf16_reduced_precision_reduction=True,
        allow_fp16_accumulation=False,
    ),
    cufft_plan_cache=_Backend("cuda.cufft_plan_cache", max_size=0, size=0),
    preferred_linalg_library=lambda backend=None: "default",
    preferred_blas_library=lambda backend=None: "default",
    flash_sdp_enabled=lambda: True,
    mem_efficient_sdp_enabled=lambda: True,
    math_sdp_enabled=lambda: True,
    cudnn_sdp_enabled=lambda: True,
    enable_flash_sdp=lambda enabled: None,
    enable_mem_efficient_sdp=lambda enabled: None,
    enable_math_sdp=lambda enabled: None,
    enable_cudnn_sdp=lambda enabled: None,
    allow_fp16_bf16_reduction_math_sdp=lambda enabled: None,
    fp16_bf16_reduction_math_sdp_allowed=lambda: False,
    is_flash_attention_available=lambda: True,
    is_ck_sdpa_available=lambda: False,
    can_use_flash_attention=lambda params, debug=False: True,
    can_use_efficient_attention=lambda params, debug=False: True,
    can_use_cudnn_attention=lambda params, debug=False: False,
    preferred_rocm_fa_library=lambda backend=None: "default",
    cublas_workspace_size=lambda: 0,
    cublaslt_workspace_size=lambda: 0,
    blas_workspace_size=lambda device=None: 0,
    SDPAParams=namedtuple("SDPAParams", "query key value attn_mask dropout is_causal enable_gqa"),
    sdp_kernel=_attention_kernels,
)
cudnn = _Backend("cudnn", conv=_precision("cudnn.conv"), rnn=_precision("cudnn.rnn"), is_acceptable=lambda tensor: False,
                 depthwise_kernel="auto", enabled=True,
                 benchmark=False, deterministic=False, allow_tf32=True, benchmark_limit=10, fp32_precision="ieee",
                 version=lambda: None)
cusparselt = _Backend("cusparselt", version=lambda: None, get_max_alg_id=lambda: None)
kleidiai = _Backend("kleidiai")
miopen = _Backend("miopen", immediate=False)
mkl = _Backend("mkl", VERBOSE_OFF=0, VERBOSE_ON=1, verbose=_Verbose)
mkldnn = _Backend("mkldnn", conv=_precision("mkldnn.conv"), matmul=_precision("mkldnn.matmul"), rnn=_precision("mkldnn.rnn"),
                  is_acl_available=lambda: False, verbose=_Verbose, enabled=False, deterministic=False, allow_tf32=False,
                  fp32_precision="ieee", VERBOSE_OFF=0, VERBOSE_ON=1)
mps = _Backend("mps", is_macos_or_newer=_is_macos_or_newer, is_macos13_or_newer=lambda minor=0: _is_macos_or_newer(13, minor),
               get_core_count=lambda: _no_mps("get_core_count"), get_name=lambda: _no_mps("get_name"))
mha = _Backend("mha", get_fastpath_enabled=lambda: False, set_fastpath_enabled=lambda value: None)
nnpack = _Backend("nnpack")
openmp = _Backend("openmp")
opt_einsum = _Backend("opt_einsum", enabled=False, strategy=None, get_opt_einsum=lambda: None)
quantized = _Backend("quantized", engine="none", supported_engines=["none"])
xeon = _Backend("xeon")
xnnpack = _Backend("xnnpack", enabled=False)


@contextlib.contextmanager
def __allow_nonbracketed_mutation():
    """Flags may be set anywhere: nothing to allow."""
    yield
