"""Loop programs: printing, verifying, and the LLVM target against the interpreter."""

from __future__ import annotations

import ctypes
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerance import agree

from antorcha.base import dtype as dt
from antorcha.loops import interp, ir
from antorcha.loops import math as lm
from antorcha.runtime import cpu, jit
from antorcha.targets import llvm
from antorcha.targets.kernel import build

FLOATS, INTEGERS = [dt.float32, dt.float64], [dt.uint8, dt.int8, dt.int16, dt.int32, dt.int64]
EVERY = [dt.bool_, *INTEGERS, *FLOATS]
INT = dt.int64
BRIEF = settings(max_examples=40)


class Writer:
    """A program being written, with its arguments."""

    def __init__(self):
        self.program, self.arguments = ir.Program(), []

    def array(self, role: str, a: np.ndarray) -> int:
        self.arguments.append(a)
        return self.program.slot(role, dt.of(a.dtype))

    def number(self, n, d: dt.dtype = INT, role: str = "scalar") -> ir.Op:
        self.arguments.append(n)
        return ir.arg(self.program.slot(role, d), d)

    def finish(self, *body) -> Writer:
        self.program.body = list(body)
        ir.verify(self.program)
        return self

    def words(self) -> tuple[list[int], list]:
        """Arguments as words, over copies of the arrays."""
        words, arrays = [], []
        for a, slot in zip(self.arguments, self.program.slots):
            if isinstance(a, np.ndarray):
                arrays.append(a.copy())
                words.append(arrays[-1].ctypes.data)
            elif slot.dtype.kind == "f":
                words.append(struct.unpack("q", struct.pack("d", a))[0])
            else:
                words.append(int(a))
        return words, arrays

    def interpreted(self) -> list[np.ndarray]:
        words, arrays = self.words()
        interp.run(self.program, words)
        return arrays

    def compiled(self, address: int | None = None) -> list[np.ndarray]:
        words, arrays = self.words()
        kernel = build(self.program)
        scratch = np.empty(kernel.scratch(words) + 128, np.uint8)
        aligned = -(-scratch.ctypes.data // 64) * 64
        run(address or kernel.address, words, kernel.tiles(words), aligned)
        return arrays

    def check(self, exact: bool = True) -> list[np.ndarray]:
        """Both ways; returns the arrays."""
        compiled, interpreted = self.compiled(), self.interpreted()
        for a, b in zip(compiled, interpreted):
            np.testing.assert_array_equal(a, b) if exact else agree(a, b)
        return compiled


def run(address: int, words: list[int], tiles: int, scratch: int) -> None:
    """In two parts, the second one first: parallel iterations are independent."""
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(address)
    block = np.array(words, np.int64)
    for begin, end in ((tiles // 2, tiles), (0, tiles // 2)):
        call(block.ctypes.data, begin, end, scratch)


def elementwise(function, *inputs: np.ndarray, out: dt.dtype) -> Writer:
    """out[i] = function(inputs[i] ...), in blocks."""
    w = Writer()
    slots = [(w.array("in", a), dt.of(a.dtype)) for a in inputs]
    n = len(inputs[0])
    target = w.array("out", np.zeros(n, out.numpy))
    extent = w.number(n, role="extent")
    at = ir.index("p") * 50 + ir.index("i")
    body = ir.store(target, at, function(*(ir.load(s, at, d) for s, d in slots)).cast(out))
    inner = ir.loop("i", "vector", ir.minimum(extent - ir.index("p") * 50, 50), body)
    return w.finish(ir.loop("p", "parallel", (extent + 49) / 50, inner))


def numbers(d: dt.dtype, n: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    if d.kind == "b":
        return random.random(n) < 0.5
    if d.kind == "f":
        a = random.normal(0, 3, n).astype(d.numpy)
        a[::17] = random.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40], len(a[::17]))
        return a
    info = np.iinfo(d.numpy)
    a = random.integers(-20 if d.kind == "i" else 0, 20, n).astype(d.numpy)
    a[::13] = random.choice([info.min, info.max, 0], len(a[::13]))
    return a


# -- text and verifier --------------------------------------------------------------------------------------------

def row_sum() -> ir.Program:
    p = ir.Program()
    x, y, n, m = p.slot("in", dt.float32), p.slot("out", dt.float32), p.slot("extent", INT), p.slot("extent", INT)
    at = ir.index("p") * ir.arg(n) + ir.index("i")
    p.body = [ir.loop("p", "parallel", ir.arg(m),
                      ir.accumulator("a", "sum", ir.const(0, dt.float32)),
                      ir.loop("i", "vector", ir.arg(n), ir.update("a", ir.load(x, at, dt.float32) * ir.load(x, at, dt.float32))),
                      ir.store(y, ir.index("p"), ir.value("a", dt.float32)))]
    ir.verify(p)
    return p


def test_text():
    assert row_sum().text() == """\
$0 = in f32
$1 = out f32
$2 = extent i64
$3 = extent i64
parallel p < $3:
  @a = sum from 0.0:f32 : f32
  vector i < $2:
    %0 = mul p, $2 : i64
    %1 = add %0, i : i64
    %2 = load $0[%1] : f32
    %3 = mul %2, %2 : f32
    @a <- %3
  store $1[p] = @a
"""
    assert row_sum().text() == row_sum().text()


def test_text_of_a_graph_is_linear():
    def function(x):
        for _ in range(2000):
            x = x * x
        return x
    w = elementwise(function, np.ones(3, np.float32), out=dt.float32)
    assert len(w.program.text().splitlines()) < 2020
    assert np.array_equal(w.check()[-1], np.ones(3))


def read_around_a_store(again: bool) -> Writer:
    """y = x + 1; z = x (read before or after)."""
    w = Writer()
    x, z = w.array("inout", np.arange(5.0)), w.array("out", np.zeros(5))
    i = ir.index("p")
    before = ir.load(x, i, dt.float64)
    after = ir.load(x, i, dt.float64) if again else before
    return w.finish(ir.loop("p", "parallel", w.number(5), ir.store(x, i, before + 1.0), ir.store(z, i, after)))


def test_a_read_after_a_write_is_another_read():
    kept, again = read_around_a_store(False), read_around_a_store(True)
    assert kept.program.text() != again.program.text()
    assert np.array_equal(kept.check()[1], np.arange(5.0))
    assert np.array_equal(again.check()[1], np.arange(5.0) + 1)


def broken(name: str) -> ir.Program:
    p = row_sum()
    body = list(p.body[0].args[1:])
    i, f = ir.index("p"), ir.const(0, dt.float32)
    body.append({
        "index": lambda: ir.store(1, ir.index("elsewhere"), f),
        "accumulator": lambda: ir.update("b", f),
        "writable": lambda: ir.store(0, i, f),
        "dtype": lambda: ir.store(1, i, ir.const(0, dt.float64)),
        "buffer": lambda: ir.store(1, i, ir.arg(0, dt.float32)),
        "statement": lambda: ir.Op("leap", None),
        "expression": lambda: ir.store(1, i, ir.unary("gamma", f)),
        "outermost": lambda: ir.loop("q", "parallel", i),
        "twice": lambda: ir.loop("p", "serial", i),
    }[name]())
    p.body = [ir.loop("p", "parallel", p.body[0].args[0], *body)]
    return p


@pytest.mark.parametrize("name", ["index", "accumulator", "writable", "dtype", "buffer", "statement", "expression", "outermost", "twice"])
def test_verifier_refuses(name):
    with pytest.raises(AssertionError):
        ir.verify(broken(name))


def test_mixed_dtypes_are_refused_when_written():
    with pytest.raises(TypeError, match="cast one of them"):
        ir.binary("add", ir.const(1, dt.float32), ir.const(1, dt.float64))


# -- operators ----------------------------------------------------------------------------------------------------

BINARY = ["add", "sub", "mul", "div", "rem", "floordiv", "min", "max", "lt", "le", "eq", "ne"]


@pytest.mark.parametrize("d", EVERY, ids=str)
@pytest.mark.parametrize("kind", BINARY + sorted(ir.BITWISE))
def test_binary(kind, d):
    if d.kind == "f" and kind in ir.BITWISE or d.kind == "b" and kind in ("div", "rem", "floordiv", "shl", "shr"):
        pytest.skip("not defined")
    a, b = numbers(d, 300), numbers(d, 300, 1)
    elementwise(lambda x, y: ir.binary(kind, x, y), a, b, out=dt.bool_ if kind in ir.COMPARE else d).check()


@pytest.mark.parametrize("d", EVERY, ids=str)
@pytest.mark.parametrize("kind", ["neg", "abs", "floor", "ceil", "trunc", "round", "sqrt", "not"])
def test_unary(kind, d):
    if kind in ("floor", "ceil", "trunc", "round", "sqrt") and d.kind != "f" or kind == "not" and d.kind == "f" or \
            kind in ("neg", "abs") and d.kind == "b":
        pytest.skip("not defined")
    elementwise(lambda x: ir.unary(kind, x), numbers(d, 300), out=d).check()


@pytest.mark.parametrize("to", EVERY, ids=str)
@pytest.mark.parametrize("source", EVERY, ids=str)
def test_cast(source, to):
    a = numbers(source, 300)
    if source.kind == "f" and to.kind in "iu":
        a = np.nan_to_num(np.clip(a, 0 if to.kind == "u" else -100, 100))
    got = elementwise(lambda x: x, a, out=to).check()[-1]
    np.testing.assert_array_equal(got, a.astype(to.numpy))


def test_integer_division_never_traps():
    a = np.array([7, -7, np.iinfo(np.int64).min, np.iinfo(np.int64).min, 0])
    b = np.array([0, 0, -1, 0, 5])
    assert elementwise(lambda x, y: x / y, a, b, out=INT).check()[-1].tolist() == [0, 0, np.iinfo(np.int64).min, 0, 0]


@pytest.mark.parametrize("kind, want", [("min", np.minimum), ("max", np.maximum)])
def test_nan_wins(kind, want):
    a = np.array([np.nan, 1, np.nan, 2, np.inf], np.float32)
    b = np.array([1, np.nan, np.nan, 3, 0], np.float32)
    np.testing.assert_array_equal(elementwise(lambda x, y: ir.binary(kind, x, y), a, b, out=dt.float32).check()[-1], want(a, b))


# -- random programs ----------------------------------------------------------------------------------------------

STEPS = {
    "neg": lambda x, y: -x, "abs": lambda x, y: ir.absolute(x), "add": lambda x, y: x + y, "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y, "max": ir.maximum, "min": ir.minimum, "scale": lambda x, y: x * 2,
    "choose": lambda x, y: ir.select(x < y, y, x),
    "tanh": lambda x, y: lm.tanh(x) if x.dtype.kind == "f" else x ^ y,
    "exp": lambda x, y: lm.exp(-ir.absolute(x)) if x.dtype.kind == "f" else x & y,
    "fma": lambda x, y: ir.fma(x, y, 0.5) if x.dtype.kind == "f" else x | y,
}


@given(d=st.sampled_from([*FLOATS, dt.int32, dt.int64, dt.uint8]), steps=st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=9),
       middle=st.sampled_from([*FLOATS, dt.int32]), n=st.integers(1, 333), seed=st.integers(0, 99))
@BRIEF
def test_random_chains(d, steps, middle, n, seed):
    """Elementwise code gives the same bits compiled and interpreted."""
    def function(x, y):
        for k, name in enumerate(steps):
            x = STEPS[name](x, y)
            if k == 1 and (middle.kind == "f" or d.kind != "f"):
                x, y = x.cast(middle), y.cast(middle)
        return x
    # no inf or NaN where floats become integers
    a, b = (numbers(d, n, seed + k) if d.kind != "f" else np.random.default_rng(seed + k).normal(0, 3, n).astype(d.numpy) for k in (0, 1))
    out = middle if len(steps) > 1 and (middle.kind == "f" or d.kind != "f") else d
    w = elementwise(function, a, b, out=out)
    compiled, interpreted = w.compiled()[-1], w.interpreted()[-1]
    if out.kind == "f":
        agree(compiled, interpreted)
    else:
        np.testing.assert_array_equal(compiled, interpreted)


COMBINE = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum, "any": np.logical_or, "all": np.logical_and}


