"""Memory, compiled code and its cache, the object loader, and the thread pool."""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import antorcha as torch
from antorcha.base import config, errors
from antorcha.base import dtype as dt
from antorcha.base.device import device
from antorcha.base.errors import OutOfMemoryError
from antorcha.graph import flush
from antorcha.runtime import compiler, cpu, elf, jit, pool
from antorcha.runtime.buffer import Buffer
from antorcha.runtime.cache import GROUPS, DiskCache
from antorcha.runtime.memory import LARGE, Allocator, allocator, size_class
from antorcha.targets import chain, crossing, microkernel, multiply, windows
from antorcha.targets import kernel as kernel_module

MIB = 1 << 20
fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
own_loader = pytest.mark.skipif(not jit._own_loader(), reason="llvmlite loads code here")

ADD_ONE = """
define void @kernel(ptr %args, i64 %begin, i64 %end, ptr %scratch) {
entry:
  %x = load ptr, ptr %args
  br label %loop
loop:
  %i = phi i64 [%begin, %entry], [%next, %loop]
  %p = getelementptr i32, ptr %x, i64 %i
  %old = load i32, ptr %p
  %new = add i32 %old, 1
  store i32 %new, ptr %p
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %exit
exit:
  ret void
}
"""

# Writes its chunk's first tile to x[begin] and its scratch pointer to y[begin], after writing to the scratch.
REPORT = """
define void @kernel(ptr %args, i64 %begin, i64 %end, ptr %scratch) {
  %x = load ptr, ptr %args
  %args1 = getelementptr ptr, ptr %args, i64 1
  %y = load ptr, ptr %args1
  %p = getelementptr i64, ptr %x, i64 %begin
  store i64 %end, ptr %p
  store volatile i64 %begin, ptr %scratch
  %q = getelementptr ptr, ptr %y, i64 %begin
  store ptr %scratch, ptr %q
  ret void
}
"""


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A disk cache of the test's own, and nothing in memory."""
    monkeypatch.setattr(config, "cache", str(tmp_path))
    jit.forget()
    yield tmp_path
    jit.forget()


