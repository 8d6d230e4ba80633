"""torch.backends: switches of PyTorch's backends. Those that antorcha does not have say so, and their switches do nothing."""

from __future__ import annotations

import contextlib
import sys
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
)
cudnn = _Backend("cudnn", enabled=True, benchmark=False, deterministic=False, allow_tf32=True, benchmark_limit=10, fp32_precision="ieee",
                 version=lambda: None)
mkl = _Backend("mkl", VERBOSE_OFF=0, VERBOSE_ON=1)
mkldnn = _Backend("mkldnn", enabled=False, deterministic=False, allow_tf32=False, fp32_precision="ieee", VERBOSE_OFF=0, VERBOSE_ON=1)
mps = _Backend("mps")
mha = _Backend("mha", get_fastpath_enabled=lambda: False, set_fastpath_enabled=lambda value: None)
nnpack = _Backend("nnpack")
openmp = _Backend("openmp")
opt_einsum = _Backend("opt_einsum", enabled=False, strategy=None)
quantized = _Backend("quantized", engine="none", supported_engines=["none"])
xeon = _Backend("xeon")
xnnpack = _Backend("xnnpack", enabled=False)


@contextlib.contextmanager
def __allow_nonbracketed_mutation():
    """Flags may be set anywhere: nothing to allow."""
    yield
