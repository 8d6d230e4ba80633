"""A GPU in NumPy: carries out the LLVM IR of `targets/ptx.py` thread by thread, to test kernels where there is no GPU.

All threads of a launch are lanes of NumPy arrays. Each has its own program counter; of those that can go on, the ones at the
earliest block of the text go next, so that threads that parted meet again. What a real GPU leaves undefined is an error here: an
address outside of every buffer, a shuffle in which a named lane takes no part, threads that wait for each other for ever.
`order="warps"` runs one warp after another up to the next barrier: a missing barrier then shows.
"""

from __future__ import annotations

import re
import struct
from types import SimpleNamespace

import numpy as np

from antorcha.base import dtype as dt
from antorcha.loops import interp

KINDS = {"i1": np.bool_, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64, "i128": np.complex128, "ptr": np.int64,
         "half": np.float16, "bfloat": np.int16, "float": np.float32, "double": np.float64}
FLOAT = {"fadd": np.add, "fsub": np.subtract, "fmul": np.multiply, "fdiv": np.divide}
WHOLE = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
TESTS = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}
SHARED = 1 << 60        # where shared memory lies among generic addresses
SPECIAL = "llvm.nvvm.read.ptx.sreg."
WARP = 32


class Fault(Exception):
    """Something that a GPU would not define."""


def unsigned(a):
    return a.view(f"u{a.dtype.itemsize}") if a.dtype.kind == "i" else a


class Memory:
    """The buffers of a device. Addresses are those of the host."""

    def __init__(self):
        self.blocks: dict[int, np.ndarray] = {}

    def allocate(self, nbytes: int) -> int:
        block = np.full(nbytes + 256, 0xA5, np.uint8)       # nobody may count on zeros
        skip = -block.ctypes.data % 256
        block = block[skip:skip + nbytes]
        self.blocks[block.ctypes.data] = block
        return block.ctypes.data

    def free(self, address: int) -> None:
        del self.blocks[address]

    def at(self, address: int, nbytes: int) -> np.ndarray:
        """Some bytes, as an array on them."""
        for start, block in self.blocks.items():
            if start <= address and address + nbytes <= start + len(block):
                return block[address - start:address - start + nbytes]
        raise Fault(f"{nbytes} bytes at {address:#x} lie in no buffer")

    def gather(self, addresses: np.ndarray, kind) -> tuple[np.ndarray, np.ndarray]:
        """(the elements of the buffer, indices of the addresses in it); they must all lie in one."""
        size = np.dtype(kind).itemsize
        low, high = int(addresses.min()), int(addresses.max()) + size
        for start, block in self.blocks.items():
            if start <= low and high <= start + len(block):
                if np.any((addresses - start) % size):
                    raise Fault(f"an address is no multiple of {size}")
                whole = len(block) // size * size
                return block[:whole].view(kind), (addresses - start) // size
        raise Fault(f"addresses {low:#x} to {high:#x} lie in no buffer")


class Kernel:
    """One function of a module's text."""

    def __init__(self, text: str, name: str = "kernel"):
        match = re.search(rf"define ptx_kernel void @{re.escape(name)}\((.*?)\)[^{{]*{{\n(.*?)\n}}", text, re.S)
        self.parameters = [p.split() for p in match[1].split(", ")] if match[1] else []
        shared = re.search(r"@shared = .*?\[(\d+) x i64\]", text)
        self.shared_bytes = 8 * int(shared[1]) if shared else 0
        self.names: dict[str, int] = {}
        self.blocks: list[list] = []
        self.allocas: dict[str, str] = {}
        self._parse(match[2])

    def _parse(self, body: str) -> None:
        current: list = []
        for line in body.splitlines():
            line = line.strip()
            if line.endswith(":"):
                self.names[line[:-1]] = len(self.blocks)
                current = []
                self.blocks.append(current)
                continue
            line = re.sub(r", (!\S+ !\d+|!\S+)(?=,|$)", "", line)
            target, _, rest = line.partition(" = ") if line.startswith("%") else ("", "", line)
            op, _, rest = rest.partition(" ")
            if op == "alloca":
                self.allocas[target] = rest
                continue
            current.append((op, target, rest))
            if op == "call" and "barrier0" in rest:     # the block ends here
                current = []
                self.blocks.append(current)

    def run(self, memory: Memory, words: list[int], grid: tuple[int, int], block: tuple[int, int], order: str = "lockstep",
            shared: int = 0) -> None:
        with np.errstate(all="ignore"):
            Threads(self, memory, words, grid, block, shared).run(order)


