"""Products of bfloat16 with the instructions that multiply them: what is computed, and the code where this processor lacks them."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import llvmlite.binding
import numpy as np
import pytest
from test_gemm import Product, names, values

import antorcha as torch
from antorcha.base import dtype as dt
from antorcha.graph import flush
from antorcha.loops import interp, ir
from antorcha.loops.ir import Contraction
from antorcha.runtime import compiler, cpu, jit, pool
from antorcha.targets import blocking, kernel, microkernel, multiply, slices
from antorcha.targets.formula import evaluate
from antorcha.targets.microkernel import FMA, LIES, PACKED, PAIRS, TILES
from benchmarks import kernels
from benchmarks.kernels import written_for

F = torch.nn.functional
NEEDED = {FMA: "sse2" if cpu.host().machine == "x86_64" else "neon", PAIRS: "avx512bf16", TILES: "amxbf16"}


def forget() -> None:
    flush.clear()
    kernel._kernels.clear()
    blocking.tile_count.cache_clear()


@pytest.fixture(params=[FMA, PAIRS, TILES])
def instruction(request, monkeypatch):
    """Products of bfloat16 use this instruction, if the processor has it."""
    if NEEDED[request.param] not in cpu.features() or request.param == TILES and not cpu.may_use_tiles():
        pytest.skip("needs a processor that has it")
    monkeypatch.setattr(microkernel, "instruction", lambda operand: request.param if operand is dt.bfloat16 else FMA)
    forget()
    yield request.param
    forget()


class Narrow(Product):
    """A product of float32 arrays that are read as bfloat16."""

    def operand(self, a: np.ndarray, dims: list[str], prologue=None) -> ir.Op:
        strides = np.argsort([-s for s in a.strides], kind="stable")
        order = np.argsort(strides)
        bits = np.ascontiguousarray(dt.encode(a.transpose(strides))).transpose(order)
        self.keep.append(bits)
        self.words.append(bits.__array_interface__["data"][0])
        slot = self.program.slot("in", dt.bfloat16)
        x = ir.load(slot, self.offset(bits, dims), dt.bfloat16)
        return (prologue(x.cast(dt.float32)).cast(dt.bfloat16) if prologue else x).cast(dt.float32)


def multiply_narrow(a: np.ndarray, b: np.ndarray, batch: int = 0, ms: int = 1, ns: int = 1, turned=False, prologue=None,
                    epilogue=lambda v: v) -> np.ndarray:
    """out[batch, m, n] of a[batch, m, k] and b[batch, n, k] by a kernel; the interpreter must give the same."""
    p = Narrow()
    bs, m, n, k = (p.dims(stem, e) for stem, e in (("b", a.shape[:batch]), ("m", a.shape[batch:batch + ms]),
                                                  ("n", b.shape[batch:batch + ns]), ("k", a.shape[batch + ms:])))
    x, y = p.operand(a, names(bs + m + k), prologue), p.operand(b, names(bs + n + k))
    out = np.full(a.shape[:batch + ms] + b.shape[batch:batch + ns], 77, "f4")
    out = np.asfortranarray(out) if turned else out
    store = ir.store(p.array("out", out), p.offset(out, names(bs + m + n)), epilogue(ir.value("acc", dt.float32)))
    p.run(Contraction(bs, m, n, k, x, y, (store,), dt.float32))
    found = out.copy()
    interp.run(p.program, p.words)
    np.testing.assert_array_equal(found, out)
    return found


def spoil_scratch() -> None:
    """Leaves NaN where operands are packed: what is packed next must overwrite all that is multiplied."""
    multiply_narrow(np.full((100, 1000), np.nan, "f4"), np.full((200, 1000), np.nan, "f4"))


SIZES = [(1, 1, 1), (2, 3, 5), (17, 33, 1), (14, 32, 9), (31, 29, 37), (64, 64, 64), (33, 65, 2), (97, 131, 260), (5, 700, 31),
         (260, 40, 1100), (40, 33, 0), (300, 20, 128)]


@pytest.mark.parametrize("m, n, k", SIZES)
def test_matrices(m, n, k, instruction):
    """Operands along k and along their rows, parts of longer rows that are full of NaN."""
    rng = np.random.default_rng(m)
    spoil_scratch()
    for ta, tb, tc in np.ndindex(2, 2, 2):
        a, b = (values(rng, (k, rows) if t else (rows, k), "f4") for rows, t in ((m, ta), (n, tb)))
        wide = [np.concatenate([x, np.full((x.shape[0], 3), np.nan, "f4")], 1) for x in (a, b)]
        a, b = ((w[:, :-3].T if t else w[:, :-3]) for w, t in zip(wide, (ta, tb)))
        np.testing.assert_array_equal(multiply_narrow(a, b, turned=tc), a @ b.T)


def test_heads_groups_of_indices_prologues_and_epilogues(instruction):
    rng = np.random.default_rng(0)
    spoil_scratch()
    a, b = values(rng, (2, 37, 3, 19), "f4").transpose(0, 2, 1, 3), values(rng, (2, 53, 3, 19), "f4").transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(multiply_narrow(a, b, batch=2), np.einsum("bhmk,bhnk->bhmn", a, b))
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)):
        a, b = (values(rng, [shape[i] for i in order], "f4").transpose(np.argsort(order)) for shape in ((5, 7, 3, 11), (9, 4, 3, 11)))
        got = multiply_narrow(a, b, ms=2, ns=2, prologue=lambda x: ir.maximum(x, 0) * 2.0,
                              epilogue=lambda v: ir.select(v < 9.0, v, v * 0.5))
        want = np.einsum("xykl,wzkl->xywz", 2 * np.maximum(a, 0), b)
        np.testing.assert_array_equal(got, np.where(want < 9, want, want * 0.5))


def test_values_are_as_near_as_their_rounding(instruction):
    """Linear layers with a bias and an activation, their gradients, batches and a convolution, beside float64."""
    torch.manual_seed(0)
    rng = np.random.default_rng(3)

    def both(*shape):
        x = torch.from_numpy(rng.standard_normal(shape).astype("f4")).bfloat16()
        return x.requires_grad_(), x.detach().double().requires_grad_()

    (x, x64), (w, w64), (b, b64) = both(3, 43, 131), both(67, 131), both(67)
    (image, image64), (filters, filters64) = both(2, 3, 13, 17), both(5, 3, 3, 3)

    def results(x, w, b, image, filters):
        y = F.gelu(F.linear(x, w, b))
        y.sum().backward()
        return [y, x.grad, w.grad, b.grad, x @ x.transpose(1, 2), F.conv2d(image, filters)]

    for got, want in zip(results(x, w, b, image, filters), results(x64, w64, b64, image64, filters64)):
        assert got.dtype is torch.bfloat16
        want = want.detach().numpy()
        np.testing.assert_allclose(got.detach().double().numpy(), want, rtol=2 ** -6, atol=2 ** -7 * np.abs(want).max())


def test_number_of_threads_and_eager_execution_change_no_bit(instruction, monkeypatch):
    rng = np.random.default_rng(4)
    before = pool.get_num_threads()
    for m, n, k in ((500, 900, 700), (600, 100, 1500)):
        a, b = (torch.from_numpy(rng.standard_normal(shape).astype("f4")).bfloat16() for shape in ((m, k), (n, k)))
        found = []
        try:
            for threads, eager in ((1, False), (2, False), (2, True)):
                torch.set_num_threads(threads)
                monkeypatch.setattr(torch.base.config, "eager", eager)
                found.append((a @ b.t()).view(torch.int16).numpy().tobytes())
        finally:
            torch.set_num_threads(before)
        assert len(set(found)) == 1


def test_denormals_infinities_and_nan(instruction):
    a = torch.full((40, 40), 1e-39).bfloat16()
    assert (a @ torch.ones(40, 40).bfloat16()).count_nonzero().item() == 0       # as in products of float32
    b = torch.ones(40, 40).bfloat16()
    b[3, 5], b[7, 9] = torch.inf, torch.nan
    c = (b @ torch.ones(40, 33).bfloat16()).float()
    assert c[3].isinf().all() and c[7].isnan().all() and (c[:3] == 40).all()


def test_results_are_rounded_to_even(instruction):
    """Sums half way between two numbers of 16 bits, and such that are nearer to what has no such number."""
    a = torch.ones(40, 40).bfloat16()
    a[:, 1] = torch.arange(40) * 2.0 ** -8
    a[:, 2:] = 0
    a[30:, :2] = torch.tensor([3.3895e38, 8e35])
    expected = (a[:, 0].float() + a[:, 1].float()).bfloat16()
    assert expected[30:].isinf().all() and expected[3].item() == 1.015625
    assert torch.equal(a @ torch.ones(40, 50).bfloat16(), expected[:, None].expand(40, 50))


@pytest.mark.skipif(cpu.host().machine != "x86_64", reason="other levels of x86-64")
def test_results_are_rounded_by_one_instruction(monkeypatch):
    a = torch.ones(64, 64).bfloat16()
    monkeypatch.setitem(kernels.PROGRAMS, "rounded", lambda: (a @ a.t() + 1).tolist())
    for processor in ("avx512bf16", "amx"):
        text = "".join(text for path, text in kernels.texts(processor, ["rounded"]) if path.endswith(".s"))
        assert re.search(r"vcvtneps2bf16\s.*(zmm|, %ymm)", text)


THREADS_BEFORE = """
import antorcha as torch
from antorcha.runtime import cpu
torch.set_num_threads(2)
x = torch.arange(600 * 700).reshape(600, 700).remainder(7)
expected = (x.double() @ x.double().t()).bfloat16()    # the pool's threads are there
assert cpu.may_use_tiles.cache_info().currsize == 0
y = x.bfloat16()
assert torch.equal(y @ y.t(), expected)
print(cpu.has_tiles())
"""


@pytest.mark.skipif(NEEDED[TILES] not in cpu.features() or not cpu.may_use_tiles(), reason="needs AMX")
def test_threads_that_are_there_may_use_tiles_once_they_are_asked_for():
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", THREADS_BEFORE], capture_output=True, text=True, timeout=300, cwd=root)
    assert done.stdout == "True\n", done.stderr[-3000:]


@pytest.mark.parametrize("processor, expected", [("avx2", FMA), ("avx512", FMA), ("avx512bf16", PAIRS), ("amx", TILES), ("neon", FMA)])
def test_the_instruction_follows_from_the_processor(processor, expected):
    with written_for(processor):
        assert microkernel.shape(dt.float32, dt.bfloat16).instruction == expected
        assert microkernel.shape(dt.float32).instruction == microkernel.shape(dt.float32, dt.float16).instruction == FMA


def test_tile_registers_are_left_alone_where_they_may_not_be_used(monkeypatch):
    monkeypatch.setattr(cpu, "host", lambda: cpu.NAMED["amx"])
    monkeypatch.setattr(cpu, "processor", lambda: cpu.NAMED["amx"])
    monkeypatch.setattr(cpu, "may_use_tiles", lambda: False)
    assert microkernel.instruction(dt.bfloat16) == FMA
    with pytest.raises(RuntimeError, match="expected a processor with AMX, on a Linux that lets this process use it"):
        cpu.use_tiles()


def test_16_bit_numbers_are_asked_for_further_ahead():
    """As in products by a vector, which wait for memory."""
    for dtype, ahead in ((torch.bfloat16, 2 * compiler.FAR), (torch.float32, compiler.FAR)):
        w, x = torch.ones(300, 512, dtype=dtype), torch.ones(512, dtype=dtype)
        w.data_ptr(), x.data_ptr()
        assert (w @ x).tolist() == [512.0] * 300
        (found,) = flush.last().kernels()
        text = jit.optimised(found["kernel"].ir())
        assert set(re.findall(r"%fetched\.\d+ = getelementptr i8, ptr .*, i64 (\d+)", text)) == {str(ahead)}


def code(processor: str, *variants: tuple, sliced: bool = False) -> str:
    """Native code of micro-kernels for another processor."""
    with written_for(processor):
        s = microkernel.shape(dt.float32, dt.float32 if sliced else dt.bfloat16, sliced)
        parts = [*multiply.micro_kernels(s, list(variants)), *multiply.declarations(s), *([slices.unsliced(s)] if sliced else [])]
        return jit.assembly("\n".join(parts).replace("internal ", ""))


@pytest.mark.skipif(cpu.host().machine != "x86_64", reason="other levels of x86-64")
@pytest.mark.skipif(llvmlite.binding.llvm_version_info[0] < 22, reason="LLVM 20 keeps some on the stack")
def test_code_with_pairs_keeps_its_sums_in_registers():
    text = code("avx512bf16", (14, 2, True, PACKED))
    inner = text[text.index("vdpbf16ps"):text.rindex("vdpbf16ps")]
    assert len(re.findall("vdpbf16ps.*zmm", text)) == 14 * 2 * 5      # four steps at a time, and one
    assert not re.search(r"zmm\d+, .*\(%rsp\)", inner) and "vfmadd" not in text


@pytest.mark.skipif(cpu.host().machine != "x86_64", reason="other levels of x86-64")
def test_code_with_tile_registers_loads_each_operand_once():
    text = code("amx", (32, 2, True, LIES))
    products, loads = len(re.findall("tdpbf16ps", text)), len(re.findall("tileloadd", text))
    assert products and products % 4 == 0 and loads == products + 4       # four for the sums of blocks of k before
    assert text.count("tilezero") == text.count("tilestored") == 4
    assert len(set(re.findall(r"tdpbf16ps.*(%tmm\d)$", text, re.M))) == 4


@pytest.mark.skipif(cpu.host().machine != "x86_64", reason="other levels of x86-64")
def test_instructions_of_tile_registers_are_kept_apart():
    text = code("amx", (32, 2, True, LIES))
    lines = [line.split("\t")[1] for line in text.splitlines() if line.startswith("\t") and not line.startswith(("\t.", "\t#"))]
    moving = [i for i, name in enumerate(lines) if name.startswith(("tileload", "tdp", "tilestore"))]
    assert len(moving) == 4 + 2 * 8 + 4
    assert min(b - a - 1 for a, b in zip(moving, moving[1:])) >= microkernel.APART
    assert len(re.findall(r"tileloaddt1\s.*%tmm[67]$", text, re.M)) == 4      # of B: A stays in the first level cache


@pytest.mark.skipif(cpu.host().machine != "x86_64", reason="other levels of x86-64")
def test_code_for_slices_keeps_one_operand_of_each_pair():
    """Six products of slices for each of four tiles; after the first two operands, one is loaded for each of them."""
    text = code("amx", (32, 2, True, PACKED), sliced=True)
    assert text.count("tdpbf16ps") == 2 * 6 * 4     # with what is fetched, and after that
    assert text.count("tileload") == 2 * 7 * 2 + 4      # and the sums of the block of k before
    assert text.count("tilestored") == 4


@pytest.mark.parametrize("size, sliced", [((128, 128, 256), True), ((127, 4096, 4096), False), ((4096, 4096, 63), False)])
def test_large_products_are_sliced(size, sliced):
    product = Contraction((), (("m", ir.arg(0)),), (("n", ir.arg(1)),), (("k", ir.arg(2)),), ir.const(1, dt.float32),
                          ir.const(1, dt.float32), (), dt.float32)
    with written_for("amx"):
        assert blocking.fitted(product, *size).sliced == sliced
        assert not blocking.fitted(replace(product, within=(("k", "m"),)), *size).sliced
        assert not blocking.fitted(replace(product, a=product.a.cast(dt.float64), dtype=dt.float64), *size).sliced
        narrow = replace(product, a=ir.const(1, dt.bfloat16).cast(dt.float32), b=ir.const(1, dt.bfloat16).cast(dt.float32))
        assert not blocking.fitted(narrow, *size).sliced
    with written_for("avx512"):
        assert not blocking.fitted(product, *size).sliced


def test_a_gradient_of_a_narrow_weight_packs_its_long_operand_once():
    """1024 x 256 over 4096 places, with tile registers: strips of rows alone are tiles enough."""
    with written_for("amx"):
        c = Contraction((), (("m", ir.arg(0)),), (("n", ir.arg(1)),), (("k", ir.arg(2)),), ir.const(1, dt.bfloat16),
                        ir.const(1, dt.bfloat16), (), dt.float32)
        b = blocking.blocking(c)
        assert [evaluate(count, [1024, 256, 4096]) for count in (b.strips, b.blocks)] == [8, 1]