def python(script: str, **environment) -> str:
    """What a new process prints."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=500,
                          env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def in_child(check) -> None:
    """Run `check()` in a forked child; it must return True within some minutes."""
    child = os.fork()
    if child == 0:
        signal.alarm(500)
        ok = False
        try:
            ok = check()
        finally:
            os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0


# -- memory -----------------------------------------------------------------------------------------------------

def test_size_classes_waste_an_eighth_at_most():
    for n in [*range(0, 9000, 7), *(1 << b for b in range(12, 40)), *((1 << b) + 1 for b in range(12, 40))]:
        size = size_class(n)
        assert size >= max(n, 64) and size % 64 == 0
        assert size < max(n, 1) + 64 or size <= n * 1.125


@pytest.mark.parametrize("nbytes", [0, 1, 64, 4096, 4097, 100_000, LARGE, 5 * MIB + 3])
def test_buffers_are_aligned_and_writable(nbytes):
    buffer = Buffer.allocate(nbytes)
    assert buffer.address % 64 == 0 and buffer.nbytes == nbytes and not buffer.exported
    view = buffer.array(np.uint8, nbytes)
    view[:] = 7
    assert buffer.exported and view.shape == (nbytes,) and (view == 7).all()


@pytest.mark.parametrize("nbytes", [24, 100_000, 3 * MIB])
def test_memory_is_reused(nbytes, settled):
    buffer = Buffer.allocate(nbytes)
    address = buffer.address
    del buffer
    assert Buffer.allocate(nbytes).address == address


def test_live_buffers_do_not_overlap():
    buffers = [Buffer.allocate(int(n)) for n in np.random.default_rng(0).integers(0, 3 * MIB, 200) ** 2 // (3 * MIB)]
    spans = sorted((b.address, b.address + b.nbytes) for b in buffers)
    assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:]))


def test_an_array_keeps_its_buffer_alive(settled):
    buffer = Buffer.allocate(400)
    address, array = buffer.address, buffer.array(np.float32, 50, offset=200)
    assert array.ctypes.data == address + 200
    del buffer
    gc.collect()
    other = Buffer.allocate(400)
    assert other.address != address
    del array
    assert Buffer.allocate(400).address == address


def test_from_array_shares_the_memory():
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    buffer = Buffer.from_array(array[::-1, ::2])
    assert buffer.address == array.ctypes.data and buffer.nbytes == 4 * 11 and buffer.exported
    buffer.array(np.int32, 11)[0] = 99
    assert array[0, 0] == 99
    assert Buffer.from_array(np.empty((0, 3))).nbytes == 0


def test_statistics(settled):
    before = allocator.allocated
    allocator.reset_peak()
    buffers = [Buffer.allocate(1000), Buffer.allocate(2 * MIB)]
    assert allocator.allocated - before == size_class(1000) + 2 * MIB
    del buffers
    assert allocator.allocated == before and allocator.peak >= before + 2 * MIB


def test_kept_memory_is_bounded_and_the_oldest_goes_first():
    memory = Allocator()
    memory.set_limit(6 * MIB)
    blocks = [(memory.take(2 * MIB), 2 * MIB) for _ in range(4)]
    for block in blocks:
        memory.give(*block)
    assert memory.kept == 6 * MIB and memory.allocated == 0
    assert [memory.take(2 * MIB) for _ in range(3)] == [address for address, _ in blocks[:0:-1]]
    memory.give(*blocks[1])
    memory.empty_cache()
    assert memory.kept == 0


def test_out_of_memory_is_a_clear_error():
    with pytest.raises(OutOfMemoryError, match="memory: expected room.*bytes"):
        Buffer.allocate(1 << 55)
    assert issubclass(OutOfMemoryError, RuntimeError)
    Buffer.allocate(3 * MIB)


def test_allocating_from_many_threads(settled):
    failures = []

    def work(number):
        random = np.random.default_rng(number)
        kept = []
        for n in random.integers(1, 2 * MIB, 300):
            size = int(n) if n % 8 == 0 else int(n) % 5000
            buffer = Buffer.allocate(size)
            words = buffer.array(np.int64, size // 8)[:8]
            words[:] = number
            kept.append(words)
            if len(kept) > 20:
                if any((w != number).any() for w in kept):
                    failures.append(number)
                kept = kept[10:]

    before = allocator.allocated
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    gc.collect()
    assert not failures and allocator.allocated == before


@fork
def test_memory_is_private_after_fork():
    small, large = Buffer.allocate(64).array(np.int64, 8), Buffer.allocate(4 * MIB).array(np.int64, 8)
    small[:], large[:] = 1, 1

    def child():
        small[:], large[:] = 2, 2
        return Buffer.allocate(5 * MIB).address != 0

    in_child(child)
    assert (small == 1).all() and (large == 1).all()


# -- errors and settings ----------------------------------------------------------------------------------------

def test_error_messages_and_positions():
    text = errors.message("linear", "(..., 784)", "(32, 28)", "Flatten it.")
    assert text == "linear: expected (..., 784); received (32, 28).\n        Flatten it."
    line = sys._getframe().f_lineno + 1
    position, here = errors.user_position(), errors.user_line()
    assert errors.describe_position(position) == here == f"{__file__}:{line}"


def test_settings_come_from_the_environment():
    script = "from antorcha.base import config; print(config.eager, config.target, config.cache_directory())"
    assert python(script, ANTORCHA_EAGER="1", ANTORCHA_TARGET="interp", ANTORCHA_CACHE="/x") == "True interp /x"
    failed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                            env={**os.environ, "ANTORCHA_TARGET": "gpu"})
    assert "ANTORCHA_TARGET: expected one of llvm, interp; received 'gpu'" in failed.stderr


@pytest.mark.parametrize("arguments, text", [
    (("cpu",), "device(type='cpu')"),
    (("cuda:1",), "device(type='cuda', index=1)"), (("cuda", 0), "device(type='cuda', index=0)"),
    ((device("meta"),), "device(type='meta')"),
])
def test_devices(arguments, text):
    d = device(*arguments)
    assert repr(d) == text and device(str(d)) == d and hash(device(str(d))) == hash(d)
    assert pickle.loads(pickle.dumps(d)) == d and d != device("mps") and d != str(d)


@pytest.mark.parametrize("arguments, error", [
    (("tpu",), RuntimeError), (("CPU",), RuntimeError), (("",), RuntimeError), (("cuda:",), RuntimeError),
    (("cuda:-1",), RuntimeError), (("cuda:01",), RuntimeError), ((":0",), RuntimeError), (("cuda", -1), RuntimeError),
    (("cuda:0", 1), RuntimeError), ((None,), TypeError), ((1.5,), TypeError), (("cuda", "0"), TypeError),
])
def test_devices_that_are_none(arguments, error):
    with pytest.raises(error):
        device(*arguments)


# -- the processor ----------------------------------------------------------------------------------------------

def test_processor():
    assert cpu.vector_bytes() in (16, 32, 64) and all(size > 0 for size in cpu.cache_sizes())
    assert 1 <= cpu.available_threads() <= (os.cpu_count() or 1)


def test_threads_from_the_environment(monkeypatch):
    for name in ("ANTORCHA_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert cpu.default_threads() == cpu.available_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert cpu.default_threads() == 3
    monkeypatch.setenv("ANTORCHA_NUM_THREADS", "5")
    assert cpu.default_threads() == 5
    monkeypatch.setenv("ANTORCHA_NUM_THREADS", "many")
    assert cpu.default_threads() == 3


@pytest.mark.parametrize("groups, files, quota", [
    ("0::/a/b", {"/sys/fs/cgroup/a/b/cpu.max": "150000 100000", "/sys/fs/cgroup/a/cpu.max": "max 100000"}, 1.5),
    ("0::/", {"/sys/fs/cgroup/cpu.max": "max 100000"}, None),
    ("0::/hidden", {"/sys/fs/cgroup/cpu.max": "400000 100000"}, 4.0),
    ("4:cpu,cpuacct:/x\n0::/", {"/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "50000",
                               "/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000"}, 0.5),
    ("1:cpu:/", {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
])
def test_control_group_quota(monkeypatch, groups, files, quota):
    def read(path):
        try:
            return {"/proc/self/cgroup": groups, **files}[path.replace("//", "/")]
        except KeyError:
            raise FileNotFoundError(path) from None

    monkeypatch.setattr(cpu, "_read", read)
    assert cpu._cgroup_quota() == quota


# -- compiled code ----------------------------------------------------------------------------------------------

KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


def words(*arrays) -> np.ndarray:
    return np.array([a.ctypes.data for a in arrays], np.int64)


def add_one(address: int) -> bool:
    """Whether the code at an address does what ADD_ONE says."""
    x = np.arange(1000, dtype=np.int32)
    w = words(x)
    KERNEL(address)(w.ctypes.data, 0, 1000, None)
    return np.array_equal(x, np.arange(1, 1001))


def entries(directory) -> list:
    return [p for p in directory.rglob("*") if p.is_file()]


def test_code_is_compiled_once_then_loaded_from_disk(empty_cache):
    calls = []

    def make():
        calls.append(1)
        return ADD_ONE

    assert add_one(jit.load("a", make))
    jit.load("a", make)
    assert len(calls) == 1 and len(entries(empty_cache)) == 1
    before = jit.counters.loaded
    jit.forget()
    assert add_one(jit.load("a", make))
    assert len(calls) == 1 and jit.counters.loaded == before + 1
    jit.load("b", make)
    assert len(calls) == 2


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:100], lambda b: b[:-1], lambda b: b[:200] + b"\0\1" + b[202:]])
def test_a_damaged_entry_is_compiled_again(empty_cache, damage):
    jit.load("a", lambda: ADD_ONE)
    [path] = entries(empty_cache)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    jit.forget()
    assert add_one(jit.load("a", lambda: ADD_ONE))
    assert len(path.read_bytes()) == len(whole)


def test_an_entry_that_is_no_object_code_is_compiled_again(empty_cache):
    jit.disk_cache().write(jit.disk_name("a"), b"whole, but nonsense")
    assert add_one(jit.load("a", lambda: ADD_ONE))


def test_a_directory_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(config, "cache", str(tmp_path / "file" / "below"))
    jit.forget()
    assert add_one(jit.load("a", lambda: ADD_ONE))
    jit.forget()


@own_loader
def test_a_warm_process_does_not_import_llvm(empty_cache):
    script = f"""
