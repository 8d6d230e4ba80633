"""From LLVM IR text to the address of native code.

`load(key, make_ir)` compiles at most once per key and CPU: the object code is kept in the process and on disk. LLVM
(through llvmlite) is imported when something has to be compiled, never to load what is on disk where `elf.py` can load it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from . import cpu, elf
from .cache import DiskCache, default_directory

OPTIMISATION = 3  # of the passes on IR and of code generation

# Where vectors of 512 bits exist they are used: on server cores of the last years, clock frequency no longer drops for them.
FEATURES = {"x86_64": ",-prefer-256-bit,-prefer-128-bit"}


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
    digest, disk = _digest(key), disk_cache()
    code = disk.read(digest)
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


# -- what identifies compiled code ------------------------------------------------------------------------------

@functools.cache
def _version() -> bytes:
    """Digest of the CPU and of the source of everything that turns a key into code: a change there makes new entries."""
    digest = hashlib.blake2b(cpu.identity().encode(), digest_size=16)
    here = os.path.dirname(os.path.abspath(__file__))
    targets = os.path.join(os.path.dirname(here), "targets")
    paths = [__file__] + [os.path.join(targets, name) for name in sorted(os.listdir(targets)) if name.endswith(".py")]
    for path in paths:
        try:
            with open(path, "rb") as file:
                digest.update(file.read())
        except OSError:  # in a zip archive: the version of the package must do
            pass
    return digest.digest()


def _digest(key: str) -> str:
    return hashlib.blake2b(_version() + key.encode(), digest_size=20).hexdigest()


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


# -- LLVM -------------------------------------------------------------------------------------------------------

def _own_loader() -> bool:
    return sys.platform.startswith("linux") and cpu.machine() == "x86_64"


@functools.cache
def _llvm():
    """llvmlite's binding, initialised."""
    import llvmlite.binding as llvm
    if hasattr(llvm, "initialize") and int(llvm.llvm_version_info[0]) < 20:
        llvm.initialize()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


def host_features() -> dict[str, bool]:
    with _lock:
        return dict(_llvm().get_host_cpu_features())


@functools.cache
def _target_machine():
    llvm = _llvm()
    features = llvm.get_host_cpu_features().flatten() + FEATURES.get(cpu.machine(), "")
    options = dict(reloc="pic", codemodel="small") if _own_loader() else dict(reloc="default", codemodel="jitdefault", jit=True)
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=OPTIMISATION, **options)


def _optimised(ir: str):
    """The module of an IR text after LLVM's passes. Call with the lock held."""
    llvm, machine = _llvm(), _target_machine()
    if "target triple" not in ir:
        ir = f'target triple = "{machine.triple}"\ntarget datalayout = "{machine.target_data}"\n{ir}'
    module = llvm.parse_assembly(ir, llvm.create_context())
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=OPTIMISATION)
    options.loop_vectorization = options.slp_vectorization = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


def compile_object(ir: str) -> bytes:
    """Object code of a module, for this CPU."""
    with _lock:
        start = time.perf_counter()
        code = _target_machine().emit_object(_optimised(ir))
        counters.compiled += 1
        counters.compile_seconds += time.perf_counter() - start
        return code


def optimised(ir: str) -> str:
    """The module's text after LLVM's passes, to read."""
    with _lock:
        return str(_optimised(ir))


def assembly(ir: str) -> str:
    """The native code of a module, to read."""
    with _lock:
        return _target_machine().emit_assembly(_optimised(ir))


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
    return _llvm().address_of_symbol(name) or 0


_engines: list = []


def _link_with_llvm(code: bytes) -> dict[str, int]:
    llvm = _llvm()
    try:
        module = llvm.parse_assembly("", llvm.create_context())
        engine = llvm.create_mcjit_compiler(module, _target_machine())
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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
