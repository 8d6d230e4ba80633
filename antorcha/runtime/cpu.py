"""Processors: the vector instructions code is written for, the caches at hand, and how many threads this process may use."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
from dataclasses import dataclass

from ..base import config

LINE = 64       # bytes of a cache line
ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XTILEDATA = 158, 0x1023, 18       # numbers of Linux on x86-64


@dataclass(frozen=True)
class Processor:
    """What native code is written for. LLVM's names: `model` of a family of processors ("" for the one at hand), `features` of the
    extensions of its instruction set ("avx2", "fma", "avx512f", "avx512bf16", "neon" ...)."""

    machine: str        # the architecture: "x86_64", "aarch64" or what the platform calls itself
    model: str
    features: frozenset[str]

    @property
    def vector_bytes(self) -> int:
        """The width of a vector register."""
        return 64 if "avx512f" in self.features else 32 if "avx" in self.features else 16


# The levels of the x86-64 psABI (1, 3 and 4), and the least that a 64-bit ARM has.
_AVX2 = frozenset({"sse2", "sse41", "avx", "avx2", "f16c", "fma"})
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
NAMED = {
    "generic": Processor("x86_64", "x86-64", frozenset({"sse2"})),
    "avx2": Processor("x86_64", "x86-64-v3", _AVX2),
    "avx512": Processor("x86_64", "x86-64-v4", _AVX512),
    "avx512bf16": Processor("x86_64", "cooperlake", _AVX512 | {"avx512bf16"}),
    "amx": Processor("x86_64", "sapphirerapids", _AVX512 | {"avx512bf16", "amxtile", "amxbf16"}),
    "neon": Processor("aarch64", "generic", frozenset({"neon"})),
}


def processor() -> Processor:
    """The one that `config.cpu` names."""
    if config.cpu == "host":
        return host()
    return NAMED["neon" if config.cpu == "generic" and host().machine == "aarch64" else config.cpu]


@functools.cache
def host() -> Processor:
    """The processor at hand."""
    name = platform.machine().lower()
    return Processor({"amd64": "x86_64", "arm64": "aarch64"}.get(name, name), "", _host_features())


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


def _host_features() -> frozenset[str]:
    info = _cpuinfo()
    flags = (info.get("flags") or info.get("Features") or "").split()
    if not flags:
        from . import jit
        return frozenset(name for name, present in jit.host_features().items() if present)
    names = {flag.replace("_", "") for flag in flags}
    if "asimd" in names:
        names.add("neon")
    return frozenset(names)


def machine() -> str:
    """The architecture code is written for."""
    return processor().machine


def features() -> frozenset[str]:
    """Its extensions of the instruction set."""
    return processor().features


def vector_bytes() -> int:
    """The width of its vector registers."""
    return processor().vector_bytes


def streams() -> bool:
    """Whether stores of its vectors can go past the caches, a line or half of one at a time."""
    return processor().machine == "x86_64" and vector_bytes() >= 32


def has_tiles() -> bool:
    """Whether code may use AMX's tile registers and multiply 16-bit floats with them."""
    return "amxbf16" in features() and (processor() is not host() or may_use_tiles())


@functools.cache
def may_use_tiles() -> bool:
    """Whether this process may use tile registers. Linux lets those that ask, for all their threads: a thread's memory for them, 8 KiB, is
    reserved when it first uses one."""
    if not sys.platform.startswith("linux") or "amxtile" not in host().features:
        return False
    return ctypes.CDLL(None).syscall(ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0


def use_tiles() -> None:
    """Raise RuntimeError where code that uses tile registers cannot run."""
    if not may_use_tiles():
        raise RuntimeError("ANTORCHA_CPU: expected a processor with AMX, on a Linux that lets this process use it; received "
                           f"{config.cpu!r} on one without. Use 'host'.")


def check_runs() -> None:
    """Raise RuntimeError where the processor at hand cannot run what is written for `processor()`."""
    wanted, present = processor(), host()
    if wanted.machine != present.machine or not wanted.features <= present.features:
        lacking = " ".join(sorted(wanted.features - present.features))
        raise RuntimeError(f"ANTORCHA_CPU: expected a processor that this machine ({present.machine}) can stand for; received "
                           f"{config.cpu!r}, which needs {wanted.machine} with {lacking}. Its code can be looked at, not run: use 'host'.")


@functools.cache
def identity() -> str:
    """Names the instruction set code is written for: compiled under one identity, it runs on every CPU with the same."""
    if processor().model:
        return f"{sys.platform} {machine()} {processor().model}"
    info = _cpuinfo()
    parts = [sys.platform, machine()]
    if info:
        parts += [info.get(key, "") for key in ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part", "CPU variant")]
    else:
        parts.append(platform.processor())
    return " ".join([*parts, *sorted(features())])


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
