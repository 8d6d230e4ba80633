"""torch.__config__: what this build is made of, and how it computes in parallel."""

from __future__ import annotations

import platform


def show() -> str:
    """One line for each thing the engine is built on."""
    import numpy

    from . import __version__
    from .runtime import cpu

    lines = [f"antorcha {__version__}, built with:", f"  - Python {platform.python_version()}", f"  - NumPy {numpy.__version__}",
             f"  - code made by LLVM through llvmlite for: {cpu.machine()} with vectors of {8 * cpu.vector_bytes()} bits",
             "  - Build settings: USE_CUDA=driver only, USE_MKL=OFF, USE_MKLDNN=OFF, USE_OPENMP=OFF"]
    return "\n".join(lines) + "\n"


def parallel_info() -> str:
    """How many threads compute, and how many the machine offers."""
    from .runtime import cpu, pool

    return f"threads of our own: {pool.get_num_threads()}\navailable to this process: {cpu.available_threads()}\n"
