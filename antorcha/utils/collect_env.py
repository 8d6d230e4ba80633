"""torch.utils.collect_env: what to tell about a machine in a report. `python -m antorcha.utils.collect_env` prints it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys

__all__ = ["get_env_info", "get_pretty_env_info", "main"]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def get_env_info() -> dict[str, str]:
    """Versions, processor, threads and GPUs, by name."""
    from .. import cuda, get_num_threads
    from .. import version as versions
    from ..runtime import cpu

    gpus = [cuda.get_device_name(i) for i in range(cuda.device_count())]
    return {
        "antorcha": versions.antorcha_version,
        "PyTorch API": versions.torch_version,
        "Python": sys.version.replace("\n", " "),
        "System": platform.platform(),
        "Processor": f"{platform.machine()}, {os.cpu_count()} cores, vectors of {cpu.vector_bytes()} bytes",
        "Threads": str(get_num_threads()),
        "GPUs": ", ".join(gpus) or "none",
        **{package: _version(package) for package in ("numpy", "llvmlite", "scipy")},
    }


def get_pretty_env_info() -> str:
    """The same as lines of text."""
    info = get_env_info()
    width = max(map(len, info))
    return "\n".join(f"{name:{width}}  {value}" for name, value in info.items())


def main() -> None:
    """Print it."""
    print(get_pretty_env_info())


if __name__ == "__main__":
    main()
