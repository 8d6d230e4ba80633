"""A CUDA driver for machines without one. It has libcuda's functions, records the calls, and carries out what they ask for.

Device memory is host memory that nobody else knows, or, for programs that are too large to be carried out (`Library.of_addresses`), but a
range of addresses. Kernels run in the simulator of threads (`execute = "simt"`) or, quicker, in
the loop programs' interpreter ("interp"), or not at all ("none"). Its machine language is the LLVM IR that PTX is made from.
"""

from __future__ import annotations

import ctypes
import functools
import re
import threading

import numpy as np
import simt

from antorcha.loops import interp
from antorcha.runtime import cuda
from antorcha.targets import ptx

MEMORY = 1 << 28
CAPTURING = 900     # CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
ATTRIBUTES = {cuda.MAJOR: 8, cuda.MINOR: 0, cuda.PROCESSORS: 108, cuda.THREADS_OF_PROCESSOR: 2048, cuda.WARP: 32, cuda.SHARED: 166_912}


def _out(pointer, value) -> None:
    pointer._obj.value = value


def _number(x) -> int:
    return int(getattr(x, "value", x) or 0)


class Library:
    """`calls` lists (name, what matters of the arguments)."""

    def __init__(self, devices: int = 1, execute: str = "simt"):
        self.devices, self.execute = devices, execute
        self.memory = simt.Memory()
        self.size = MEMORY
        self.ranges: dict[int, int] | None = None       # address -> bytes, where there is nothing behind addresses
        self.calls: list[tuple] = []
        self.modules: dict[int, str] = {}
        self.functions: dict[int, tuple] = {}
        self.parsed: dict[int, simt.Kernel] = {}
        self.programs: dict[str, object] = {}   # code -> the loop program that it was made from
        self.known = 0
        self.used = self.handles = self.clock = 0
        self.events: dict[int, int] = {}
        self.recorded: dict[int, int] = {}      # event -> stream
        self.busy: set[int] = set()             # streams that are not done
        self.graphs: dict[int, list[int]] = {}
        self.captures: dict[int, list] = {}     # stream -> what it is asked to do while it captures
        self.nodes: dict[int, tuple] = {}
        self.host: dict[int, np.ndarray] = {}
        self.roomy: dict[int, int] = {}
        self.contexts: dict[int, int] = {}      # thread -> context
        self.reading: int | None = None         # a stream that still reads memory that is not page-locked

    @classmethod
    def of_addresses(cls, size: int) -> Library:
        """A GPU of `size` bytes that carries nothing out: memory has addresses and holds zeros."""
        library = cls(1, "none")
        library.size, library.ranges = size, {}
        return library

    def _new(self) -> int:
        self.handles += 1
        return self.handles

    def names(self) -> list[str]:
        return [c[0] for c in self.calls]

    # -- devices

    def cuInit(self, flags):
        self.calls.append(("cuInit",))
        return 0

    def cuGetErrorString(self, code, text):
        _out(text, f"error {code}".encode())
        return 0

    def cuDeviceGetCount(self, count):
        _out(count, self.devices)
        return 0

    def cuDeviceGet(self, handle, index):
        _out(handle, index)
        return 0

    def cuDeviceGetName(self, name, size, handle):
        name.value = b"A GPU of the imagination"
        return 0

    def cuDeviceGetPCIBusId(self, text, size, handle):
        text.value = f"0000:{0x3B + 2 * handle:02X}:00.0".encode()
        return 0

    def cuDeviceTotalMem_v2(self, total, handle):
        _out(total, self.size)
        return 0

    def cuDeviceGetAttribute(self, value, number, handle):
        _out(value, ATTRIBUTES[number])
        return 0

    def cuDevicePrimaryCtxRetain(self, context, handle):
        self.calls.append(("cuDevicePrimaryCtxRetain", handle))
        _out(context, handle + 1)
        return 0

    def cuCtxSetCurrent(self, context):
        self.contexts[threading.get_ident()] = _number(context)
        return 0

    def cuCtxSynchronize(self):
        if self.captures:
            return CAPTURING
        self.calls.append(("cuCtxSynchronize",))
        return 0

    # -- memory

    def _bytes(self, address, n: int) -> np.ndarray:
        if self.ranges is None:
            return self.memory.at(_number(address), n)
        assert any(start <= _number(address) and _number(address) + n <= start + size for start, size in self.ranges.items())
        return np.zeros(n, np.uint8)

    def cuMemAlloc_v2(self, address, nbytes):
        n = _number(nbytes)
        if self.used + n > self.size:
            return cuda.OUT_OF_MEMORY
        self.used += n
        if self.ranges is None:
            _out(address, self.memory.allocate(n))
        else:
            last = max(self.ranges, default=1 << 32)
            self.ranges[last + -(-self.ranges.get(last, 0) // 512) * 512] = n
            _out(address, max(self.ranges))
        self.calls.append(("cuMemAlloc", n))
        return 0

    def cuMemFree_v2(self, address):
        if self.ranges is None:
            self.used -= len(self.memory.blocks[_number(address)])
            self.memory.free(_number(address))
        else:
            self.used -= self.ranges.pop(_number(address))
        self.calls.append(("cuMemFree",))
        return 0

    def cuMemGetInfo_v2(self, free, total):
        _out(free, self.size - self.used)
        _out(total, self.size)
        return 0

    def cuMemAllocHost_v2(self, address, nbytes):
        block = np.zeros(_number(nbytes), np.uint8)
        self.host[block.ctypes.data] = block
        _out(address, block.ctypes.data)
        return 0

    def cuMemFreeHost(self, address):
        del self.host[_number(address)]
        return 0

    def cuMemcpyHtoDAsync_v2(self, to, source, nbytes, stream):
        locked = any(start <= _number(source) < start + len(block) for start, block in self.host.items())
        if not locked and _number(stream) in self.captures:
            return CAPTURING
        if self._captured(stream, self.cuMemcpyHtoDAsync_v2, to, source, nbytes):
            return 0
        n = _number(nbytes)
        self.reading = None if locked else _number(stream)
        self._bytes(to, n)[:] = np.frombuffer(ctypes.string_at(_number(source), n), np.uint8)
        self.calls.append(("HtoD", n, _number(stream)))
        return 0

    def cuMemcpyDtoHAsync_v2(self, to, source, nbytes, stream):
        n = _number(nbytes)
        ctypes.memmove(_number(to), self._bytes(source, n).tobytes(), n)
        self.calls.append(("DtoH", n, _number(stream)))
        return 0

    def cuMemcpyDtoDAsync_v2(self, to, source, nbytes, stream):
        if self._captured(stream, self.cuMemcpyDtoDAsync_v2, to, source, nbytes):
            return 0
        n = _number(nbytes)
        if self.ranges is None:
            self._bytes(to, n)[:] = self._bytes(source, n).copy()
        self.calls.append(("DtoD", n, _number(stream)))
        return 0

    def cuMemsetD8Async(self, to, value, nbytes, stream):
        if self._captured(stream, self.cuMemsetD8Async, to, value, nbytes):
            return 0
        if self.ranges is None:
            self._bytes(to, _number(nbytes))[:] = _number(value)
        self.calls.append(("memset", _number(nbytes), _number(stream)))
        return 0

    # -- streams and events

    def cuStreamCreateWithPriority(self, stream, flags, priority):
        _out(stream, self._new())
        return 0

    def cuStreamDestroy_v2(self, stream):
        assert _number(stream) not in self.captures
        return 0

    def cuStreamBeginCapture_v2(self, stream, mode):
        assert _number(stream) and _number(stream) not in self.captures
        self.captures[_number(stream)] = []
        return 0

    def cuStreamEndCapture(self, stream, graph):
        handle = self._new()
        self.graphs[handle] = []
        for work in self.captures.pop(_number(stream)):
            node = self._new()
            self.nodes[node] = work
            self.graphs[handle].append(node)
        _out(graph, handle)
        return 0

    def _captured(self, stream, function, *args) -> bool:
        """Whether a stream captures; then it is what it is asked for that is kept."""
        kept = self.captures.get(_number(stream))
        if kept is not None:
            kept.append(lambda to: function(*args, to))
        return kept is not None

    def cuStreamSynchronize(self, stream):
        if _number(stream) in self.captures:
            return CAPTURING
        self.calls.append(("cuStreamSynchronize", _number(stream)))
        return 0

    def cuStreamQuery(self, stream):
        return 0

    def cuStreamWaitEvent(self, stream, event, flags):
        self.calls.append(("cuStreamWaitEvent", _number(stream)))
        return 0

    def cuEventCreate(self, event, flags):
        _out(event, self._new())
        return 0

    def cuEventDestroy_v2(self, event):
        return 0

    def cuEventRecord(self, event, stream):
        self.clock += 1
        self.events[_number(event)] = self.clock
        self.recorded[_number(event)] = _number(stream)
        self.calls.append(("cuEventRecord", _number(stream)))
        return 0

    def cuEventQuery(self, event):
        return cuda.NOT_READY if self.recorded.get(_number(event)) in self.busy else 0

    def cuEventSynchronize(self, event):
        self.busy.discard(self.recorded.get(_number(event)))
        return 0

    def cuEventElapsedTime(self, time, start, end):
        _out(time, float(self.events[_number(end)] - self.events[_number(start)]))
        return 0

    # -- code

    def cuModuleLoadDataEx(self, module, image, count, options, values):
        handle = self._new()
        self.modules[handle] = image.value.decode()
        self.calls.append(("cuModuleLoadDataEx",))
        _out(module, handle)
        return 0

    def cuModuleGetFunction(self, function, module, name):
        handle = self._new()
        self.functions[handle] = (_number(module), name.decode())
        _out(function, handle)
        return 0

    def cuFuncSetAttribute(self, function, attribute, value):
        assert _number(attribute) == cuda.MOST_SHARED and cuda.ALWAYS < _number(value) <= ATTRIBUTES[cuda.SHARED]
        self.roomy[_number(function)] = _number(value)
        return 0

    def cuLaunchKernel(self, function, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra):
        grid, block, words = (_number(gx), _number(gy)), (_number(bx), _number(by)), self._words(extra)
        work = _number(function), grid, block, _number(shared), words
        if not self._captured(stream, lambda to: self._run(*work, _number(to))):
            self._run(*work, _number(stream))
        return 0

    @staticmethod
    def _words(extra) -> list[int]:
        assert (extra[0], extra[2]) == (cuda.BUFFER_POINTER, cuda.BUFFER_SIZE) and not extra[4]
        count = ctypes.c_size_t.from_address(extra[3]).value // 8
        return list((ctypes.c_int64 * count).from_address(extra[1]))

    def _run(self, function: int, grid: tuple, block: tuple, shared: int, words: list[int], stream: int) -> None:
        module, name = self.functions[function]
        assert shared <= self.roomy.get(function, cuda.ALWAYS) and len(words) <= ptx.MOST_WORDS
        assert 0 < block[0] * block[1] <= 1024 and 0 < grid[0] < 2 ** 31 and 0 < grid[1] < 65536, "a launch that no GPU accepts"
        self.calls.append(("launch", name, grid, block, len(words), stream))
        text = self.modules[module]
        most = re.search(r'maxntid(?:"="| )(\d+)', text)
        assert not text or block[0] * block[1] <= int(most[1]), "more threads than the code has registers for"
        if self.execute == "none":
            return
        if self.execute == "interp":
            program = self._program(text)
            if program is not None:
                interp.run(program, words)
                return
        kernel = self.parsed.get(function)
        if kernel is None:
            kernel = self.parsed[function] = simt.Kernel(text, name)
        assert len(words) == len(kernel.parameters)
        kernel.run(self.memory, words, grid, block, shared=shared)

    def _program(self, text: str):
        """The loop program that code was made from; None for a chain's."""
        kernels = list(ptx._kernels.values())
        for kernel in kernels[self.known:]:
            self.programs[kernel.ptx()] = kernel.program
            if isinstance(kernel, ptx.Kernel) and kernel.program.body[0].kind != "contract":
                self.programs[kernel.wide.ptx()] = kernel.program
        self.known = len(kernels)
        return self.programs.get(text)

    # -- graphs

    def cuGraphCreate(self, graph, flags):
        handle = self._new()
        self.graphs[handle] = []
        _out(graph, handle)
        return 0

    def _node(self, parameters) -> tuple:
        p = parameters._obj
        return p.function, (p.gx, p.gy), (p.bx, p.by), p.shared, self._words((ctypes.c_void_p * 5).from_address(p.extra))

    def cuGraphAddKernelNode(self, node, graph, before, count, parameters):
        nodes = self.graphs[_number(graph)]
        assert (_number(count), [_number(b) for b in before or ()]) == ((1, [nodes[-1]]) if nodes else (0, []))
        handle = self._new()
        self.nodes[handle] = self._node(parameters)
        nodes.append(handle)
        _out(node, handle)
        return 0

    def cuGraphAddChildGraphNode(self, node, graph, before, count, child):
        nodes = self.graphs[_number(graph)]
        assert (_number(count), [_number(b) for b in before or ()]) == ((1, [nodes[-1]]) if nodes else (0, []))
        handle = self._new()
        self.nodes[handle] = list(self.graphs[_number(child)])      # a copy of it
        nodes.append(handle)
        _out(node, handle)
        return 0

    def cuGraphExecChildGraphNodeSetParams(self, executable, node, child):
        assert len(self.nodes[_number(node)]) == len(self.graphs[_number(child)])
        self.nodes[_number(node)] = list(self.graphs[_number(child)])
        self.calls.append(("cuGraphUpdate",))
        return 0

    def cuGraphDestroy(self, graph):
        return 0

    def cuGraphInstantiateWithFlags(self, executable, graph, flags):
        self.calls.append(("cuGraphInstantiate", len(self.graphs[_number(graph)])))
        _out(executable, _number(graph))
        return 0

    def cuGraphExecKernelNodeSetParams(self, executable, node, parameters):
        self.nodes[_number(node)] = self._node(parameters)
        self.calls.append(("cuGraphUpdate",))
        return 0

    def cuGraphLaunch(self, executable, stream):
        self.calls.append(("cuGraphLaunch", _number(stream)))
        at = len(self.calls)
        for node in self.graphs[_number(executable)]:
            self._carry_out(self.nodes[node], stream)
        del self.calls[at:]     # one call did it
        return 0

    def _carry_out(self, work, stream) -> None:
        if isinstance(work, list):
            for node in work:
                self._carry_out(self.nodes[node], stream)
        elif isinstance(work, tuple):
            self._run(*work, _number(stream))
        else:
            work(stream)

    def cuGraphExecDestroy(self, executable):
        return 0


def install(devices: int = 1, execute: str = "simt") -> Library:
    """Put a driver into this process, for good."""
    ptx.assemble = lambda key, make_ir, architecture, long: make_ir()
    library = Library(devices, execute)
    cuda.use(library)
    return library


# -- what a real driver takes for granted -------------------------------------------------------------------------

KINDS = {
    "o": "where a result goes, or what is read: a reference, an array or nothing",
    "h": "a handle or a host address: c_void_p",
    "d": "an address on the device: c_uint64",
    "i": "32 bits: c_int, c_uint or a small number",
    "z": "c_size_t",
    "u": "64 bits: c_uint64",
    "b": "a byte: c_ubyte",
}
BEFORE_CONTEXTS = {"cuInit": "i", "cuGetErrorString": "io", "cuDeviceGetCount": "o", "cuDeviceGet": "oi", "cuDeviceGetName": "oii",
                   "cuDeviceGetPCIBusId": "oii", "cuDeviceTotalMem_v2": "oi", "cuDeviceGetAttribute": "oii",
                   "cuDevicePrimaryCtxRetain": "oi", "cuCtxSetCurrent": "h"}
WITHIN_CONTEXTS = {
    "cuCtxSynchronize": "", "cuMemAlloc_v2": "oz", "cuMemFree_v2": "d", "cuMemGetInfo_v2": "oo", "cuMemAllocHost_v2": "oz",
    "cuMemFreeHost": "h", "cuMemcpyHtoDAsync_v2": "dhzh", "cuMemcpyDtoHAsync_v2": "hdzh", "cuMemcpyDtoDAsync_v2": "ddzh",
    "cuMemsetD8Async": "dbzh", "cuStreamCreateWithPriority": "oii", "cuStreamDestroy_v2": "h", "cuStreamBeginCapture_v2": "hi",
    "cuStreamEndCapture": "ho", "cuStreamSynchronize": "h", "cuStreamQuery": "h", "cuStreamWaitEvent": "hhi", "cuEventCreate": "oi",
    "cuEventDestroy_v2": "h", "cuEventRecord": "hh", "cuEventQuery": "h", "cuEventSynchronize": "h", "cuEventElapsedTime": "ohh",
    "cuModuleLoadDataEx": "ooioo", "cuModuleGetFunction": "oho", "cuFuncSetAttribute": "hii", "cuLaunchKernel": "hiiiiiiihoo",
    "cuGraphCreate": "oi", "cuGraphAddKernelNode": "ohozo", "cuGraphAddChildGraphNode": "ohozh", "cuGraphDestroy": "h",
    "cuGraphExecChildGraphNodeSetParams": "hhh", "cuGraphInstantiateWithFlags": "ohu", "cuGraphExecKernelNodeSetParams": "hho",
    "cuGraphLaunch": "hh", "cuGraphExecDestroy": "h",
}
CTYPES = {"h": ctypes.c_void_p, "d": ctypes.c_uint64, "z": ctypes.c_size_t, "u": ctypes.c_uint64, "b": ctypes.c_ubyte}


def _is(kind: str, x) -> bool:
    if kind == "o":
        return x is None or isinstance(x, (ctypes.Array, bytes, ctypes.c_char_p)) or type(x).__name__ == "CArgObject"
    if kind == "i":
        return isinstance(x, (ctypes.c_int, ctypes.c_uint)) or type(x) is int and -2 ** 31 <= x < 2 ** 31
    return isinstance(x, CTYPES[kind])


def _checked(name: str, kinds: str, bound: bool):
    """A function that refuses what C would misread, and threads without a context."""
    function = getattr(Library, name)

    @functools.wraps(function)
    def called(self, *args):
        assert len(args) == len(kinds), f"{name} takes {len(kinds)} arguments; received {len(args)}"
        for at, (kind, x) in enumerate(zip(kinds, args)):
            assert _is(kind, x), f"{name}: expected as argument {at} {KINDS[kind]}; received {x!r}"
        assert not bound or threading.get_ident() in self.contexts, f"{name} in a thread without a context"
        reading, self.reading = self.reading, None
        assert reading is None or (name, _number(args[0])) == ("cuStreamSynchronize", reading), "memory that is still read may change"
        return function(self, *args)

    return called


for _name, _kinds in (BEFORE_CONTEXTS | WITHIN_CONTEXTS).items():
    setattr(Library, _name, _checked(_name, _kinds, _name in WITHIN_CONTEXTS))