import sys
from antorcha.runtime import jit, pool
import numpy as np
text = {ADD_ONE!r}
x = np.zeros(10, np.int32); w = np.array([x.ctypes.data])
pool.run(np.array([[jit.load("a", lambda: text), w.ctypes.data, 10, 2]]))
print((x == 1).all(), jit.counters.compiled, "llvmlite" in sys.modules)
"""
    assert python(script, ANTORCHA_CACHE=str(empty_cache)) == "True 2 True"
    assert python(script, ANTORCHA_CACHE=str(empty_cache)) == "True 0 False"


def test_errors_in_ir_are_reported(empty_cache):
    with pytest.raises(RuntimeError, match="expected"):
        jit.load("broken", lambda: "define void @kernel( {")
    assert add_one(jit.load("broken", lambda: ADD_ONE))


def test_compiling_from_many_threads(empty_cache):
    failures = []

    def work():
        for key in "abc":
            if not add_one(jit.load(key, lambda: ADD_ONE)):
                failures.append(key)

    before = jit.counters.compiled
    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures and jit.counters.compiled == before + 3


def test_code_to_read():
    assert "paddd" in jit.assembly(ADD_ONE) or cpu.machine() != "x86_64"
    assert "@kernel" in jit.optimised(ADD_ONE)


def test_modules_that_are_compiled_as_they_are_written():
    """LLVM's passes would take longer than code generation for the loops that all products share."""
    ir = "define i64 @kernel(i64 %x) {\n  %twice = add i64 %x, %x\n  %none = sub i64 %twice, %twice\n  ret i64 %none\n}\n"
    assert "%twice" in jit.optimised(compiler.AS_WRITTEN + ir) and "%twice" not in jit.optimised(ir)
    shape = microkernel.shape(dt.float32)
    texts = multiply.module(shape), windows.module(shape), chain.module()
    assert all(text.startswith(compiler.AS_WRITTEN) for text in texts) and pool.make_ir().startswith(compiler.PLAIN)