@given(d=st.sampled_from([*FLOATS, dt.int32, dt.int64, dt.bool_]),
       combines=st.lists(st.sampled_from(sorted(COMBINE)), min_size=1, max_size=3),
       rows=st.integers(0, 7), n=st.integers(0, 100), seed=st.integers(0, 99), scratch=st.booleans())
@BRIEF
def test_random_row_reductions(d, combines, rows, n, seed, scratch):
    """Stages over a row, each of which uses the reductions of those before it; the values wait in scratch or are read again."""
    w = Writer()
    data = numbers(d, rows * n, seed) if d.kind != "f" else np.random.default_rng(seed).uniform(0.5, 1.5, rows * n).astype(d.numpy)
    x, y = w.array("in", data), w.array("out", np.zeros((rows, n), d.numpy))
    extent, count = w.number(n, role="extent"), w.number(rows, role="extent")
    body = []
    if scratch:
        w.arguments.append(0)
        kept = w.program.slot("scratch", d, size=extent)
        i = ir.index("c")
        body.append(ir.loop("c", "vector", extent, ir.store(kept, i, ir.load(x, ir.index("p") * extent + i, d))))
    results: list[ir.Op] = []

    def element(i: ir.Op) -> ir.Op:
        e = ir.load(kept, i, d) if scratch else ir.load(x, ir.index("p") * extent + i, d)
        for r in results:
            e = ir.maximum(e, r) + ir.minimum(e, r) if d is not dt.bool_ else e ^ r     # differences would lose the digits that sums share
        return e

    for k, combine in enumerate(combines):
        if (combine in ("any", "all")) != (d is dt.bool_):
            combine = "any" if d is dt.bool_ else "sum"
        start = {"max": -100, "min": 100, "prod": 1, "all": 1}.get(combine, 0)
        body += [ir.accumulator(f"a{k}", combine, ir.const(start, d)),
                 ir.loop(f"i{k}", "vector", extent, ir.update(f"a{k}", element(ir.index(f"i{k}"))))]
        results.append(ir.value(f"a{k}", d))
    i = ir.index("o")
    body.append(ir.loop("o", "vector", extent, ir.store(y, ir.index("p") * extent + i, element(i))))
    w.finish(ir.loop("p", "parallel", count, *body))
    w.check(exact=False)


