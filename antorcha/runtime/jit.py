"""From LLVM IR text to the address of native code.

`load(key, make_ir)` compiles at most once per key and CPU: the object code is kept in the process and on disk. LLVM
(`compiler.py`) is imported when something has to be compiled, never to load what is on disk where `elf.py` can load it. `prepare` is told
of many modules at once and compiles those that are missing side by side.

A module may run as a draft at first: the same IR, compiled without optimisation in a tenth of the time or less, with the same bits. Its
addresses are entries (`elf.py`), which lead to the optimised code once `finish` had that made in the background. Drafts are kept on disk,
too, under names of their own.
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
from typing import TYPE_CHECKING, NamedTuple

from ..base.locks import Lock
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

_lock = Lock()
_libraries: dict[str, dict[str, int]] = {}
_prepared: dict[str, bytes] = {}    # digest -> object code that was compiled ahead
_kernels: dict[str, int] = {}


def _nothing(library: dict[str, int]) -> None:
    pass


class Module(NamedTuple):
    """`key` determines the code: two equal keys are the same. `ir` makes the module's text; it is called only if the code is neither in
    this process nor on disk. `draft` makes the text of what may run before that is compiled; None where it must be waited for. `linked` is
    told the addresses of whatever is about to run, before anything calls it."""

    key: str
    ir: Callable[[], str]
    draft: Callable[[], str] | None = None
    linked: Callable[[dict[str, int]], None] = _nothing


class _Draft(NamedTuple):
    """A module that runs as a draft: what it is, and its entries by name."""

    module: Module
    entries: dict[str, int]


_drafts: dict[str, _Draft] = {}     # by key


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
    return link(Module(key, make_ir))


def link(module: Module) -> dict[str, int]:
    """As `load_module`. A draft is used where there is one, prepared or on disk, and nothing better."""
    key = module.key
    library = _libraries.get(key)
    if library is None:
        with _lock:
            library = _libraries.get(key)
            if library is None:
                library = _libraries[key] = _load(module)
    return library


def _load(module: Module) -> dict[str, int]:
    cpu.check_runs()
    library = _found(module.key)
    if library is None and module.draft is not None:
        draft = _found(_draft_of(module.key))
        if draft is not None:
            module.linked(draft)
            entries = {name: elf.entry(address) for name, address in draft.items()}
            _drafts[module.key] = _Draft(module, entries)
            return entries
    if library is None:
        code = compile_object(module.ir())
        library = _link(code)
        disk_cache().write(disk_name(module.key), code)
    module.linked(library)
    return library


def _found(key: str) -> dict[str, int] | None:
    """A module that was compiled ahead or is on disk."""
    digest, disk = disk_name(key), disk_cache()
    code = _prepared.pop(digest, None) or disk.read(digest)
    if code is not None:
        try:
            library = _link(code)
            counters.loaded += 1
            return library
        except elf.LoadError:
            disk.remove(digest)
    return None


# -- many at once -----------------------------------------------------------------------------------------------

def prepare(modules: Iterable[tuple]) -> None:
    """Compile those of the modules (`Module`, or its first fields) that are neither in this process nor on disk, several at a time, or
    their drafts; `load` and `link` find them then."""
    missing: deque = deque()
    drafts = []
    for module in [Module(*m) for m in modules]:
        if module.key in _libraries or _is_kept(module.key):
            continue
        if module.draft is not None and _own_loader():
            if _is_kept(_draft_of(module.key)):
                continue
            text = module.draft()
            if not any(name in text for name in compiler.OTHERWISE):
                drafts.append((disk_name(_draft_of(module.key)), text))
                continue
        missing.append((disk_name(module.key), module.ir))
    _compile_all(missing, drafts)


def _compile_all(missing: deque, drafts: list) -> None:
    """Compile (digest, what makes a text) each, and of drafts (digest, text)."""
    disk = disk_cache()
    helpers = [threading.Thread(target=_compile_in_helper, args=(_command(), missing, disk), daemon=True)
               for _ in range(min(cpu.default_threads() - 1, len(missing) // 2, HELPERS))]
    for helper in helpers:
        helper.start()
    try:
        for digest, text in drafts:
            _prepared[digest] = code = compile_draft(text)
            disk.write(digest, code)
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


def _is_kept(key: str) -> bool:
    digest = disk_name(key)
    return digest in _prepared or os.path.exists(disk_cache().path(digest))


# -- finishing drafts -------------------------------------------------------------------------------------------

_asked: deque = deque()         # (digest, what makes a text) of drafts whose optimised code is made in the background
_asked_for: dict[str, str] = {}     # digest -> key: these, and the one in work
_background = Lock()
_working: list[threading.Thread] = []       # one thread, while there is something to do
_working_by: tuple = ()     # its command: what is asked for while code is written for another processor is none of its business


def drafted(key: str) -> bool:
    """Whether a module runs as a draft."""
    return key in _drafts


def finish(keys: Iterable[str]) -> None:
    """Have modules that run as drafts optimised in the background."""
    global _working_by
    command = _command()
    for key in keys:
        digest = disk_name(key)
        if key not in _drafts or digest in _asked_for or _working and command != _working_by:
            continue
        if _is_kept(key):       # another process has made it
            _replace(digest, key)
            continue
        text = _drafts[key].module.ir()     # on this thread: programs are written by one at a time
        _asked_for[digest] = key
        _asked.append((digest, lambda text=text: text))
    with _background:
        if _asked and not _working:
            _working_by = command
            _working.append(threading.Thread(target=_finish_asked, args=(command,), daemon=True))
            _working[0].start()


def finish_now(keys: Iterable[str]) -> None:
    """As `finish`; returns when they are."""
    wanted = [key for key in keys if key in _drafts]
    _compile_all(deque((disk_name(key), _drafts[key].module.ir) for key in wanted if not _is_kept(key)), [])
    for key in wanted:
        _replace(disk_name(key), key)


def settle() -> None:
    """Wait for what `finish` was told of."""
    for thread in [*_working]:
        thread.join()


def _finish_asked(command: tuple) -> None:
    """Until nothing is asked for any more, or no helper can be had: the drafts do."""
    while True:
        able = _compile_in_helper(command, _asked, disk_cache(), lambda digest: _replace(digest, _asked_for.pop(digest, "")))
        with _background:
            if not (_asked and able):
                _working.clear()
                return


def _replace(digest: str, key: str) -> None:
    """Have the entries of a draft lead to the optimised code, which was made."""
    code = _prepared.pop(digest, None) or disk_cache().read(digest)
    draft = _drafts.pop(key, None)
    if draft is not None and code is not None:
        with contextlib.suppress(elf.LoadError):        # the draft does
            library = elf.load(code, _resolve)
            draft.module.linked(library)
            for name, entry in draft.entries.items():
                elf.lead(entry, library[name])


# -- helpers ----------------------------------------------------------------------------------------------------

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


def _command() -> tuple:
    """What starts a helper that compiles for the processor that code is written for now."""
    return sys.executable, compiler.__file__, cpu.processor().model, FEATURES.get(cpu.machine(), ""), "01"[not _own_loader()]


def _compile_in_helper(command: tuple, missing: deque, disk: DiskCache, finished: Callable[[str], None] | None = None) -> bool:
    """Have a process of its own compile modules until there are none left; False where that cannot be had. `finished(digest)` is called
    after each, if nobody waits for them."""
    try:
        process = _helper(command)
    except OSError:
        return False
    item = None
    try:
        while missing:
            item = digest, make_ir = missing.popleft()
            compiler.write_block(process.stdin, make_ir().encode())
            code = _prepared[digest] = compiler.read_block(process.stdout)
            item = None
            disk.write(digest, code)
            if finished is None:
                counters.compiled += 1
            else:
                finished(digest)
    except IndexError:              # another has taken the last one
        pass
    except Exception:               # whatever it is, compiling in this process will tell
        if item is not None:
            missing.append(item)
        _dismiss(process)
        return False
    _resting.setdefault(command, []).append(process)
    return True


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


def _draft_of(key: str) -> str:
    return f"draft of {key}"


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
        _drafts.clear()


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


def compile_draft(ir: str) -> bytes:
    """The same, made quickly and not optimised."""
    with _lock:
        start = time.perf_counter()
        code = _compiler().draft(ir)
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
    global _lock, _background
    _lock, _background = Lock(), Lock()
    for process in sum(_resting.values(), []):      # they are the parent's
        process.returncode = 0
        process.stdin.close()
        process.stdout.close()
    _resting.clear()
    _asked.clear()      # and their thread stayed there
    _asked_for.clear()
    _working.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