def test_loops_without_conditions_need_fewer_passes(monkeypatch):
    """What LLVM's highest level adds is moving conditions out of loops, which a scatter's places have."""
    levels = []
    whole = compiler.Compiler.optimised

    def noted(self, ir):
        levels.append(ir.startswith(compiler.STRAIGHT))
        return whole(self, ir)

    monkeypatch.setattr(compiler.Compiler, "optimised", noted)
    x, rows = torch.ones(4, 5), torch.tensor([0, 2])
    x.tolist()
    for value, straight in ((lambda: x.exp().sum(1), True), (lambda: x @ x.T, True), (lambda: x.index_add(0, rows, x[:2]), False)):
        value().tolist()
        levels.clear()
        kernels = [k["kernel"] for k in flush.last().kernels()]
        assert all(kernel.assembly() for kernel in kernels)
        assert all(levels) is straight


def test_disk_cache_is_bounded(tmp_path):
    cache = DiskCache(str(tmp_path), limit=5000 * GROUPS)
    for i in range(10):
        digest = f"{i:040d}"
        cache.write(digest, bytes(1000))
        os.utime(cache.path(digest), (1000 + i, 1000 + i))
    assert cache.read(f"{9:040d}") == bytes(1000)
    cache.trim(os.path.dirname(cache.path(f"{0:040d}")))
    assert [i for i in range(10) if cache.read(f"{i:040d}")] == [6, 7, 8, 9]
    cache.clear()
    assert not entries(tmp_path)


def test_broken_off_writes_are_removed(tmp_path):
    cache = DiskCache(str(tmp_path))
    cache.write("a" * 40, b"x")
    left = tmp_path / "aa" / "bbb.o.123.456"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    cache.trim()
    assert not left.exists() and cache.read("a" * 40) == b"x"


# -- the object loader ------------------------------------------------------------------------------------------

# Outside functions called and stored as pointers, constants, a jump table, a table of addresses, writable and zeroed data.
MODULE = """
@counter = global i64 41
@zeroed = internal global [100 x i64] zeroinitializer, align 64
@constants = private unnamed_addr constant [4 x double] [double 1.5, double 2.5, double 3.5, double 4.5]
@functions = constant [2 x ptr] [ptr @twice, ptr @outside]
declare double @fmod(double, double)
declare double @outside(double)
declare ptr @memset(ptr, i32, i64)

define double @twice(double %x) noinline {
  %y = fmul double %x, 2.0
  ret double %y
}
define double @remainder(double %x) {
  %y = call double @fmod(double %x, double 3.0)
  ret double %y
}
define double @through_table(i64 %i, double %x) {
  %p = getelementptr [2 x ptr], ptr @functions, i64 0, i64 %i
  %f = load volatile ptr, ptr %p
  %y = call double %f(double %x)
  ret double %y
}
define ptr @pointer() {
  ret ptr @outside
}
define i64 @count() {
  %old = load i64, ptr @counter
  %new = add i64 %old, 1
  store i64 %new, ptr @counter
  %p = getelementptr i64, ptr @zeroed, i64 %new
  %z = load volatile i64, ptr %p
  store volatile i64 %new, ptr %p
  %sum = add i64 %new, %z
  ret i64 %sum
}
define double @choose(i64 %i) {
  switch i64 %i, label %other [i64 0, label %a  i64 1, label %b  i64 2, label %c  i64 3, label %d  i64 4, label %e]
a:
  %ra = call double @twice(double 10.0)
  ret double %ra
b:
  %rb = call double @fmod(double 20.0, double 3.0)
  ret double %rb
c:
  %v = load volatile i64, ptr @counter
  %rc = sitofp i64 %v to double
  ret double %rc
d:
  %p = getelementptr [4 x double], ptr @constants, i64 0, i64 3
  %rd = load volatile double, ptr %p
  ret double %rd
e:
  %re = call double @outside(double 5.0)
  ret double %re
other:
  ret double -1.0
}
"""


