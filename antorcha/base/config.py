"""Settings. Each can be given in the environment, as ANTORCHA_ and its name in capitals (ANTORCHA_UNFUSED for `fuse`, ANTORCHA_OPTIMISED
for `drafts`), and changed at run time.

    config.eager = True           run every operator at once, by itself: must give what the fused run gives
    config.target = "interp"      run loop programs in NumPy instead of compiling them
    config.verify = True          check every graph and every program after every pass
    config.fuse = False           give every operator a kernel of its own, computed together all the same
    config.drafts = False         wait for optimised code, where code made in a tenth of the time would run until it is there
    config.cache = "/some/where"  where compiled code is kept
    config.float32_matmul = "high"   float32 products on GPUs with operands rounded to TF32 (set_float32_matmul_precision)
    config.direct = True          sum all convolutions as they are defined, none by fewer multiplications (ops/winograd.py); to be set
                                  before anything is computed, as the next one is
    config.cpu = "avx2"           write code for "generic" (x86-64 as it began, or 64-bit ARM), "avx2", "avx512" or "neon" processors,
                                  not for the one at hand; to be set before anything is computed
"""

from __future__ import annotations

import os

TARGETS = ("llvm", "interp")
PRECISIONS = ("highest", "high", "medium")
PROCESSORS = ("host", "generic", "avx2", "avx512", "avx512bf16", "amx", "neon")


def _flag(name: str) -> bool:
    return os.environ.get(f"ANTORCHA_{name}", "").lower() not in ("", "0", "false", "no", "off")


def _choice(name: str, choices: tuple[str, ...]) -> str:
    given = os.environ.get(f"ANTORCHA_{name}", choices[0])
    if given not in choices:
        raise ValueError(f"ANTORCHA_{name}: expected one of {', '.join(choices)}; received {given!r}.")
    return given


eager: bool = _flag("EAGER")
target: str = _choice("TARGET", TARGETS)
cpu: str = _choice("CPU", PROCESSORS)
float32_matmul: str = _choice("FLOAT32_MATMUL", PRECISIONS)
verify: bool = _flag("VERIFY")
fuse: bool = not _flag("UNFUSED")
drafts: bool = not _flag("OPTIMISED")
direct: bool = _flag("DIRECT")
cache: str | None = os.environ.get("ANTORCHA_CACHE") or None


def cache_directory() -> str:
    """Where files may be kept between runs: `cache`, or the user's cache directory."""
    if cache:
        return cache
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "antorcha")
