"""The processor at hand: its vector instructions, caches and how many threads this process may use."""

from __future__ import annotations

import functools
import os
import platform
import sys


@functools.cache
def machine() -> str:
    """The architecture: "x86_64", "aarch64" or what the platform calls itself."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


@functools.cache
def _cpuinfo() -> dict[str, str]:
    """The entry of the first processor in /proc/cpuinfo; empty where there is none."""
    try:
        with open("/proc/cpuinfo", buffering=8192) as file:
            entry = {}
            for line in file:
                key, _, value = line.partition(":")
                if not value and entry:
                    break
                entry[key.strip()] = value.strip()
            return entry
    except OSError:
        return {}


@functools.cache
def features() -> frozenset[str]:
    """Instruction set extensions, named as LLVM names them: "avx2", "fma", "avx512f", "avx512bf16", "neon" ..."""
    info = _cpuinfo()
    flags = (info.get("flags") or info.get("Features") or "").split()
    if not flags:
        from . import jit
        return frozenset(name for name, present in jit.host_features().items() if present)
    names = {flag.replace("_", "") for flag in flags}
    if "asimd" in names:
        names.add("neon")
    return frozenset(names)


@functools.cache
def vector_bytes() -> int:
    """The width of a vector register."""
    present = features()
    return 64 if "avx512f" in present else 32 if "avx2" in present or "avx" in present else 16


@functools.cache
def identity() -> str:
    """Names this processor's instruction set: code compiled under one identity runs on every CPU with the same."""
    info = _cpuinfo()
    parts = [sys.platform, machine()]
    if info:
        parts += [info.get(key, "") for key in ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part", "CPU variant")]
        parts += sorted(features())
    else:
        parts += [platform.processor(), *sorted(features())]
    return " ".join(parts)


@functools.cache
def cache_sizes() -> tuple[int, int, int]:
    """Bytes of the first, second and third level data cache (of one core; the third is shared). Usual sizes where
    the system does not tell."""
    sizes = {1: 32 << 10, 2: 512 << 10, 3: 8 << 20}
    root = "/sys/devices/system/cpu/cpu0/cache"
    try:
        for entry in os.listdir(root):
            if not entry.startswith("index") or _read(f"{root}/{entry}/type") == "Instruction":
                continue
            text = _read(f"{root}/{entry}/size")
            factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
            sizes[int(_read(f"{root}/{entry}/level"))] = int(text.rstrip("KMG")) * factor
    except (OSError, ValueError):
        pass
    return sizes[1], sizes[2], sizes[3]


def _read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


# -- threads ----------------------------------------------------------------------------------------------------

def available_threads() -> int:
    """How many threads this process may run at once: its affinity, and the CPU time its control group is given."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    quota = _cgroup_quota()
    if quota is not None:
        count = min(count, max(1, round(quota)))
    return max(1, count)


def default_threads() -> int:
    """ANTORCHA_NUM_THREADS or OMP_NUM_THREADS if one is set, else `available_threads()`."""
    for name in ("ANTORCHA_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").split(",")[0].strip()
        if text.isdigit() and int(text) > 0:
            return int(text)
    return available_threads()


def _cgroup_quota() -> float | None:
    """CPUs' worth of time this process's control groups (version 1 or 2) are given, None if there is no bound."""
    quotas = []
    try:
        lines = _read("/proc/self/cgroup").splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            quotas += _quotas_up("/sys/fs/cgroup", path, _quota_v2)
        elif "cpu" in controllers.split(","):
            quotas += _quotas_up(f"/sys/fs/cgroup/{controllers}", path, _quota_v1)
            quotas += _quotas_up("/sys/fs/cgroup/cpu", path, _quota_v1)
    return min(quotas, default=None)


def _quotas_up(root: str, path: str, quota) -> list[float]:
    """The bounds of a group and of all above it. In a container the path may not be visible: then only the root's."""
    found = []
    while True:
        try:
            value = quota(root + path.rstrip("/"))
            if value is not None:
                found.append(value)
        except (OSError, ValueError):
            pass
        if path in ("", "/"):
            return found
        path = os.path.dirname(path)


def _quota_v2(directory: str) -> float | None:
    quota, period = _read(f"{directory}/cpu.max").split()
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(directory: str) -> float | None:
    quota = int(_read(f"{directory}/cpu.cfs_quota_us"))
    return quota / int(_read(f"{directory}/cpu.cfs_period_us")) if quota > 0 else None