@own_loader
def test_relocations_and_outside_symbols():
    D, I = ctypes.c_double, ctypes.c_int64
    outside = ctypes.CFUNCTYPE(D, D)(lambda x: x + 1000)
    where = ctypes.cast(outside, ctypes.c_void_p).value
    symbols = elf.load(jit.compile_object(MODULE), lambda name: where if name == "outside" else jit._resolve(name))
    assert {"twice", "counter", "functions", "count"} <= set(symbols)

    def call(name, result, *arguments):
        return ctypes.CFUNCTYPE(result, *[type(a) for a in arguments])(symbols[name])(*arguments)

    assert call("remainder", D, D(7.5)) == 1.5
    assert call("through_table", D, I(0), D(4)) == 8 and call("through_table", D, I(1), D(4)) == 1004
    assert call("pointer", I) == where
    assert [call("count", I) for _ in range(3)] == [42, 43, 44]
    assert ctypes.c_int64.from_address(symbols["counter"]).value == 44
    assert [call("choose", D, I(i)) for i in range(6)] == [20, 2, 44, 4.5, 1005, -1]


@own_loader
def test_code_is_not_writable():
    address = elf.load(jit.compile_object(ADD_ONE), jit._resolve)["kernel"]
    with open("/proc/self/maps") as maps:
        for line in maps:
            start, _, end = line.split()[0].partition("-")
            if int(start, 16) <= address < int(end, 16):
                assert line.split()[1].startswith("r-x")