@pytest.mark.parametrize("combine", ["max", "min", "sum"])
@pytest.mark.parametrize("d", FLOATS, ids=str)
@pytest.mark.parametrize("n", [1, 5, 64, 257])
def test_reductions_keep_nan(combine, d, n):
    for place in {None, 0, n // 2, n - 1}:
        w = Writer()
        data = np.linspace(-1, 1, n).astype(d.numpy)
        if place is not None:
            data[place] = np.nan
        x, y = w.array("in", data), w.array("out", np.zeros(1, d.numpy))
        start = {"max": -np.inf, "min": np.inf, "sum": 0}[combine]
        w.finish(ir.loop("p", "parallel", ir.integer(1), ir.accumulator("a", combine, ir.const(start, d)),
                         ir.loop("i", "vector", w.number(n), ir.update("a", ir.load(x, ir.index("i"), d))),
                         ir.store(y, ir.integer(0), ir.value("a", d))))
        got = w.check(exact=False)[-1][0]
        assert np.isnan(got) == (place is not None)


def test_serial_scan():
    """y[i] = y[i-1] / 2 + x[i], by a variable."""
    w = Writer()
    x, y = w.array("in", np.random.default_rng(0).normal(size=(6, 40))), w.array("out", np.zeros((6, 40)))
    at = ir.index("p") * 40 + ir.index("s")
    w.finish(ir.loop("p", "parallel", w.number(6), ir.accumulator("a", "set", ir.const(0, dt.float64)),
                     ir.loop("s", "serial", w.number(40),
                             ir.update("a", ir.fma(ir.value("a", dt.float64), 0.5, ir.load(x, at, dt.float64))),
                             ir.store(y, at, ir.value("a", dt.float64)))))
    w.check()


def test_loops_of_varying_extent():
    """Vector and serial loops that are longer in later iterations, and a condition."""
    w = Writer()
    x, y = w.array("in", np.arange(400.0)), w.array("inout", np.full((20, 20), -1.0))
    p, i = ir.index("p"), ir.index("i")
    w.finish(ir.loop("p", "parallel", w.number(20),
                     ir.accumulator("a", "sum", ir.const(0, dt.float64)),
                     ir.loop("i", "vector", p, ir.update("a", ir.load(x, p * 20 + i, dt.float64)),
                             ir.when(ir.rem(i, 3).eq(0), ir.store(y, p * 20 + i, ir.load(x, i * p, dt.float64)))),
                     ir.loop("s", "serial", p, ir.when(ir.index("s") < 5, ir.update("a", ir.const(1, dt.float64)))),
                     ir.store(y, p * 20 + 19, ir.value("a", dt.float64))))
    got = w.check()[1]
    assert got[7, 19] == np.arange(140, 147).sum() + 5 and got[7, 3] == 21 and got[7, 4] == -1


@pytest.mark.parametrize("bad", [None, 99, -1])
def test_gather_with_check(bad):
    w = Writer()
    indices = np.random.default_rng(0).integers(0, 9, 70)
    if bad is not None:
        indices[33] = bad
    table, at = w.array("in", np.arange(9.0)), w.array("in", indices)
    out, status = w.array("out", np.zeros(70)), w.array("inout", np.zeros(1, np.int64))
    i = ir.load(at, ir.index("p") * 7 + ir.index("i"), INT)
    size = w.number(9)
    inside = ir.maximum(ir.minimum(i, size - 1), 0)
    w.finish(ir.loop("p", "parallel", w.number(10), ir.loop(
        "i", "vector", w.number(7), ir.check(status, i, size),
        ir.store(out, ir.index("p") * 7 + ir.index("i"), ir.load(table, inside, dt.float64)))))
    got = w.check()
    assert got[3][0] == {None: 0, 99: 100, -1: -1}[bad]


def test_contraction_with_prologue_and_epilogue():
    w, d = Writer(), dt.float32
    a, b = numbers(INT, 2 * 5 * 30).reshape(2, 5, 30) % 7, numbers(INT, 2 * 30 * 40).reshape(2, 30, 40) % 5
    x, y, out = w.array("in", a.astype(d.numpy)), w.array("in", b.astype(d.numpy)), w.array("out", np.zeros((2, 5, 40), d.numpy))
    p, i, j, k = (ir.index(name) for name in "pijk")
    m, n, depth = w.number(5), w.number(40), w.number(30)
    epilogue = ir.store(out, (p * m + i) * n + j, ir.maximum(ir.value("acc", d), 0))
    left, right = ir.load(x, (p * m + i) * depth + k, d) * 2, ir.load(y, (p * depth + k) * n + j, d)
    w.finish(ir.contract(ir.Contraction(
        (("p", w.number(2)),), (("i", m),), (("j", n),), (("k", depth),), left, right, (epilogue,), d)))
    np.testing.assert_array_equal(w.interpreted()[-1], np.maximum(2 * a @ b, 0))
    np.testing.assert_array_equal(w.compiled()[-1], np.maximum(2 * a @ b, 0))


# -- other processors ---------------------------------------------------------------------------------------------

def softmax(n: int) -> Writer:
    w, d = Writer(), dt.float32
    x, y = w.array("in", np.random.default_rng(0).normal(size=(3, n)).astype(np.float32)), w.array("out", np.zeros((3, n), np.float32))
    extent = w.number(n, role="extent")

    def exponential(i: ir.Op) -> ir.Op:
        return lm.exp(ir.load(x, ir.index("p") * extent + i, d) - ir.value("m", d))

    k = ir.index("k")
    return w.finish(ir.loop(
        "p", "parallel", w.number(3),
        ir.accumulator("m", "max", ir.const(-np.inf, d)),
        ir.loop("i", "vector", extent, ir.update("m", ir.load(x, ir.index("p") * extent + ir.index("i"), d))),
        ir.accumulator("s", "sum", ir.const(0, d)),
        ir.loop("j", "vector", extent, ir.update("s", exponential(ir.index("j")))),
        ir.loop("k", "vector", extent, ir.store(y, ir.index("p") * extent + k, exponential(k) / ir.value("s", d)))))


def machine_for(triple: str, name: str):
    binding = pytest.importorskip("llvmlite.binding")
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    return binding, binding.Target.from_triple(triple).create_target_machine(cpu=name, opt=3, reloc="pic", codemodel="small")


def optimised_for(triple: str, name: str, ir_text: str):
    binding, machine = machine_for(triple, name)
    text = f'target triple = "{triple}"\ntarget datalayout = "{machine.target_data}"\n{ir_text}'
    module = binding.parse_assembly(text, binding.create_context())
    module.verify()
    options = binding.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = True
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return machine, module


@pytest.mark.parametrize("triple, name, vector", [
    ("x86_64-unknown-linux-gnu", "skylake-avx512", "vfmadd[0-9]*ps.*[xyz]mm"),
    ("x86_64-unknown-linux-gnu", "haswell", "vfmadd[0-9]*ps.*ymm"),
    ("x86_64-unknown-linux-gnu", "x86-64", "maxps.*xmm"),
    ("aarch64-unknown-linux-gnu", "neoverse-n1", "fmla.*v[0-9]+.4s")])
def test_vector_code(triple, name, vector):
    import re
    machine, module = optimised_for(triple, name, llvm.emit(softmax(64).program))
    assert re.search(vector, machine.emit_assembly(module))


@pytest.mark.skipif(cpu.machine() != "x86_64" or not jit._own_loader(), reason="runs code for older x86-64 processors")
@pytest.mark.parametrize("name", ["x86-64", "haswell"])
def test_older_processors(name):
    if name == "haswell" and not {"avx2", "fma"} <= cpu.features():
        pytest.skip("no AVX2 here")
    w = softmax(77)
    machine, module = optimised_for("x86_64-unknown-linux-gnu", name, llvm.emit(w.program))
    library = jit._link(machine.emit_object(module))
    agree(w.compiled(library["kernel"])[1], w.interpreted()[1])
