"""LLVM, through llvmlite: from the text of a module to object code.

Also a program, which compiles what it reads until its input ends, or nothing has come for a while: `python compiler.py MODEL FEATURES
EMBEDDED`. llvmlite lets one thread of a process into LLVM at a time, so `jit` starts several of these where there is much to compile. It
needs nothing of the package.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import struct
import sys
import threading

OPTIMISATION = 3  # of the passes on IR and of code generation
PATIENCE = 20.0   # seconds that the program waits for the next module
LENGTH = struct.Struct("<q")
# Bytes ahead of a load that are asked for, what is needed after the latency of memory: into the first level cache by loops that write, and
# into the second, which has more requests to memory under way, by those that only read, and further by long ones. Of 16-bit numbers the
# processor foresees fewer bytes by itself: twice as far, but not beyond the last.
NEAR, FAR, FURTHEST = 2048, 4096, 8192
LONG = 20         # lines of a loop's text for each load of a long one: an exponential, say
FETCHES = '"fetches"'       # attribute of a function whose loops ask for memory ahead
AS_WRITTEN = "; as written\n"     # begins a module whose loops and vectors are as they are to be: LLVM's passes would only take time
PLAIN = "; plain\n"        # begins a module whose code takes no time to speak of, as long as it is compiled in little
STRAIGHT = "; straight\n"      # begins a module whose loops hold no conditions: without moving these out, passes take a third less
# What has other bits where it is not optimised: sums that may be reordered, and what `shortened` makes of two zeros of different signs.
OTHERWISE = "reassoc", "@llvm.maximum.f32", "@llvm.minimum.f32"


_options_set: list = []


def _set_options(llvm) -> None:
    """Vector code for steps of a few elements in loops whose rest is masked: one load of a whole vector for several of them, not a gather.
    LLVM takes options once in a process."""
    if not _options_set:
        _options_set.append(True)
        llvm.set_option("antorcha", "-enable-masked-interleaved-mem-accesses")


_BLOCKS = re.compile(r"^(?=[-\w.$]+:)", re.M)
_PREFETCH = "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"
_VECTOR = re.compile(r"^  %\S+ = load <\d+ x \w+>, ptr (%[-\w.$]+), align \d+", re.M)


def fetching(text: str) -> str:
    """A module whose vector loops ask for memory ahead of each of their loads.

    A processor looks some hundred instructions ahead, where a vector takes many of them no further than its caches reply; what it
    foresees beyond stops at the end of a page. LLVM's vectoriser refuses loops that ask for memory, so that is done behind it, in its text.
    """
    numbers = itertools.count(1)
    text = "".join([_asking(block, numbers) if block.startswith("vector.body") else block for block in _BLOCKS.split(text)])
    return text if "declare void @llvm.prefetch.p0(" in text else f"{text}\n{_PREFETCH}"


def _asking(block: str, numbers) -> str:
    """The body of a vector loop with its requests, which are numbered."""
    writes, is_long = "\n  store <" in block, block.count("\n") > LONG * max(1, len(_VECTOR.findall(block)))
    distance = (FURTHEST if is_long else NEAR) if writes else FAR
    locality = 3 if distance == NEAR else 2

    def request(load: re.Match) -> str:
        place, ahead = f"%fetched.{next(numbers)}", min(2 * distance, FURTHEST) if load[0].endswith(", align 2") else distance
        return (f"  {place} = getelementptr i8, ptr {load[1]}, i64 {ahead}\n"
                f"  call void @llvm.prefetch.p0(ptr {place}, i32 0, i32 {locality}, i32 1)\n{load[0]}")

    return _VECTOR.sub(request, block)


REGISTER = 64                # bytes of the longest vectors
STREAMED = '"streams"'       # attribute of a function with stores that are to go past the caches
_STORE = re.compile(r"^  store <(\d+) x (\w+)> (.+), ptr (%[-\w.$]+), align (\d+).*$", re.M)
_BYTES = {"i16": 2, "half": 2, "bfloat": 2, "i32": 4, "float": 4, "i64": 8, "double": 8}


def streamed(itemsize: int) -> int:
    """The alignment that tells a store to stream: half of what it has, which is as true, and which nothing else says."""
    return itemsize // 2


def streaming(text: str) -> str:
    """A module whose stores of the longest vectors go past the caches, where they are `streamed` and begin at a multiple of their length
    (of a register's length, where they take several: interleaved vectors).

    LLVM's vectoriser refuses stores that say so and are not known to begin there: that is done behind it."""
    kinds = set()
    lengths = [int(count) * _BYTES.get(kind, 0) for count, kind, *_ in _STORE.findall(text)]
    vector = max(lengths, default=0)
    register = min(vector & -vector, REGISTER)

    def store(found: re.Match) -> str:
        count, kind, value, place, alignment = found.groups()
        itemsize = _BYTES.get(kind, 0)
        if int(alignment) * 2 != itemsize or int(count) * itemsize != vector or kind == "half" and vector > REGISTER:
            return found[0]
        kinds.add((count, kind))
        return f"  call void @stream.{count}.{kind}(<{count} x {kind}> {value}, ptr {place})"

    text = _STORE.sub(store, text)
    for count, kind in sorted(kinds):
        v, words = f"<{count} x {kind}>", f"<{vector // 4} x i32>"
        # The empty instruction keeps the conversion of a `half` from storing by itself, which goes through the caches.
        text += f"""
define internal void @stream.{count}.{kind}({v} %value, ptr %place) alwaysinline nounwind {{
  %address = ptrtoint ptr %place to i64
  %rest = and i64 %address, {register - 1}
  %whole = icmp eq i64 %rest, 0
  br i1 %whole, label %past, label %usual
past:
  %words = bitcast {v} %value to {words}
  %held = {f'call {words} asm "", "=v,0"({words} %words)' if kind == "half" else f"bitcast {words} %words to {words}"}
  store {words} %held, ptr %place, align {register}, !nontemporal !{{i32 1}}
  ret void
usual:
  store {v} %value, ptr %place, align 1
  ret void
}}
"""
    return text


_WHOLE = re.compile(r"^  (%\S+) = (?:fptosi|freeze) <16 x (?:float|i32)> (%[-\w.$]+)")
_LDEXP = re.compile(r"^  (%\S+) = .*<16 x float> @llvm\.ldexp\.v16f32\.v16i32\(<16 x float> (.+), <16 x i32> (%[-\w.$]+)\)")
_EXTREME = re.compile(r"^  (%\S+) = .*<16 x float> @llvm\.(max|min)imum\.v16f32\(<16 x float> (%[-\w.$]+), <16 x float> (%[-\w.$]+)\)")
_SCALE = "declare <16 x float> @llvm.x86.avx512.mask.scalef.ps.512(<16 x float>, <16 x float>, <16 x float>, i16, i32)"
_SHORTENED = "@llvm.ldexp.f32", "@llvm.maximum.f32", "@llvm.minimum.f32"


def shortened(text: str) -> str:
    """A module with fewer instructions for what AVX-512 does in one and LLVM in several: scaling by 2**n where n is a float (LLVM would
    make an integer of it, and a float again), and a maximum or minimum that keeps NaN (one comparison, by which the other is masked).

    The vectoriser knows neither, so that is done behind it, in its text."""
    lines, whole, count = [], {}, 0
    for line in text.split("\n"):
        if found := _WHOLE.match(line):
            whole[found[1]] = whole.get(found[2], found[2])
        if (found := _LDEXP.match(line)) and found[3] in whole:
            line = (f"  {found[1]} = call <16 x float> @llvm.x86.avx512.mask.scalef.ps.512(<16 x float> {found[2]}, "
                    f"<16 x float> {whole[found[3]]}, <16 x float> zeroinitializer, i16 -1, i32 4)")
        elif found := _EXTREME.match(line):
            count += 1
            result, kind, a, b = found.groups()
            lines += [f"  %beyond.{count} = fcmp o{'gt' if kind == 'max' else 'lt'} <16 x float> {b}, {a}",
                      f"  %number.{count} = fcmp ord <16 x float> {b}, {b}",
                      f"  %extreme.{count} = select <16 x i1> %beyond.{count}, <16 x float> {b}, <16 x float> {a}"]
            line = f"  {result} = select <16 x i1> %number.{count}, <16 x float> %extreme.{count}, <16 x float> {b}"
        lines.append(line)
    return "\n".join([*lines, _SCALE] if whole else lines)


class Compiler:
    """For processors of a `model` (in LLVM's words; "" for the one at hand) with further `features`. `embedded`: object code for LLVM's
    own loader, not for an ELF loader. `triple`: another system than this one."""

    def __init__(self, model: str, features: str, embedded: bool, triple: str = ""):
        import llvmlite.binding as llvm

        if triple:
            llvm.initialize_all_targets()
            llvm.initialize_all_asmprinters()
        else:
            llvm.initialize_native_target()
            llvm.initialize_native_asmprinter()
            llvm.initialize_native_asmparser()
        _set_options(llvm)
        self.llvm = llvm
        if not model:
            model, features = llvm.get_host_cpu_name(), f"{llvm.get_host_cpu_features().flatten()},{features}".rstrip(",")
        options = dict(reloc="default", codemodel="jitdefault", jit=True) if embedded else dict(reloc="pic", codemodel="small")
        target = llvm.Target.from_triple(triple) if triple else llvm.Target.from_default_triple()
        self.machine, self.drafting = (target.create_target_machine(cpu=model, features=features, opt=level, **options)
                                       for level in (OPTIMISATION, 0))

    @contextlib.contextmanager
    def optimised(self, ir: str):
        """The module after LLVM's passes, disposed of as the block ends: in `__del__`, which takes a while too, a Ctrl-C would be lost."""
        as_written, level = ir.startswith(AS_WRITTEN), 1 if ir.startswith(STRAIGHT) else OPTIMISATION
        with self._parsed(ir) as module:
            options = self.llvm.create_pipeline_tuning_options(speed_level=level)
            options.loop_vectorization = options.slp_vectorization = True
            builder = self.llvm.create_pass_builder(self.machine, options)
            if as_written:
                passes = self.llvm.create_new_module_pass_manager()
                passes.add_loop_rotate_pass()       # code generation finds better addresses in loops that are tested at their end
            else:
                passes = builder.getModulePassManager()
            passes.run(module, builder)
            rewrites = [f for f, names in ((shortened, _SHORTENED), (fetching, (FETCHES,)), (streaming, (STREAMED,)))
                        if any(name in ir for name in names)]
            if not rewrites:
                yield module
                return
            text = functools.reduce(lambda text, rewrite: rewrite(text), rewrites, str(module))
        with self._parsed(text) as module:
            if streaming in rewrites:
                passes = self.llvm.create_new_module_pass_manager()
                passes.add_always_inliner_pass()
                passes.run(module, builder)
            yield module

    @contextlib.contextmanager
    def _parsed(self, ir: str):
        if "target triple" not in ir:
            ir = f'target triple = "{self.machine.triple}"\ntarget datalayout = "{self.machine.target_data}"\n{ir}'
        with self.llvm.create_context() as context, self.llvm.parse_assembly(ir, context) as module:
            module.verify()
            yield module

    def object_code(self, ir: str) -> bytes:
        if ir.startswith(PLAIN):
            return self.draft(ir)
        with self.optimised(ir) as module:
            return self.machine.emit_object(module)

    def draft(self, ir: str) -> bytes:
        """Object code that took as little time as possible to make."""
        with self._parsed(ir) as module:
            return self.drafting.emit_object(module)

    def assembly(self, ir: str) -> str:
        with self.optimised(ir) as module:
            return self.machine.emit_assembly(module)


def write_block(file, content: bytes) -> None:
    file.write(LENGTH.pack(len(content)) + content)
    file.flush()


def read_block(file) -> bytes:
    """The next block; EOFError where there is none."""
    head = file.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    return file.read(LENGTH.unpack(head)[0])


def serve(model: str, features: str, embedded: bool) -> None:
    """Answer each module on standard input with its object code. A module that cannot be compiled ends the program."""
    compiler = Compiler(model, features, embedded)
    while True:
        leave = threading.Timer(PATIENCE, os._exit, (0,))
        leave.daemon = True
        leave.start()
        try:
            ir = read_block(sys.stdin.buffer)
        except EOFError:
            return
        leave.cancel()
        write_block(sys.stdout.buffer, compiler.object_code(ir.decode()))


if __name__ == "__main__":
    del sys.path[0]     # this folder: its modules are no libraries
    serve(sys.argv[1], sys.argv[2], sys.argv[3] == "1")