@own_loader
def test_objects_that_cannot_be_loaded():
    code = jit.compile_object(MODULE)
    with pytest.raises(elf.LoadError, match="unknown symbol"):
        elf.load(code, lambda name: 0)
    with pytest.raises(elf.LoadError, match="not a relocatable ELF"):
        elf.load(b"MZ" + bytes(200), jit._resolve)
    for end in (10, 64, 200, len(code) // 2, len(code) - 10):
        with pytest.raises(elf.LoadError):
            elf.load(code[:end], jit._resolve)


def test_llvm_loads_the_same_code():
    assert add_one(jit._link_with_llvm(jit.compile_object(ADD_ONE))["kernel"])


# -- the thread pool --------------------------------------------------------------------------------------------

@pytest.fixture(params=[1, 2, 3, 8])
def threads(request):
    before = pool.get_num_threads()
    pool.set_num_threads(request.param)
    yield request.param
    pool.set_num_threads(before)


@pytest.fixture
def three_threads():
    before = pool.get_num_threads()
    pool.set_num_threads(3)
    yield
    pool.set_num_threads(before)


def steps(kernel: str, arguments: np.ndarray, tiles: int, grain: int, count: int = 1) -> np.ndarray:
    return np.array([[jit.load(kernel, lambda: kernel), arguments.ctypes.data, tiles, grain]] * count, np.int64)


def test_each_tile_runs_once_in_each_step(threads):
    for size, grain in [(1, 1), (2, 1), (7, 3), (1000, 1000), (1000, 999), (5000, 7), (100_000, 1)]:
        x = np.zeros(size, np.int32)
        w = words(x)
        pool.run(steps(ADD_ONE, w, size, grain, 20))
        assert (x == 20).all(), (size, grain)


def test_steps_are_in_order(threads):
    """Each step takes its input from where another thread has just written it."""
    shift = ADD_ONE.replace("%old = load i32, ptr %p", """%args1 = getelementptr ptr, ptr %args, i64 1
  %y = load ptr, ptr %args1
  %args2 = getelementptr ptr, ptr %args, i64 2
  %n = load i64, ptr %args2
  %back = sub i64 %n, %i
  %back1 = sub i64 %back, 1
  %q = getelementptr i32, ptr %y, i64 %back1
  %old = load i32, ptr %q""")
    size = 1000
    x, y = np.zeros(size, np.int32), np.arange(size, dtype=np.int32)
    forward = np.array([x.ctypes.data, y.ctypes.data, size], np.int64)
    backward = np.array([y.ctypes.data, x.ctypes.data, size], np.int64)
    table = np.concatenate([steps(shift, forward, size, 10), steps(shift, backward, size, 10)] * 200)
    pool.run(table)
    assert np.array_equal(y, np.arange(size) + 400)


def test_chunks_and_scratch(threads):
    pool.reserve_scratch(100_000)
    size, grain = 1000, 16
    ends, scratch = np.zeros(size, np.int64), np.zeros(size, np.int64)
    w = words(ends, scratch)
    pool.run(steps(REPORT, w, size, grain))
    if threads > 1:
        assert [e for e in ends if e] == [min(i + grain, size) for i in range(0, size, grain)]
    used = sorted(set(scratch[ends > 0]))
    assert len(used) <= threads and all(u % 64 == 0 for u in used)
    assert all(b - a >= 100_000 for a, b in zip(used, used[1:]))


def test_many_tiny_chunks_are_merged(three_threads):
    size = 3_000_000
    x = np.zeros(size, np.int32)
    w = words(x)
    pool.run(steps(ADD_ONE, w, size, 1))
    assert (x == 1).all()


def test_count_and_times(threads):
    x = np.zeros(100, np.int32)
    w = words(x)
    table = steps(ADD_ONE, w, 100, 10, 5)
    pool.run(table, 2)
    assert (x == 2).all()
    pool.run(table[:0])
    times = pool.run_timed(table)
    assert (x == 7).all() and times.shape == (5,) and (times > 0).all()


def test_callers_in_many_threads(three_threads):
    failures = []

    def work():
        x = np.zeros(3000, np.int32)
        w = words(x)
        table = steps(ADD_ONE, w, 3000, 10)
        for _ in range(200):
            pool.run(table)
        if (x != 200).any():
            failures.append(x)

    callers = [threading.Thread(target=work) for _ in range(4)]
    for t in callers:
        t.start()
    for t in callers:
        t.join()
    assert not failures


def test_sleeping_workers_wake_up(three_threads):
    x = np.zeros(1000, np.int32)
    w = words(x)
    table = steps(ADD_ONE, w, 1000, 10)
    for i in range(30):
        pool.run(table)
        time.sleep(0.0001 * (i % 5))
    assert (x == 30).all()


def test_idle_workers_use_no_processor_time(three_threads):
    x = np.zeros(1000, np.int32)
    w = words(x)
    pool.run(steps(ADD_ONE, w, 1000, 10))
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.1


def test_number_of_threads():
    with pytest.raises(RuntimeError, match="positive"):
        pool.set_num_threads(0)
    before = pool.get_num_threads()
    x = np.zeros(1000, np.int32)
    w = words(x)
    table = steps(ADD_ONE, w, 1000, 10)
    for n in (4, 1, 2, 5, before):
        pool.set_num_threads(n)
        assert pool.get_num_threads() == n
        pool.run(table)
    assert (x == 5).all()


@fork
def test_a_forked_child_has_a_pool_of_its_own(three_threads):
    x = np.zeros(1000, np.int32)
    w = words(x)
    table = steps(ADD_ONE, w, 1000, 10)
    pool.run(table)

    def child():
        pool.run(table)
        return pool._pool is not None and len(pool._pool._workers) == 2 and bool((x == 2).all())

    in_child(child)
    pool.run(table)
    assert (x == 2).all()


@fork
def test_fork_while_another_thread_computes(three_threads):
    x, stop = np.zeros(10_000, np.int32), threading.Event()
    w = words(x)
    table = steps(ADD_ONE, w, x.size, 100, 50)

    def work():
        while not stop.is_set():
            pool.run(table)

    other = threading.Thread(target=work)
    other.start()
    y = np.zeros(1000, np.int32)
    v = words(y)
    mine = steps(ADD_ONE, v, 1000, 10)

    def child():
        pool.run(mine)
        return bool((y == 1).all()) and Buffer.allocate(4 * MIB).address != 0 and add_one(jit.load("new", lambda: ADD_ONE))

    try:
        for _ in range(5):
            in_child(child)
    finally:
        stop.set()
        other.join()


def test_a_process_ends_while_workers_wait_or_work(empty_cache):
    script = f"""
import threading, sys
import numpy as np
from antorcha.runtime import jit, pool
pool.set_num_threads(4)
text = {ADD_ONE!r}
x = np.zeros(100000, np.int32); w = np.array([x.ctypes.data])
table = np.array([[jit.load("a", lambda: text), w.ctypes.data, x.size, 100]] * 20)
pool.run(table)
if len(sys.argv) > 1 or {{busy}}:
    def forever():
        while True: pool.run(table)
    threading.Thread(target=forever, daemon=True).start()
print("end")
"""
    for busy in (False, True):
        assert python(script.replace("{busy}", str(busy)), ANTORCHA_CACHE=str(empty_cache)) == "end"


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_interrupts_reach_the_main_thread(three_threads, interrupted):
    x = np.zeros(1000, np.int32)
    w = words(x)
    table = steps(ADD_ONE, w, 1000, 10)
    interrupted(lambda: pool.run(table), 0.1)
    x[:] = 0
    pool.run(table)
    assert (x == 1).all()


def test_modules_are_compiled_side_by_side(empty_cache, monkeypatch):
    monkeypatch.setattr(cpu, "default_threads", lambda: 3)
    for again in range(3):      # by new helpers, by those that rest, and where these have left
        texts = {f"many {again} {i}": f"; {again} {i}\n{ADD_ONE}" for i in range(6)}
        jit.prepare([(key, lambda text=text: text) for key, text in texts.items()])
        with monkeypatch.context() as m:
            m.setattr(jit, "compile_object", None)
            assert all(jit.load(key, lambda: "") for key in texts)
        resting = sum(jit._resting.values(), [])
        assert resting
        for process in resting if again else ():
            process.kill()
            process.wait()


@own_loader
def test_a_draft_runs_until_its_module_is_optimised(empty_cache):
    made = []
    module = jit.Module("drafted", lambda: made.append(1) or f"; {ADD_ONE}", lambda: ADD_ONE, lambda code: made.append(code["kernel"]))
    jit.prepare([module])
    address = jit.link(module)["kernel"]
    assert add_one(address) and jit.drafted("drafted") and 1 not in made and len(entries(empty_cache)) == 1
    jit.forget()        # another process finds the draft on disk
    with pytest.MonkeyPatch.context() as m:
        m.setattr(jit, "_compiler", None)
        jit.prepare([module])
        address = jit.link(module)["kernel"]
    jit.finish(["drafted", "drafted", "unknown"])
    jit.settle()
    assert not jit.drafted("drafted") and made.count(1) == 1 and len(set(made)) == 4 and len(entries(empty_cache)) == 2
    assert add_one(address) and jit.link(module)["kernel"] == address
    jit.forget()        # and another, optimised code
    jit.prepare([module])
    assert add_one(jit.link(module)["kernel"]) and not jit.drafted("drafted")


@own_loader
def test_drafts_are_finished_whatever_processor_code_is_written_for_meanwhile(empty_cache, monkeypatch):
    module = jit.Module("drafted", lambda: ADD_ONE, lambda: ADD_ONE)
    jit.prepare([module])
    address = jit.link(module)["kernel"]
    compile_in_helper = jit._compile_in_helper

    def late(command, *rest):
        assert command == here
        with pytest.MonkeyPatch.context() as m:
            m.setattr(cpu, "machine", lambda: "aarch64")
            return compile_in_helper(command, *rest)

    here = jit._command()
    monkeypatch.setattr(jit, "_compile_in_helper", late)
    jit.finish(["drafted"])
    jit.settle()
    assert not jit.drafted("drafted") and add_one(address)


@own_loader
def test_what_would_have_other_bits_is_no_draft(empty_cache):
    sums = ADD_ONE + "\ndefine float @both(float %a, float %b) {\n  %c = fadd reassoc float %a, %b\n  ret float %c\n}\n"
    module = jit.Module("sums", lambda: sums, lambda: sums)
    jit.prepare([module])
    assert add_one(jit.link(module)["kernel"]) and not jit.drafted("sums")


@own_loader
def test_drafts_are_finished_where_they_would_take_long_or_come_again(empty_cache, monkeypatch):
    monkeypatch.setattr(config, "drafts", True)
    monkeypatch.setattr(kernel_module, "_kernels", {})
    flush.clear()

    def draws(n):
        return (torch.arange(n) * 3 + 1) ^ 5

    few = draws(20_000)[:100].tolist()
    names = [*jit._drafts]
    assert names and draws(20_000)[:100].tolist() == few
    jit.settle()
    assert not any(map(jit.drafted, names))
    monkeypatch.setattr(kernel_module, "_kernels", {})
    flush.clear()
    jit.forget()
    shutil.rmtree(empty_cache)
    assert draws(20_000)[:100].tolist() == few and jit._drafts
    assert draws(3_000_000)[:100].tolist() == few and not jit._drafts


@own_loader
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_drafts_of_products_have_the_same_bits(empty_cache, monkeypatch, dtype):
    """With edges, operands that lie along k or across it, few rows, and in several blocks of k."""
    monkeypatch.setattr(config, "drafts", True)
    monkeypatch.setattr(kernel_module, "_kernels", {})
    monkeypatch.setattr(jit, "finish", lambda keys: None)
    flush.clear()
    torch.manual_seed(0)
    sizes = [(5, 7, 9), (64, 64, 64), (33, 700, 50), (3, 40, 100), (100, 1, 3), (1, 100, 30), (29, 65, 31)]
    given = [(torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)) for m, k, n in sizes]

    def products():
        found = []
        for a, b in given:
            turned = a.t().contiguous().t(), b.t().contiguous().t()
            found += [x @ y for x in (a, turned[0]) for y in (b, turned[1])] + [(a @ b + 1).exp(), (a.abs() @ (b * 2)).t() - b[0, 0]]
        image, weight = (torch.linspace(-1, 1, n).to(dtype) for n in (2 * 3 * 12 * 9, 5 * 3 * 3 * 3))
        found.append(torch.nn.functional.conv2d(image.reshape(2, 3, 12, 9), weight.reshape(5, 3, 3, 3), padding=1))
        return [bytes(x.reshape(-1).view(torch.uint8).numpy()) for x in found]

    drafts = products()
    assert any("microkernel" in key for key in jit._drafts)
    jit.finish_now([*jit._drafts])
    assert not jit._drafts and products() == drafts


