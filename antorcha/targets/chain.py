"""The native runner of chains (loops/chain.py): calls kernels block by block, with arguments that change from block to block.

A chain's arguments hold all of its kernels':

    [0] blocks   [1] blocks of a chunk (a parallel iteration)   [2] how many regions to clear at the beginning of a chunk
    [3] [4] where the calls of a block begin, and how many    [5] [6] those of the last block, which may be shorter
    [7] bytes of scratch memory before that of the kernels
    regions: address, bytes from chunk to chunk, bytes
    calls: function, tiles, words, patches; the words; the patches: (word, whether it is relative to the scratch memory, divisor,
           modulus, bytes, bytes from chunk to chunk). The word of block b of chunk c grows by
           (b // divisor) % modulus * bytes + c * (bytes from chunk to chunk)
"""

from __future__ import annotations

import functools

from ..runtime import jit
from ..runtime.compiler import AS_WRITTEN
from .microkernel import Function

HEADER = 8
PATCH = 6


@functools.cache
def runner() -> int:
    """Address of the runner; one serves all chains."""
    text = module()
    return jit.load(text, lambda: text)


def module() -> str:
    f = Function("define void @kernel(ptr %args, i64 %begin, i64 %end, ptr %scratch) #0")

    def word(at: str) -> str:
        return f.let(f"load i64, ptr {f.pointer('%args', 'i64', at)}")

    def plus(a: str, b) -> str:
        return f.let(f"add i64 {a}, {b}")

    blocks, per_chunk, clears, first, first_count, second, second_count, inner = (word(str(i)) for i in range(HEADER))
    base = f.let("ptrtoint ptr %scratch to i64")
    kernels = f.pointer("%scratch", "i8", inner)
    final = f.let(f"sub i64 {blocks}, 1")
    with f.loop("%begin", "%end") as chunk:
        with f.loop("0", clears) as region:
            at = plus(f.let(f"mul i64 {region.index}, 3"), HEADER)
            address = plus(word(at), f.let(f"mul i64 {word(plus(at, 1))}, {chunk.index}"))
            where = f.let(f"inttoptr i64 {address} to ptr")
            f.line(f"call void @llvm.memset.p0.i64(ptr {where}, i8 0, i64 {word(plus(at, 2))}, i1 false)")
        start = f.let(f"mul i64 {chunk.index}, {per_chunk}")
        with f.loop(start, f.least(blocks, plus(start, per_chunk))) as block:
            last = f.let(f"icmp eq i64 {block.index}, {final}")
            calls = f.let(f"select i1 {last}, i64 {second}, i64 {first}")
            count = f.let(f"select i1 {last}, i64 {second_count}, i64 {first_count}")
            with f.loop("0", count, carry=[calls]) as call:
                record = call.carried[0]
                function, tiles, words, patches = (word(plus(record, i)) for i in range(4))
                own = plus(record, 4)
                with f.loop("0", words) as w:
                    f.line(f"store i64 {word(plus(own, w.index))}, ptr {f.pointer('%scratch', 'i64', w.index)}")
                after = plus(own, words)
                with f.loop("0", patches) as p:
                    at = plus(after, f.let(f"mul i64 {p.index}, {PATCH}"))
                    which, relative, divisor, modulus, step, chunked = (word(plus(at, i)) for i in range(PATCH))
                    digit = f.let(f"urem i64 {f.let(f'udiv i64 {block.index}, {divisor}')}, {modulus}")
                    moved = plus(f.let(f"mul i64 {digit}, {step}"), f.let(f"mul i64 {chunk.index}, {chunked}"))
                    moved = plus(moved, f.let(f"mul i64 {base}, {relative}"))
                    place = f.pointer("%scratch", "i64", which)
                    f.line(f"store i64 {plus(f.let(f'load i64, ptr {place}'), moved)}, ptr {place}")
                f.line(f"store i64 0, ptr {kernels}")      # no note of another call (runtime/pool_ir.py)
                code = f.let(f"inttoptr i64 {function} to ptr")
                f.line(f"call void {code}(ptr %scratch, i64 0, i64 {tiles}, ptr {kernels})")
                call.next = [plus(after, f.let(f"mul i64 {patches}, {PATCH}"))]
    return AS_WRITTEN + "\n".join([f.text(), "declare i64 @llvm.smin.i64(i64, i64)", "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)",
                      "attributes #0 = { nounwind }", ""])


class ChainKernel:
    """What a plan needs to know of a chain: it is called like any kernel."""

    draft = False

    def __init__(self, program, chunks: int, scratch: int):
        self.program, self.address, self.chunks, self.bytes = program, runner(), chunks, scratch

    def launch(self, words) -> tuple[int, int, int]:
        """As of any kernel; its parallel iterations are chunks of blocks."""
        return self.chunks, 1, self.bytes

    def ir(self) -> str:
        return "\n".join(c.kernel.ir() for c in self.program.call.calls())

    def assembly(self) -> str:
        return "\n".join(c.kernel.assembly() for c in self.program.call.calls())
