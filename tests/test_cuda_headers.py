"""What is said to libcuda and cuBLASLt through ctypes, against NVIDIA's own headers, where they are (a toolkit, or the packages
nvidia-cublas and nvidia-cuda-runtime): constants, structures, how many arguments of which size functions take. No GPU is needed."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import fake_cuda
import pytest

from antorcha.runtime import cublas, cuda, cuda_graph


def folder_of(header: str) -> str | None:
    """Where a header lies."""
    spec = importlib.util.find_spec("nvidia")
    roots = [os.environ.get("CUDA_HOME", ""), *map(str, sorted(Path("/usr/local").glob("cuda*")))]
    roots += [str(p) for folder in (spec.submodule_search_locations if spec else None) or () for p in Path(folder).iterdir()]
    return next((f"{root}/include" for root in roots if root and Path(root, "include", header).exists()), None)


def preprocessed(header: str, *options: str) -> str:
    """A header as a compiler reads it."""
    compiler, folder = shutil.which("cc"), folder_of(header)
    if not compiler or not folder:
        pytest.skip(f"needs a C compiler and NVIDIA's {header}")
    folders = {f"-I{f}" for f in (folder, folder_of("cuda.h")) if f}
    return subprocess.run([compiler, "-E", "-P", *folders, *options, "-x", "c", "-"], input=f"#include <{header}>\n", check=True,
                          capture_output=True, text=True).stdout


def hold(header: str, claims: list[str]) -> None:
    """Claims in C about what a header declares."""
    text = preprocessed(header) + "#define offsetof __builtin_offsetof\n" + "\n".join(
        f'_Static_assert({claim}, "{claim}");' for claim in claims)
    run = subprocess.run([shutil.which("cc"), "-x", "c", "-fsyntax-only", "-"], input=text, capture_output=True, text=True)
    assert not run.returncode, run.stderr


def layout(structure, name: str, fields: dict[str, str]) -> list[str]:
    """That a structure of ours has the size, and fields have the places, that it has in C."""
    return [f"sizeof({name}) == {ctypes.sizeof(structure)}",
            *(f"offsetof({name}, {theirs}) == {getattr(structure, ours).offset}" for ours, theirs in fields.items())]


KINDS = {"int": "i", "unsigned int": "i", "CUdevice": "i", "CUresult": "i", "size_t": "z", "CUdeviceptr": "d", "unsigned char": "b",
         "cuuint64_t": "u", "unsigned long long": "u"}


def kind_of(parameter: str) -> str:
    """What `fake_cuda.KINDS` calls a parameter of C."""
    if "*" in parameter:
        return "oh"
    of = re.sub(r"\bconst\b|\s\w+$", "", parameter.strip()).strip().removesuffix("_v1").removesuffix("_v2")
    return KINDS.get(of, "i" if re.search("_attribute|Mode", of) else "h")


def test_functions_of_the_driver():
    text = preprocessed("cuda.h", "-D__CUDA_API_VERSION_INTERNAL")     # with the older forms of functions, which libcuda keeps
    declared = {name: [p for p in parameters.split(",") if p.strip() not in ("", "void")]
                for name, parameters in re.findall(r"CUresult\s+(cu\w+)\s*\(([^)]*)\)\s*;", text)}
    for name, kinds in (fake_cuda.BEFORE_CONTEXTS | fake_cuda.WITHIN_CONTEXTS).items():
        assert name in declared, f"cuda.h does not declare {name}"
        assert len(declared[name]) == len(kinds), name
        assert all(k in kind_of(p) for k, p in zip(kinds, declared[name])), (name, kinds, declared[name])


def test_constants_of_the_driver():
    hold("cuda.h", [
        f"CUDA_ERROR_OUT_OF_MEMORY == {cuda.OUT_OF_MEMORY}", f"CUDA_ERROR_NOT_READY == {cuda.NOT_READY}",
        f"CUDA_ERROR_UNSUPPORTED_PTX_VERSION == {cuda.OLD_DRIVER}", f"CU_STREAM_NON_BLOCKING == {cuda.NON_BLOCKING}",
        f"CU_EVENT_DISABLE_TIMING == {cuda.NO_TIMING}", f"CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR == {cuda.MAJOR}",
        f"CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR == {cuda.MINOR}", f"CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT == {cuda.PROCESSORS}",
        f"CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR == {cuda.THREADS_OF_PROCESSOR}",
        f"CU_DEVICE_ATTRIBUTE_WARP_SIZE == {cuda.WARP}", f"CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN == {cuda.SHARED}",
        f"CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES == {cuda.MOST_SHARED}", f"CU_STREAM_CAPTURE_MODE_RELAXED == {cuda_graph.RELAXED}",
        f"(long) (void*) 0x01 == {cuda.BUFFER_POINTER} && {cuda.BUFFER_SIZE} == 2",
        f"CU_JIT_ERROR_LOG_BUFFER == {cuda.ERROR_LOG} && CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES == {cuda.ERROR_LOG_SIZE}",
        *layout(cuda_graph._KernelNode, "CUDA_KERNEL_NODE_PARAMS_v1", {
            "function": "func", "gx": "gridDimX", "bz": "blockDimZ", "shared": "sharedMemBytes", "parameters": "kernelParams",
            "extra": "extra"})])


def test_constants_of_cublaslt():
    a, b, c, d = cublas.ALIGNMENTS
    hold("cublasLt.h", [
        *(f"CUDA_R_{name} == {cublas.TYPES[kind]}" for kind, name in (("f32", "32F"), ("f64", "64F"), ("f16", "16F"), ("bf16", "16BF"))),
        f"CUBLAS_COMPUTE_32F == {cublas.FLOAT32}", f"CUBLAS_COMPUTE_32F_FAST_TF32 == {cublas.FLOAT32_FROM_TF32}",
        f"CUBLAS_COMPUTE_64F == {cublas.FLOAT64}", f"CUBLASLT_MATMUL_DESC_TRANSA == {cublas.TRANSPOSE_A} && CUBLAS_OP_T == 1",
        f"CUBLASLT_MATMUL_DESC_TRANSB == {cublas.TRANSPOSE_B}", f"CUBLASLT_MATMUL_DESC_EPILOGUE == {cublas.EPILOGUE}",
        f"CUBLASLT_MATMUL_DESC_BIAS_POINTER == {cublas.BIAS}", f"CUBLASLT_EPILOGUE_BIAS == {cublas.ADD_BIAS}",
        f"CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT == {cublas.BATCHES}",
        f"CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET == {cublas.BATCH_STEP}",
        f"CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES == {cublas.WORKSPACE}",
        f"CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES == {a} && CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES == {b}",
        f"CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES == {c} && CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES == {d}",
        *layout(cublas._Result, "cublasLtMatmulHeuristicResult_t", {
            "algorithm": "algo", "workspace": "workspaceSize", "state": "state", "waves": "wavesCount", "reserved": "reserved"})])


def test_cublaslt_takes_the_descriptions(monkeypatch):
    """The library itself, where it is installed: descriptions are made without a GPU, and say what they were told."""
    lib = cublas._find()
    if lib is None:
        pytest.skip("needs the package nvidia-cublas")

    class Owner:
        check = cublas.Handle.check

    def told(getter: str, thing, attribute: int, kind):
        value, written = kind(), ctypes.c_size_t()
        assert not getattr(lib, getter)(thing, ctypes.c_int(attribute), ctypes.byref(value), ctypes.c_size_t(ctypes.sizeof(value)),
                                        ctypes.byref(written)) and written.value == ctypes.sizeof(value)
        return value.value

    owner = Owner()
    owner.lib = lib
    monkeypatch.setattr(cublas.Prepared, "_choose", lambda prepared: None)
    for kind, result, bias in (("bf16", "bf16", 16), ("f32", "f32", 0), ("f64", "f64", 0), ("f16", "f32", 4)):
        made = cublas.Prepared(owner, cublas.Product((3, 64, 128, 32), cublas.Operand(kind, 32, 64 * 32), cublas.Operand(
            kind, 128, 32 * 128, False), cublas.Operand(result, 128, 64 * 128), kind == "f32", bias))
        description = [told("cublasLtMatmulDescGetAttribute", made.description, a, ctypes.c_int32)
                       for a in (cublas.TRANSPOSE_A, cublas.TRANSPOSE_B, cublas.EPILOGUE)]
        assert description == [0, 0, cublas.ADD_BIAS if bias else 1]
        assert (told("cublasLtMatmulDescGetAttribute", made.description, cublas.BIAS, ctypes.c_void_p) or 0) == bias
        steps = [told("cublasLtMatrixLayoutGetAttribute", x, cublas.BATCH_STEP, ctypes.c_int64) for x in made.layouts]
        assert steps == [32 * 128, 64 * 32, 64 * 128]