def test_a_helper_that_fails_leaves_its_modules_to_this_process(empty_cache, monkeypatch):
    monkeypatch.setattr(cpu, "default_threads", lambda: 3)
    monkeypatch.setattr(jit.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError):
        jit.prepare([(f"broken {i}", lambda: "define void @kernel( {") for i in range(6)])
    jit.prepare([(f"left {i}", lambda: ADD_ONE) for i in range(6)])
    monkeypatch.setattr(jit, "compile_object", None)
    assert all(jit.load(f"left {i}", lambda: "") for i in range(6))


def test_loops_ask_for_memory_as_far_ahead_as_they_need():
    """What only reads further than what writes as well, and a loop with much to compute, furthest; 16-bit numbers twice as far."""
    loads = {"float": "  %x = load <16 x float>, ptr %a, align 4\n", "i16": "  %x = load <16 x i16>, ptr %a, align 2\n"}
    store, work = "  store <16 x float> %y, ptr %b, align 4\n", "  %y = fadd <16 x float> %y, %y\n" * compiler.LONG
    for body, ahead, level in ((loads["float"], compiler.FAR, 2), (loads["i16"], 2 * compiler.FAR, 2),
                               (loads["float"] + store, compiler.NEAR, 3), (loads["i16"] + store, 2 * compiler.NEAR, 3),
                               (loads["float"] + work + store, compiler.FURTHEST, 2),
                               (loads["i16"] + work + store, compiler.FURTHEST, 2)):
        text = compiler.fetching(f"entry:\n{body}vector.body:                          ; preds\n{body}  br label %on\non:\n{body}")
        assert re.findall(r"getelementptr i8, ptr %a, i64 (\d+)\n .*i32 (\d), i32 1\)", text) == [(str(ahead), str(level))]
        assert text.index("vector.body") < text.index("prefetch") < text.index("on:")


def test_a_transposition_asks_for_the_rows_of_its_next_square():
    x = torch.arange(300 * 500).reshape(300, 500).float()
    x.sum().item()
    y = x.t().contiguous() + 0
    assert y[7, 5:8].tolist() == [2507, 3007, 3507]
    text = next(found["kernel"].ir() for found in flush.last().kernels() if "shufflevector" in found["kernel"].ir())
    assert len(re.findall(r"call void @llvm.prefetch.p0\(ptr \S+, i32 0, i32 2", text)) == crossing.side(dt.float32)