class Threads:
    """The state of one launch."""

    def __init__(self, kernel: Kernel, memory: Memory, words, grid, block, shared: int = 0):
        self.kernel, self.memory = kernel, memory
        size = block[0] * block[1]
        assert 1 <= size <= 1024 and grid[0] < 2 ** 31 and grid[1] < 65536, "a launch that no GPU accepts"
        number = np.arange(grid[0] * grid[1] * size)
        self.count = len(number)
        self.group, within = number // size, number % size
        self.lane, self.warp = within % WARP, self.group * 64 + within // WARP
        self.start_of_warp = number - self.lane
        self.special = {"tid.x": within % block[0], "tid.y": within // block[0], "ntid.x": number * 0 + block[0],
                        "ntid.y": number * 0 + block[1], "ctaid.x": self.group % grid[0], "ctaid.y": self.group // grid[0],
                        "nctaid.x": number * 0 + grid[0], "nctaid.y": number * 0 + grid[1]}
        self.shared_bytes = kernel.shared_bytes + shared
        self.shared = np.full((grid[0] * grid[1], self.shared_bytes), 0x5A, np.uint8)
        self.values: dict[str, np.ndarray] = {}
        for (kind, name), word in zip(kernel.parameters, words):
            value = struct.unpack("d", struct.pack("q", word))[0] if kind == "double" else word
            self.values[name] = np.full(self.count, value, KINDS[kind])
        for name, kind in kernel.allocas.items():
            self.values[name] = np.zeros(self.count, KINDS[kind])
        self.at = np.zeros(self.count, np.int64)
        self.before = np.zeros(self.count, np.int64)
        self.waiting = np.zeros(self.count, bool)
        self.copies: list[tuple] = []           # on their way to shared memory: (type, threads, places, numbers, group)
        self.commits = np.zeros(self.count, np.int64)       # groups of copies

    def run(self, order: str) -> None:
        self.order = order
        while True:
            ready = (self.at >= 0) & ~self.waiting
            if ready.any():
                if order == "warps":
                    ready &= self.warp == self.warp[ready].max()
                block = self.at[ready].min()
                self._block(block, np.flatnonzero(ready & (self.at == block)))
            elif self.waiting.any():
                self._release()
            else:
                return

    def _release(self) -> None:
        for group in np.unique(self.group[self.waiting]):
            alive = (self.group == group) & (self.at >= 0)
            if not self.waiting[alive].all() or len(np.unique(self.at[alive])) > 1:
                raise Fault("threads of a block wait at different barriers")
            self.waiting[alive] = False

    def _block(self, number: int, active: np.ndarray) -> None:
        label = number
        for op, target, rest in self.kernel.blocks[number]:
            if op == "phi":
                self._set(target, active, self._phi(rest, active))
            elif op == "br":
                self._branch(rest, active, label)
                return
            elif op == "ret":
                self.at[active] = -1
                return
            elif op == "call" and "barrier0" in rest:
                self.at[active], self.waiting[active] = number + 1, True
                return
            elif op == "store" and rest.startswith("<"):
                self._store_vector(rest, active)
            elif op == "store":
                self._store(rest, active)
            else:
                result = self._result(op, rest, active)
                if target:
                    self._set(target, active, result)
        raise AssertionError("a block without an end")

    # -- values -----------------------------------------------------------------------------------------------------

    def _set(self, target: str, active, result) -> None:
        if isinstance(result, list):
            self.values[target] = result
            return
        known = self.values.get(target)
        if known is None:
            known = self.values[target] = np.zeros(self.count, np.asarray(result).dtype)
        known[active] = result

    def _get(self, text: str, kind: str, active):
        text = text.strip()
        if text.startswith("%"):
            found = self.values[text]
            return found if isinstance(found, list) else found[active]
        if text == "@shared":
            return np.zeros(len(active), np.int64)
        if text in ("true", "false"):
            value = text == "true"
        elif text.startswith("0x"):
            value = struct.unpack(">d", bytes.fromhex(text[2:]))[0]
        elif kind in ("float", "double"):
            value = float(text)
        else:
            bits = {"i1": 1, "ptr": 64}.get(kind) or int(kind[1:])
            value = int(text) & (2 ** bits - 1)
            value -= (value >> (bits - 1)) << bits if bits > 1 else 0
        return np.full(len(active), value, KINDS[kind])

    def _phi(self, rest: str, active):
        kind, _, arms = rest.partition(" ")
        result = np.zeros(len(active), KINDS[kind])
        for value, label in re.findall(r"\[(.*?), %(.*?)\]", arms):
            mine = self.before[active] == self._last(label)
            if mine.any():
                result[mine] = self._get(value, kind, active[mine])
        return result

    def _last(self, label: str) -> int:
        """The block in which what begins at a label ends: barriers divide it."""
        at = self.kernel.names[label]
        while self.kernel.blocks[at][-1][0] == "call":
            at += 1
        return at

    def _branch(self, rest: str, active, block: int) -> None:
        self.before[active] = block
        labels = [self.kernel.names[name] for name in re.findall(r"label %([\w.]+)", rest)]
        if len(labels) == 1:
            self.at[active] = labels[0]
        else:
            self.at[active] = np.where(self._get(re.match(r"i1 (\S+),", rest)[1], "i1", active), *labels)

    # -- memory -----------------------------------------------------------------------------------------------------

    def _place(self, text: str, kind: str, active):
        """(array, indices) of what a pointer operand such as "ptr %v3" refers to."""
        pointer = text.split()[-1]
        if pointer in self.kernel.allocas:
            return self.values[pointer], active
        offsets = self._get(pointer, "ptr", active)
        if "addrspace(3)" in text:
            return self._shared(offsets, kind, active)
        if len(offsets) and offsets[0] >= SHARED:      # a generic address
            return self._shared(offsets - SHARED, kind, active)
        return self.memory.gather(offsets, KINDS[kind])

    def _shared(self, offsets, kind: str, active):
        size = np.dtype(KINDS[kind]).itemsize
        if np.any((offsets < 0) | (offsets + size > self.shared_bytes) | (offsets % size != 0)):
            raise Fault("a place outside of shared memory")
        return self.shared.view(KINDS[kind]), (self.group[active], offsets // size)

    def _load(self, rest: str, active):
        vector = re.match(r"<(\d+) x (\w+)>, (ptr[^,]*)", rest)
        if vector:
            kind = vector[2]
            array, at = self._place(vector[3], kind, active)
            group = slice(None) if array.ndim == 1 else at[0]
            at = at if array.ndim == 1 else at[1]
            if np.any(at % int(vector[1])):
                raise Fault("a vector that is not aligned")
            out = []
            if array.ndim == 1:
                return [self._whole(array[at + i], active) for i in range(int(vector[1]))]
            for i in range(int(vector[1])):
                out.append(self._whole(array[group, at + i], active))
            return out
        kind, pointer = re.match(r"(\w+), (ptr[^,]*)", rest).groups()
        array, at = self._place(pointer, kind, active)
        return array[at].copy()

    def _whole(self, values, active) -> np.ndarray:
        """Values of some threads among those of all."""
        whole = np.zeros(self.count, values.dtype)
        whole[active] = values
        return whole

    def _store_vector(self, rest: str, active) -> None:
        size, kind, name, pointer = re.match(r"<(\d+) x (\w+)> (\S+), (ptr addrspace\(3\) \S+?),", rest).groups()
        array, (group, at) = self._place(pointer, kind, active)
        if np.any(at % int(size)):
            raise Fault("a vector that is not aligned")
        for i, values in enumerate(self.values[name]):
            array[group, at + i] = values[active]

    def _store(self, rest: str, active) -> None:
        kind, value, pointer = re.match(r"(?:atomic )?(\w+) (\S+), (ptr(?: addrspace\(3\))? \S+?)(?:,| monotonic|$)", rest).groups()
        array, at = self._place(pointer, kind, active)
        array[at] = self._get(value, kind, active)

    def _atomic(self, rest: str, active):
        how, address, kind, value = re.match(r"(\w+) ptr (\S+), (\w+) (\S+) monotonic", rest).groups()
        array, at = self._place(f"ptr {address}", kind, active)
        ufunc = {"add": np.add, "fadd": np.add, "min": np.minimum, "max": np.maximum, "umin": np.minimum, "umax": np.maximum}[how]
        value = self._get(value, kind, active)
        if how[0] == "u":
            array, value = unsigned(array), unsigned(value)
        ufunc.at(array, at, value)
        return value

    # -- instructions -----------------------------------------------------------------------------------------------

    def _sixteen_bytes(self, op: str, rest: str, active):
        """An instruction on i128, whose halves lie in the parts of a complex number."""
        names = [self._get(x, kind, active) for kind, x in [re.match(r"(i\d+) (%\S+?)(?:,| |$)", rest).groups()]]
        low = names[0].view(np.uint64).reshape(len(active), -1)
        words = np.zeros((len(active), 2), np.uint64)
        if op == "zext":
            words[:, 0] = low[:, 0]
        elif op == "trunc":
            return low[:, 0].copy().view(np.int64)
        elif op == "or":
            words |= low | self._get(rest.split(", ")[1], "i128", active).view(np.uint64).reshape(-1, 2)
        else:
            assert rest.endswith(", 64") and op in ("shl", "lshr")
            words[:, int(op == "shl")] = low[:, int(op == "lshr")]
        return words.reshape(-1).view(np.complex128)

    def _result(self, op: str, rest: str, active):
        if "i128" in rest and op in ("zext", "trunc", "or", "shl", "lshr"):
            return self._sixteen_bytes(op, rest, active)
        if op == "load":
            return self._load(rest, active)
        if op == "atomicrmw":
            return self._atomic(rest, active)
        if op == "call" and " asm " in rest:
            return self._assembly(rest, active)
        if op == "call":
            return self._call(rest, active)
        if op == "extractvalue":
            name, i = re.search(r"} (\S+), (\d+)", rest).groups()
            return self.values[name][int(i)][active]
        if op == "insertelement":
            size, vector, kind, value, i = re.match(r"<(\d+) x \w+> (\S+), (\w+) (\S+), i32 (\d+)", rest).groups()
            parts = list(self.values[vector]) if vector != "undef" else [np.zeros(self.count, KINDS[kind])] * int(size)
            parts[int(i)] = parts[int(i)].copy()
            parts[int(i)][active] = self._get(value, kind, active)
            return parts
        if op == "addrspacecast":
            return self._get(rest.split()[2], "ptr", active) + SHARED
        if op == "ptrtoint":
            return self._get(rest.split(" to ")[0].split()[-1], "ptr", active).astype(KINDS[rest.split()[-1]])
        if op == "getelementptr":
            kind, pointer, index = re.match(r"inbounds (\w+), (ptr.*?), i64 (\S+)", rest).groups()
            step = np.dtype(KINDS[kind]).itemsize
            return self._get(pointer.split()[-1], "ptr", active) + self._get(index, "i64", active) * step
        if op == "extractelement":
            vector, i = re.search(r"> (\S+), i32 (\d+)", rest).groups()
            return self.values[vector][int(i)][active]
        if op == "select":
            condition, kind, a, b = re.match(r"i1 (\S+), (\w+) (\S+), \w+ (\S+)", rest).groups()
            return np.where(self._get(condition, "i1", active), self._get(a, kind, active), self._get(b, kind, active))
        if op in ("icmp", "fcmp"):
            test, kind, a, b = re.match(r"(\w+) (\w+) (\S+), (\S+)", rest).groups()
            return self._compared(op, test, self._get(a, kind, active), self._get(b, kind, active))
        if " to " in rest:
            source, value, to = re.match(r"(\w+) (\S+) to (\w+)", rest).groups()
            return self._cast(op, self._get(value, source, active), source, to)
        if op in ("freeze", "fneg"):
            kind, value = rest.split()
            v = self._get(value, kind, active)
            return -v if op == "fneg" else v
        kind, a, b = re.match(r"(?:(?:nsw|nuw|nsz|reassoc|fast|contract) )*(\w+) (\S+), (\S+)", rest).groups()
        return self._arithmetic(op, self._get(a, kind, active), self._get(b, kind, active))

    @staticmethod
    def _compared(op: str, test: str, a, b):
        if op == "fcmp":
            if test == "uno":
                return np.isnan(a) | np.isnan(b)
            return TESTS[test[1:]](a, b) if test[0] == "o" else TESTS[test[1:]](a, b) | np.isnan(a) | np.isnan(b)
        if test[0] == "u" and a.dtype.kind == "i":
            a, b = unsigned(a), unsigned(b)
        return TESTS[test if test in ("eq", "ne") else test[1:]](a, b)

    @staticmethod
    def _arithmetic(op: str, a, b):
        if op in FLOAT:
            return FLOAT[op](a, b)
        if op in WHOLE:
            return WHOLE[op](a, b)
        if op in ("shl", "ashr", "lshr"):
            if op == "lshr":
                return (unsigned(a) >> unsigned(b)).view(a.dtype)
            return a << b if op == "shl" else a >> b
        if np.any(b == 0):
            raise Fault("an integer divided by 0")
        if op[0] == "u":
            u, v = unsigned(a), unsigned(b)
            return (u // v if op == "udiv" else u % v).view(a.dtype)
        remainder = np.fmod(a, b)
        return remainder if op == "srem" else ((a - remainder) // b).astype(a.dtype)

    @staticmethod
    def _cast(op: str, v, source: str, to: str):
        kind = np.dtype(KINDS[to])
        if op == "bitcast":
            return v.view(kind)
        if to == "bfloat":
            bits = v.view(np.uint32).astype(np.uint64)
            rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
            return np.where(np.isnan(v), np.uint16(0x7FFF), rounded).view(np.int16)
        if op == "zext":
            return (unsigned(v) if source != "i1" else v).astype(f"u{kind.itemsize}").view(kind)
        if op == "trunc" and to == "i1":
            return (v & 1).astype(bool)
        if op == "sext" and source == "i1":
            return -v.astype(kind)
        if op == "uitofp":
            return (unsigned(v) if source != "i1" else v).astype(kind)
        return v.astype(kind)

    def _call(self, rest: str, active):
        kind, name, text = re.match(r"(?:\w+ )*?(\w+) @([\w.]+)\((.*)\)", rest).groups()
        parts = [p.split() for p in text.split(", ")] if text else []
        if name.startswith(SPECIAL):
            return self.special[name[len(SPECIAL):]][active].astype(np.int32)
        args = [self._get(p[-1], p[0], active) for p in parts]
        if name == "llvm.nvvm.shfl.sync.bfly.i32":
            return self._shuffle(*args[:3], active)
        if name == "llvm.nvvm.vote.any.sync":
            self._present(args[0], active)
            warps = self.start_of_warp[active]
            return np.isin(warps, warps[args[1]])
        if name == "llvm.nvvm.bar.warp.sync":
            self._present(args[0], active)
            return None
        base = name.split(".")[1]
        a = args[0]
        if base in ("smin", "smax", "umin", "umax"):
            x, y = (unsigned(v) for v in args) if base[0] == "u" else args
            return (np.minimum if base.endswith("min") else np.maximum)(x, y).view(a.dtype)
        if base == "fma":
            return interp._fma(SimpleNamespace(dtype=dt.of(a.dtype)), *args)
        functions = {"minimum": np.minimum, "maximum": np.maximum, "fabs": np.abs, "abs": np.abs, "sqrt": np.sqrt,
                     "copysign": np.copysign, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "roundeven": np.rint}
        return functions[base](*(args[:2] if base in ("minimum", "maximum", "copysign") else args[:1]))

    # -- tensor cores: what PTX's manual says of ldmatrix and mma.m16n8k16 ---------------------------------------------

    def _assembly(self, rest: str, active) -> list[np.ndarray]:
        code, text = re.search(r'"([^"]*)", "[^"]*"\((.*)\)', rest).groups()
        if code == "mov.u32 $0, %tid.x;":
            return self.special["tid.x"][active].astype(np.int32)
        args = [self._get(p.split()[-1], p.split()[0], active) for p in text.split(", ") if p]
        if code.startswith("cp.async"):
            self._asynchronous(code, args, active)
            return []
        if code.startswith("cvt.rna.tf32"):     # to nearest, ties away from 0: ten bits after the point
            bits = args[0].view(np.uint32)
            return np.where(np.isfinite(args[0]), (bits + 0x1000) & 0xFFFFE000, bits).astype(np.uint32).view(np.int32)
        if len(active) % WARP or np.any(self.lane[active] != np.arange(len(active)) % WARP):
            raise Fault("an instruction of a whole warp without all of its lanes")
        args = [a.reshape(-1, WARP) for a in args]
        warp = self.group[active].reshape(-1, WARP)[:, 0]
        results = self._ldmatrix(code, args[0], warp) if code.startswith("ldmatrix") else self._mma(code, args)
        return [self._whole(r.reshape(-1), active) for r in results]

    def _asynchronous(self, code: str, args, active) -> None:
        """Copies come as late as they may; in the order "warps" as early, before other warps are done with what lay there."""
        if code.startswith("cp.async.commit_group"):
            self.commits[active] += 1
        elif code.startswith("cp.async.wait_group"):
            self._arrive(active, int(code.split()[-1][:-1]))
        else:
            kind = {"4": "i32", "8": "i64", "16": "i128"}[code.split(", ")[2]]
            array, at = self.memory.gather(args[1], KINDS[kind])
            numbers = np.where(args[2] > 0, array[at], 0)
            self.copies.append((kind, active, args[0].astype(np.int64), numbers, self.commits[active].copy()))
            if self.order == "warps":
                self.commits[active] += 1
                self._arrive(active, 0)
                self.commits[active] -= 1

    def _arrive(self, active, but: int) -> None:
        """What these threads have asked for is there, but for the last `but` groups."""
        left = []
        for kind, threads, to, numbers, group in self.copies:
            there = np.isin(threads, active) & (group < self.commits[threads] - but)
            if there.any():
                array, place = self._shared(to[there], kind, threads[there])
                array[place] = numbers[there]
            if not there.all():
                left.append((kind, threads[~there], to[~there], numbers[~there], group[~there]))
        self.copies = left

    def _ldmatrix(self, code: str, addresses, group) -> list[np.ndarray]:
        """Matrix j of 8 x 8 has the lines that lanes 8 j to 8 j + 7 name; lane l gets elements (l / 4, 2 (l % 4)) and the next."""
        if np.any(addresses % 16) or np.any(addresses < 0) or np.any(addresses + 16 > self.shared_bytes):
            raise Fault("a line that is not aligned, or outside of shared memory")
        memory = self.shared.view(np.uint16)
        found = []
        for j in range(4):
            first = addresses[:, 8 * j:8 * j + 8, None] // 2 + np.arange(8)
            matrix = memory[group[:, None, None], first].astype(np.uint32)
            if ".trans" in code:
                matrix = matrix.swapaxes(1, 2)
            pairs = matrix.reshape(-1, 32, 2)
            found.append((pairs[..., 0] | pairs[..., 1] << 16).view(np.int32))
        return found

    def _mma(self, code: str, args) -> list[np.ndarray]:
        def numbers(register):
            halves = np.stack([register.view(np.uint32) & 0xFFFF, register.view(np.uint32) >> 16], -1).astype(np.uint32)
            return (halves << 16).view(np.float32) if ".bf16" in code else halves.astype(np.uint16).view(np.float16).astype(np.float32)

        if ".tf32" in code:
            return self._mma_tf32(args)
        lane, pair = np.arange(WARP)[:, None], np.arange(2)
        row, column = lane // 4, 2 * (lane % 4) + pair
        warps = args[0].shape[0]
        a, b, c = (np.zeros((warps, *shape), np.float32) for shape in ((16, 16), (16, 8), (16, 8)))
        for i in range(4):
            a[:, row + 8 * (i % 2), column + 8 * (i // 2)] = numbers(args[i])
        for i in range(2):
            b[:, column + 8 * i, row] = numbers(args[4 + i])
        for i in range(4):
            c[:, row[:, 0] + 8 * (i // 2), column[:, i % 2]] = args[6 + i]
        c += a @ b
        return [c[:, row[:, 0] + 8 * (i // 2), column[:, i % 2]] for i in range(4)]

    @staticmethod
    def _mma_tf32(args) -> list[np.ndarray]:
        lane = np.arange(WARP)
        row, k, column = lane // 4, lane % 4, 2 * (lane % 4)
        warps = args[0].shape[0]
        a, b, c = (np.zeros((warps, *shape), np.float32) for shape in ((16, 8), (8, 8), (16, 8)))
        for i in range(4):
            a[:, row + 8 * (i % 2), k + 4 * (i // 2)] = (args[i].view(np.uint32) & 0xFFFFE000).view(np.float32)
        for i in range(2):
            b[:, k + 4 * i, row] = (args[4 + i].view(np.uint32) & 0xFFFFE000).view(np.float32)
        for i in range(4):
            c[:, row + 8 * (i // 2), column + i % 2] = args[6 + i]
        c += a @ b
        return [c[:, row + 8 * (i // 2), column + i % 2] for i in range(4)]

    def _present(self, members, active) -> None:
        """All lanes that a mask names must be here."""
        here = np.zeros(self.count, bool)
        here[active] = True
        for lane in range(WARP):
            other = self.start_of_warp[active] + lane
            named = (unsigned(members) >> np.uint32(lane)) & 1 == 1
            other = other[named & (other < self.count)]
            if not here[other].all():
                raise Fault("a lane of a warp is missing where the others wait for it")

    def _shuffle(self, members, values, step, active):
        self._present(members, active)
        whole = np.zeros(self.count, np.int32)
        whole[active] = values
        source = self.start_of_warp[active] + (self.lane[active] ^ step)
        inside = (source < self.count) & (((unsigned(members) >> (self.lane[active] ^ step).astype(np.uint32)) & 1) == 1)
        return np.where(inside, whole[np.where(inside, source, 0)], np.int32(0x7FC12345))
