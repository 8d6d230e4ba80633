"""torch.utils.cpp_extension: extensions in C++, which cannot work here: they are written against PyTorch's own C++."""

from __future__ import annotations

from ..unavailable import unavailable_class, unavailable_function

_INSTEAD = ("extensions in C++ are written against PyTorch's C++ classes, which antorcha does not have. Write the function with tensor "
            "operators: they are fused and compiled; register it with torch.library.custom_op where a library asks for it.")
CUDA_HOME = ROCM_HOME = CUDNN_HOME = None
load = unavailable_function("torch.utils.cpp_extension.load", _INSTEAD)
load_inline = unavailable_function("torch.utils.cpp_extension.load_inline", _INSTEAD)
CppExtension = unavailable_function("torch.utils.cpp_extension.CppExtension", _INSTEAD)
CUDAExtension = unavailable_function("torch.utils.cpp_extension.CUDAExtension", _INSTEAD)
BuildExtension = unavailable_class("torch.utils.cpp_extension.BuildExtension", _INSTEAD)
