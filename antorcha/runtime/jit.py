"""From LLVM IR text to the address of native code.

`load(key, make_ir)` compiles at most once per key and CPU: the object code is kept in the process and on disk. LLVM
(`compiler.py`) is imported when something has to be compiled, never to load what is on disk where `elf.py` can load it. `prepare` is told
of many modules at once and compiles those that are missing side by side.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import compiler, cpu, elf
from .cache import DiskCache, blake2b, default_directory

if TYPE_CHECKING:
    import subprocess

HELPERS = 15        # processes that compile beside this one, at most
# Where vectors of 512 bits exist they are used: on server cores of the last years, clock frequency no longer drops for them. What lies
# apart is loaded element by element: since INTEL-SA-00828 many a processor takes longer for a gather, and none gains much by one.
FEATURES = {"x86_64": "-prefer-256-bit,-prefer-128-bit,+prefer-no-gather,+prefer-no-scatter"}


@dataclass
class Counters:
    """What `load` did in this process."""

    compiled: int = 0
    loaded: int = 0  # from disk
    compile_seconds: float = 0.0


counters = Counters()

provided: dict[str, int] = {}   # symbols that later modules may refer to, by name

_lock = threading.RLock()
_libraries: dict[str, dict[str, int]] = {}
_prepared: dict[str, bytes] = {}    # digest -> object code that was compiled ahead
_kernels: dict[str, int] = {}


def load(key: str, make_ir: Callable[[], str]) -> int:
    """Address of the function `kernel` of a module.

    `key` determines the module: two equal keys are the same code. `make_ir` returns the module's text; it is called
    only if the code is neither in this process nor on disk.
    """
    address = _kernels.get(key)
    if address is None:
        address = _kernels[key] = load_module(key, make_ir)["kernel"]
    return address


def load_module(key: str, make_ir: Callable[[], str]) -> dict[str, int]:
    """As `load`; returns the addresses of all global functions and variables by name."""
    library = _libraries.get(key)
    if library is None:
        with _lock:
            library = _libraries.get(key)
            if library is None:
                library = _libraries[key] = _load(key, make_ir)
    return library


def _load(key: str, make_ir: Callable[[], str]) -> dict[str, int]:
    cpu.check_runs()
    digest, disk = disk_name(key), disk_cache()
    code = _prepared.pop(digest, None) or disk.read(digest)
    if code is not None:
        try:
            library = _link(code)
            counters.loaded += 1
            return library
        except elf.LoadError:
            disk.remove(digest)
    code = compile_object(make_ir())
    library = _link(code)
    disk.write(digest, code)
    return library


# -- many at once -----------------------------------------------------------------------------------------------

def prepare(modules: Iterable[tuple[str, Callable[[], str]]]) -> None:
    """Compile the modules (key, make_ir) that are neither in this process nor on disk, several at a time; `load` finds them then."""
    disk = disk_cache()
    missing: deque = deque()
    for key, make_ir in modules:
        digest = disk_name(key)
        if key not in _libraries and digest not in _prepared and not os.path.exists(disk.path(digest)):
            missing.append((digest, make_ir))
    if len(missing) < 2:
        return
    helpers = [threading.Thread(target=_compile_in_helper, args=(missing, disk), daemon=True)
               for _ in range(min(cpu.default_threads() - 1, len(missing) // 2, HELPERS))]
    for helper in helpers:
        helper.start()
    try:
        while missing or any(helper.is_alive() for helper in helpers):
            try:
                digest, make_ir = missing.popleft()
            except IndexError:      # a helper that fails puts back what it took
                time.sleep(0.001)
            else:
                _prepared[digest] = code = compile_object(make_ir())
                disk.write(digest, code)
    finally:
        missing.clear()


_resting: dict[tuple, list[subprocess.Popen]] = {}       # helpers that wait for more, by their command


def _helper(command: tuple) -> subprocess.Popen:
    """A process that compiles: one that has done so before, or a new one."""
    import subprocess
    resting = _resting.setdefault(command, [])
    while True:
        try:
            process = resting.pop()
        except IndexError:
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if process.poll() is None:
            return process
        _dismiss(process)       # it has waited too long


@atexit.register
def _dismiss_all() -> None:
    while _resting:
        for process in _resting.popitem()[1]:
            _dismiss(process)


def _dismiss(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            pipe.close()


def _compile_in_helper(missing: deque, disk: DiskCache) -> None:
    """Have a process of its own compile modules until there are none left."""
    command = sys.executable, compiler.__file__, cpu.processor().model, FEATURES.get(cpu.machine(), ""), "01"[not _own_loader()]
    try:
        process = _helper(command)
    except OSError:
        return
    item = None
    try:
        while missing:
            item = digest, make_ir = missing.popleft()
            compiler.write_block(process.stdin, make_ir().encode())
            code = _prepared[digest] = compiler.read_block(process.stdout)
            item = None
            counters.compiled += 1
            disk.write(digest, code)
    except IndexError:              # another has taken the last one
        pass
    except Exception:               # whatever it is, compiling in this process will tell
        if item is not None:
            missing.append(item)
        _dismiss(process)
        return
    _resting.setdefault(command, []).append(process)


# -- what identifies compiled code ------------------------------------------------------------------------------

@functools.cache
def _version() -> bytes:
    """Digest of the CPU and of the source of everything that turns a key into code: a change there makes new entries."""
    digest = blake2b(cpu.identity().encode(), digest_size=16)
    here = os.path.dirname(os.path.abspath(__file__))
    targets = os.path.join(os.path.dirname(here), "targets")
    paths = [__file__, compiler.__file__] + [os.path.join(targets, name) for name in sorted(os.listdir(targets)) if name.endswith(".py")]
    for path in paths:
        try:
            with open(path, "rb") as file:
                digest.update(file.read())
        except OSError:  # in a zip archive: the version of the package must do
            pass
    return digest.digest()


def disk_name(key: str) -> str:
    return blake2b(_version() + key.encode(), digest_size=20).hexdigest()


@functools.cache
def _disk_cache(directory: str) -> DiskCache:
    return DiskCache(directory)


def disk_cache() -> DiskCache:
    return _disk_cache(default_directory())


def forget() -> None:
    """Forget what is loaded, so that the next `load` looks on disk again (the code itself stays: it may be in use)."""
    with _lock:
        _libraries.clear()
        _kernels.clear()
        _prepared.clear()


# -- LLVM -------------------------------------------------------------------------------------------------------

def _own_loader() -> bool:
    return sys.platform.startswith("linux") and cpu.machine() == "x86_64"


def _compiler() -> compiler.Compiler:
    return _compiler_for(cpu.processor())


@functools.cache
def _compiler_for(processor: cpu.Processor) -> compiler.Compiler:
    triple = "" if processor.machine == cpu.host().machine else f"{processor.machine}-unknown-linux-gnu"
    return compiler.Compiler(processor.model, FEATURES.get(processor.machine, ""), not _own_loader(), triple)


def host_features() -> dict[str, bool]:
    with _lock:
        import llvmlite.binding as llvm
        return dict(llvm.get_host_cpu_features())


def compile_object(ir: str) -> bytes:
    """Object code of a module, for the CPU that code is written for."""
    with _lock:
        start = time.perf_counter()
        code = _compiler().object_code(ir)
        counters.compiled += 1
        counters.compile_seconds += time.perf_counter() - start
        return code


def optimised(ir: str) -> str:
    """The module's text after LLVM's passes, to read."""
    with _lock, _compiler().optimised(ir) as module:
        return str(module)


def assembly(ir: str) -> str:
    """The native code of a module, to read."""
    with _lock:
        return _compiler().assembly(ir)


# -- linking ----------------------------------------------------------------------------------------------------

def _link(code: bytes) -> dict[str, int]:
    return elf.load(code, _resolve) if _own_loader() else _link_with_llvm(code)


@functools.cache
def _process():
    """Where outside functions are looked for: this process, the C and the mathematics library."""
    libraries = [ctypes.CDLL(None)] if sys.platform != "win32" else [ctypes.cdll.msvcrt]
    try:
        libraries.append(ctypes.CDLL("libm.so.6"))
    except OSError:
        pass
    return libraries


def _resolve(name: str) -> int:
    """Address of a provided symbol or of a function of the process; 0 if there is none of this name."""
    if name in provided:
        return provided[name]
    for library in _process():
        try:
            return ctypes.cast(library[name], ctypes.c_void_p).value or 0
        except AttributeError:
            continue
    return _compiler().llvm.address_of_symbol(name) or 0


_engines: list = []


def _link_with_llvm(code: bytes) -> dict[str, int]:
    llvm = _compiler().llvm
    try:
        module = llvm.parse_assembly("", llvm.create_context())
        engine = llvm.create_mcjit_compiler(module, _compiler().machine)
        file = llvm.ObjectFileRef.from_data(code)
        engine.add_object_file(file)
        engine.finalize_object()
    except RuntimeError as e:
        raise elf.LoadError(str(e)) from None
    _engines.append((engine, file))
    return _Symbols(engine)


class _Symbols(dict):
    """Symbols of one MCJIT engine, looked up as they are asked for."""

    def __init__(self, engine):
        super().__init__()
        self.engine = engine

    def __missing__(self, name: str) -> int:
        with _lock:
            address = self[name] = self.engine.get_function_address(name)
        return address


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()
    for process in sum(_resting.values(), []):      # they are the parent's
        process.returncode = 0
        process.stdin.close()
        process.stdout.close()
    _resting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
