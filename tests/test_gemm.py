"""Contractions: every product the loop program can say, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerance import agree

import antorcha as torch
from antorcha.base import dtype as dt
from antorcha.explaining import Recorder
from antorcha.graph import flush
from antorcha.loops import ir
from antorcha.loops.ir import Contraction, Program
from antorcha.runtime import cpu, jit, pool
from antorcha.targets import blocking, gemm, kernel, microkernel
from antorcha.targets.formula import evaluate


class Product:
    """Writes the program of a product of strided arrays and runs it. Extents and strides other than 1 are arguments."""

    def __init__(self):
        self.program, self.words, self.keep = Program(), [], []

    def array(self, role: str, a: np.ndarray) -> int:
        self.keep.append(a)
        self.words.append(a.__array_interface__["data"][0])
        return self.program.slot(role, dt.of(a.dtype))

    def number(self, role: str, n: int) -> ir.Op:
        self.words.append(n)
        return ir.arg(self.program.slot(role, dt.int64))

    def dims(self, stem: str, extents) -> tuple:
        return tuple((f"{stem}{i}", self.number("extent", n)) for i, n in enumerate(extents))

    def offset(self, a: np.ndarray, names: list[str]) -> ir.Op:
        total = ir.integer(0)
        for name, stride in zip(names, a.strides):
            stride //= a.itemsize
            factor = ir.integer(stride) if stride in (0, 1) else self.number("stride", stride)
            total = total + ir.index(name) * factor
        return total

    def run(self, c: Contraction, split: int = 1) -> None:
        self.program.body.append(ir.contract(c))
        ir.verify(self.program)
        built = kernel.build(self.program)
        tiles = built.tiles(self.words)
        if not tiles:
            return
        words = np.array(self.words, np.int64)
        pool.reserve_scratch(built.scratch(self.words))
        steps = np.array([[built.address, words.ctypes.data, tiles, built.grain(self.words)]], np.int64)
        pool.run(steps)


def names(dims: tuple) -> list[str]:
    return [n for n, _ in dims]


def multiply(a: np.ndarray, b: np.ndarray, batch: int = 0, ms: int = 1, ns: int = 1, out_order=None, prologue=None,
             epilogue=None, windows="", rows="", within=()) -> np.ndarray:
    """out[batch, m, n] of a[batch, m, k] and b[batch, n, k], each group some dimensions deep, through a kernel."""
    p = Product()
    bs, m, n, k = (p.dims(stem, e) for stem, e in (("b", a.shape[:batch]), ("m", a.shape[batch:batch + ms]),
                                                  ("n", b.shape[batch:batch + ns]), ("k", a.shape[batch + ms:])))
    d = dt.of(a.dtype)
    x = ir.load(p.array("in", a), p.offset(a, names(bs + m + k)), d)
    y = ir.load(p.array("in", b), p.offset(b, names(bs + n + k)), d)
    shape = a.shape[:batch] + a.shape[batch:batch + ms] + b.shape[batch:batch + ns]
    order = out_order or tuple(range(len(shape)))
    out = np.full([shape[i] for i in order], 77, a.dtype).transpose(np.argsort(order))
    x = prologue(x) if prologue else x
    v = ir.value("acc", d)
    v = epilogue(v) if epilogue else v
    p.run(Contraction(bs, m, n, k, x, y, (ir.store(p.array("out", out), p.offset(out, names(bs + m + n)), v),), d, windows, rows,
                      within))
    return out


def convolve(rng, channels: int, run: int, outputs: int, dtype, epilogue=None) -> None:
    """Windows of 3 x 3 in two images of five rows, `run` wide, against NumPy."""
    images = values(rng, (2, channels, 7, run + 2), dtype)
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), (2, 3)).transpose(0, 2, 3, 1, 4, 5)      # images, rows, run, k
    weight = values(rng, (outputs, channels, 3, 3), dtype)
    expected = np.einsum("ocij,nhwcij->onhw", weight, windows)
    got = multiply(weight, windows, ns=3, epilogue=epilogue, windows="n")
    np.testing.assert_array_equal(got, epilogue(expected) if epilogue else expected)


def values(rng, shape, dtype) -> np.ndarray:
    return rng.integers(-4, 5, shape).astype(dtype)      # small integers: sums are exact in any order


extent = st.sampled_from([0, 1, 2, 3, 5, 8, 13, 14, 15, 16, 17, 31, 32, 33, 47, 64, 97, 131, 260])


@settings(max_examples=60)
@given(extent, extent, st.sampled_from([0, 1, 2, 3, 7, 16, 17, 127, 128, 129, 385, 800]), st.sampled_from(["f4", "f8"]),
       st.booleans(), st.booleans(), st.booleans(), st.integers(0, 9))
def test_matrices(m, n, k, dtype, ta, tb, tc, seed):
    rng = np.random.default_rng(seed)
    a = values(rng, (k, m), dtype).T if ta else values(rng, (m, k), dtype)
    b = values(rng, (k, n), dtype).T if tb else values(rng, (n, k), dtype)
    got = multiply(a, b, out_order=(1, 0) if tc else None)
    np.testing.assert_array_equal(got, a @ b.T)


def test_some_rows_are_multiplied_from_memory():
    """With vectors of a line of memory a step of the register tile reads elements of A once, and `TWICE` of them again."""
    for width, again in ((16, microkernel.TWICE), (8, 0)):
        s = microkernel.Shape("float", 4, width, 14, 2, 512, 768, 1008, 4)
        for along_k, way in (False, microkernel.PACKED), (True, microkernel.PACKED), (False, microkernel.LIES):
            text = microkernel.micro_kernel(s, s.mr, s.vectors, along_k, way)
            assert text.count("= load float,") == (s.mr + again) * (s.unroll + 1)


@settings(max_examples=25)
@given(st.sampled_from([60, 127, 260, 301]), st.sampled_from([33, 130, 257, 400]), st.sampled_from([513, 1030, 1543, 2049]), st.booleans(),
       st.booleans(), st.booleans(), st.integers(0, 9))
def test_long_sums_whose_operands_are_packed_ahead(m, n, k, ta, tb, computed, seed):
    """Blocks of k take turns in two places, and so do groups of slivers: a piece that is packed may not reach into what is in use."""
    rng = np.random.default_rng(seed)
    a = values(rng, (k, m), "f4").T if ta else values(rng, (m, k), "f4")
    b = values(rng, (n, k), "f4") if tb else values(rng, (k, n), "f4").T
    got = multiply(a, b, prologue=(lambda x: x + x) if computed else None)
    np.testing.assert_array_equal(got, (1 + computed) * (a @ b.T))


def test_two_blocks_of_k_have_room_beside_each_other():
    """Of B as many columns are packed as leave room for the next block of k, each of which begins where whole vectors may end."""
    s = microkernel.shape(dt.float32)
    for k in (s.kc, s.kc + 1, 5 * s.kc - 9):
        p = Product()
        sizes = {name: p.dims(name, (size,)) for name, size in (("m", 3000), ("n", 3000), ("k", k))}
        x, y = (ir.load(p.array("in", np.zeros(1, "f4")), ir.integer(0), dt.float32) for _ in "ab")
        c = Contraction((), sizes["m"], sizes["n"], sizes["k"], x, y, (), dt.float32)
        b = blocking.blocking(c)
        depth, panels, blocks = (evaluate(e, p.words) for e in (b.depth, b.panels, b.blocks))
        assert depth % s.operand.lanes == 0
        assert -(-panels // blocks) * s.nr * depth * (1 if k <= s.kc else 2) <= s.nc * s.kc


@settings(max_examples=20)
@given(st.integers(0, 5), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.sampled_from(["f4", "f8"]))
def test_heads_of_attention(heads, m, n, k, dtype):
    rng = np.random.default_rng(m)
    a, b = values(rng, (2, m, heads, k), dtype), values(rng, (2, n, heads, k), dtype)
    got = multiply(a.transpose(0, 2, 1, 3), b.transpose(0, 2, 1, 3), batch=2, out_order=(0, 2, 1, 3))
    np.testing.assert_array_equal(got, np.einsum("bmhk,bnhk->bhmn", a, b))


@settings(max_examples=20)
@given(st.lists(st.integers(1, 7), min_size=6, max_size=6), st.sampled_from(["f4", "f8"]), st.permutations(range(4)))
def test_groups_of_several_indices(e, dtype, order):
    rng = np.random.default_rng(e)
    m0, m1, n0, n1, k0, k1 = e[0] * 5, e[1], e[2], e[3] * 9, e[4], e[5]
    a, b = values(rng, (k0, m0, m1, k1), dtype), values(rng, (n1, k1, n0, k0), dtype)
    got = multiply(a.transpose(1, 2, 0, 3), b.transpose(2, 0, 3, 1), ms=2, ns=2, out_order=tuple(order))
    np.testing.assert_array_equal(got, np.einsum("kxyl,wlzk->xyzw", a, b))


def test_convolution_as_a_product():
    """Implicit im2col: m = (image, row, column), k = (channel, row, column of the filter)."""
    rng = np.random.default_rng(0)
    x, w = values(rng, (2, 3, 11, 40), "f4"), values(rng, (5, 3, 3, 3), "f4")
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5)
    got = multiply(windows, w, ms=3, ns=1, out_order=(0, 3, 1, 2))
    np.testing.assert_array_equal(got, np.einsum("nhwcij,ocij->nhwo", windows, w))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_prologue_and_epilogue(dtype):
    rng = np.random.default_rng(1)
    a, b = values(rng, (70, 50), dtype), values(rng, (90, 50), dtype)
    got = multiply(a, b, prologue=lambda x: ir.maximum(x, 0) * 2.0, epilogue=lambda v: ir.select(v < 10.0, v, v * 0.5))
    want = np.maximum(a, 0) * 2 @ b.T
    np.testing.assert_array_equal(got, np.where(want < 10, want, want * 0.5))


def test_residual_in_place_and_cast_of_an_operand():
    rng = np.random.default_rng(2)
    a, b, out = values(rng, (33, 20), "i4"), values(rng, (45, 20), "f4"), values(rng, (33, 45), "f4")
    want = a.astype("f4") @ b.T + out
    p = Product()
    m, n, k = p.dims("m", (33,)), p.dims("n", (45,)), p.dims("k", (20,))
    x = ir.load(p.array("in", a), p.offset(a, ["m0", "k0"]), dt.int32).cast(dt.float32)
    y = ir.load(p.array("in", b), p.offset(b, ["n0", "k0"]), dt.float32)
    slot, at = p.array("inout", out), p.offset(out, ["m0", "n0"])
    p.run(Contraction((), m, n, k, x, y, (ir.store(slot, at, ir.value("acc", dt.float32) + ir.load(slot, at, dt.float32)),), dt.float32))
    np.testing.assert_array_equal(out, want)


def test_without_rows_columns_or_batch_indices():
    rng = np.random.default_rng(3)
    a, x = values(rng, (300, 77), "f4"), values(rng, (77,), "f4")
    np.testing.assert_array_equal(multiply(a, x, ns=0), a @ x)
    np.testing.assert_array_equal(multiply(x, a, ms=0), a @ x)
    np.testing.assert_array_equal(multiply(x, x, ms=0, ns=0), x @ x)


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (0, 3, 4, 1, 2), (4, 2, 1, 0, 3), (1, 4, 0, 2, 3)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_batches_of_matrices_and_vectors(dtype, order):
    """Rows and k two indices deep, the matrix contiguous along any of them, the epilogue in vectors."""
    rng = np.random.default_rng(6)
    shape = (3, 7, 37, 5, 19)
    matrix = values(rng, [shape[i] for i in order], dtype).transpose(np.argsort(order))
    vector = values(rng, (3, 5, 19), dtype)
    want = 2 * np.einsum("bxykl,bkl->bxy", matrix, vector)
    np.testing.assert_array_equal(multiply(matrix, vector, batch=1, ms=2, ns=0, epilogue=lambda v: v * 2.0), want)
    np.testing.assert_array_equal(multiply(vector, matrix, batch=1, ms=0, ns=2, epilogue=lambda v: v * 2.0), want)


def test_number_of_threads_changes_no_bit():
    rng = np.random.default_rng(4)
    before = pool.get_num_threads()
    for m, n, k in ((500, 900, 700), (600, 100, 700), (600, 100, 300)):     # in the last two, strips of rows share what is packed of B
        a, b = rng.standard_normal((m, k), "f4"), rng.standard_normal((n, k), "f4")
        try:
            pool.set_num_threads(1)
            one = multiply(a, b)
            pool.set_num_threads(2)
            two = multiply(a, b)
        finally:
            pool.set_num_threads(before)
        assert one.tobytes() == two.tobytes()
        agree(one, a @ b.T)


@pytest.mark.parametrize("m, n, k", [(14, 32, 9), (42, 64, 70), (22, 33, 5), (18, 31, 40), (29, 16, 1), (39, 10, 40),
                                     (25, 48, 33), (60, 16, 200), (11, 100, 384), (150, 130, 700), (505, 40, 530)])
def test_operands_are_read_where_they_lie(m, n, k):
    """Few rows and columns, or an A whose rows are side by side and fill lines of memory: nothing is packed but edges; the rows of the
    operands are parts of longer ones. Those of the last A, 2048 bytes apart, would crowd a few sets of the cache, and are packed."""
    rng = np.random.default_rng(6)
    for ta, tb in ((False, False), (False, True), (True, False), (True, True)):
        a, b = (values(rng, (rows, k) if not t else (k, rows), "f4") for rows, t in ((m, ta), (n, tb)))
        wide = [np.concatenate([x, np.full((x.shape[0], 7), np.nan, "f4")], 1)[:, :x.shape[1]] for x in (a, b)]
        a, b = (x.T if t else x for x, t in zip(wide, (ta, tb)))
        np.testing.assert_array_equal(multiply(a, b), a @ b.T)


def test_what_one_strip_reads_where_it_lies_another_packs(monkeypatch):
    """Strips of five and six slivers, one call for each: only for six is B packed."""
    monkeypatch.setattr(gemm.ContractionKernel, "grain", lambda self, words: 1)
    rng = np.random.default_rng(8)
    before = pool.get_num_threads()
    try:
        pool.set_num_threads(1)
        for k in (40, 700):
            a, b = values(rng, (150, k), "f4"), values(rng, (k, 130), "f4").T
            np.testing.assert_array_equal(multiply(a, b), a @ b.T)
    finally:
        pool.set_num_threads(before)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_few_rows_are_multiplied_along_k(dtype):
    """Vectors of both operands, where they lie: edges of columns and of k, several blocks of k, results in either order."""
    rng = np.random.default_rng(5)
    s = microkernel.shape(dt.of(np.dtype(dtype)))
    assert s.dot_heights[-1:] in ([], [4], [8]) and all(s.lanes % rows == 0 for rows in s.dot_heights)
    for m in (1, 2, 4, 5, 8, 9):
        for n, k in ((s.nr, s.lanes), (s.nr + 1, s.lanes - 1), (3 * s.nr - 5, 2 * s.kc + 3), (5, 70)):
            a, b = (np.concatenate([values(rng, (rows, k), dtype), np.full((rows, 7), np.nan, dtype)], 1)[:, :k] for rows in (m, n))
            for order in (None, (1, 0)):
                got = multiply(a, b, out_order=order, epilogue=lambda v: v * 2 + 1)
                np.testing.assert_array_equal(got, a @ b.T * 2 + 1)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_rows_of_tiles_along_a_narrow_group(dtype):
    """Whatever is stored, in both orders, with an epilogue that knows its place."""
    rng = np.random.default_rng(7)
    for m, n, k in ((100, 10, 384), (10, 100, 40), (131, 3, 17), (33, 13, 800)):
        for ta, tb, tc in ((True, False, False), (True, True, True), (False, False, True)):
            a, b = (values(rng, (rows, k) if not t else (k, rows), dtype) for rows, t in ((m, ta), (n, tb)))
            a, b = (x.T if t else x for x, t in ((a, ta), (b, tb)))
            for rows in "mn":
                got = multiply(a, b, out_order=(1, 0) if tc else None, epilogue=lambda v: v * 2 + 1, rows=rows)
                np.testing.assert_array_equal(got, a @ b.T * 2 + 1)


def test_a_weight_is_not_packed_for_a_small_batch():
    """Its rows are those of the register tiles, which read it where it lies; for few or many samples they are its columns."""
    rng = np.random.default_rng(8)
    lanes = cpu.vector_bytes() // 4
    few = microkernel.shape(dt.float32).nr * 2
    for m, rows in ((1, False), (lanes // 2, False), (lanes, True), (few, True), (few + 1, False)):
        a, b = values(rng, (m, 150), "f4"), values(rng, (101, 150), "f4")
        got = torch.nn.functional.linear(torch.tensor(a), torch.tensor(b)).relu()
        np.testing.assert_array_equal(got.numpy(), np.maximum(a @ b.T, 0))
        (kernel,) = flush.last().kernels()
        assert (" rows(" in kernel["program"].text()) == rows, m


@pytest.mark.parametrize("within", [("n", "m"), ("m", "n"), ("k", "m"), ("m", "k"), ("k", "n"), ("n", "k")])
@pytest.mark.parametrize("m, n, k", [(61, 67, 129), (256, 32, 256), (64, 64, 32), (37, 1031, 1100), (3, 5, 7)])
def test_what_is_above_a_diagonal_is_left_out(m, n, k, within):
    """Terms that are zero change nothing; results that nobody asks for are those of some of the terms."""
    rng = np.random.default_rng(9)
    place = dict(zip("mnk", np.ogrid[:m, :n, :k]))
    above = place[within[0]] > place[within[1]]
    for ta, tb, tc in ((False, False, False), (True, True, False), (False, True, True)):
        a, b = (values(rng, (rows, k) if not t else (k, rows), "f4") for rows, t in ((m, ta), (n, tb)))
        a, b = (x.T if t else x for x, t in ((a, ta), (b, tb)))
        if "k" in within:
            x = a if "m" in within else b
            x[above[:, 0] if "m" in within else above[0]] = 0
        got = multiply(a, b, out_order=(1, 0) if tc else None, epilogue=lambda v: v * 2 + 1, within=(within,))
        asked = np.ones((m, n), bool) if "k" in within else ~above[..., 0]
        np.testing.assert_array_equal(got[asked], (a @ b.T * 2 + 1)[asked])
        assert np.isfinite(got).all()


def test_gradients_of_weights_with_few_inputs_have_these_as_rows():
    rng = np.random.default_rng(7)
    few, many = values(rng, (384, 10), "f4"), values(rng, (384, 100), "f4")
    turned = "n" if cpu.vector_bytes() > 16 else ""      # ten columns leave few lanes of short vectors empty
    for a, b, rows in ((many, few, turned), (few, many, ""), (many, many, "")):
        with Recorder() as recorder:
            np.testing.assert_array_equal((torch.from_numpy(a).T @ torch.from_numpy(b)).numpy(), a.T @ b)
        (c,) = [k["program"].body[0].attr for k in recorder.kernels()
                if k["program"].body[0].kind == "contract"]
        assert c.rows == rows


@pytest.mark.parametrize("machine, width, features", [("x86_64", 32, {"avx2", "fma"}), ("x86_64", 16, {"sse2"}), ("aarch64", 16, {"neon"})])
def test_register_tiles_of_other_processors(machine, width, features, monkeypatch):
    """Their shapes; the instructions stay those of the processor at hand."""

    def forget():
        kernel._kernels.clear()
        blocking.tile_count.cache_clear()

    with monkeypatch.context() as patch:
        patch.setattr(cpu, "machine", lambda: machine)
        patch.setattr(cpu, "features", lambda: frozenset(features))
        patch.setattr(cpu, "vector_bytes", lambda: width)
        tiles = {d: microkernel.shape(d) for d in (dt.float32, dt.float64)}
    monkeypatch.setattr(microkernel, "shape", lambda d, operand, sliced: tiles[d])
    forget()
    try:
        rng = np.random.default_rng(5)
        for dtype in ("f4", "f8"):
            a, b = values(rng, (101, 301), dtype), values(rng, (67, 301), dtype)
            np.testing.assert_array_equal(multiply(a, b), a @ b.T)
            a, b = values(rng, (301, 101), dtype), values(rng, (301, 67), dtype)
            np.testing.assert_array_equal(multiply(a.T, b.T), a.T @ b)
            np.testing.assert_array_equal(multiply(a.T[:20], b.T[:30]), a.T[:20] @ b[:, :30])       # read where they lie
            for run in (3, 5, 11, 16):
                convolve(rng, 4, run, 33, dtype)
    finally:
        forget()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_windows_are_read_where_they_lie(dtype):
    rng = np.random.default_rng(8)
    for run in (1, 3, 4, 5, 7, 8, 11, 13, 14, 15, 28, 31, 57):      # slivers of each height, some begin in the one before
        convolve(rng, 3, run, 37, dtype)
    convolve(rng, 130, 17, 70, dtype)       # several blocks of k
    convolve(rng, 3, 14, 5, dtype, epilogue=lambda v: v * 2 + 1)


def test_sizes_of_the_blocking():
    s = microkernel.shape(dt.float32)
    c = Contraction((), (("m", ir.arg(0)),), (("n", ir.arg(1)),), (("k", ir.arg(2)),), ir.const(1, dt.float32), ir.const(1, dt.float32), (),
                    dt.float32)
    assert blocking.tiles(c, [0, 5, 5]) == blocking.tiles(c, [5, 0, 5]) == 0
    assert blocking.tiles(c, [32, 10, 100]) == 1
    assert blocking.tiles(c, [1024, 1024, 1024]) >= 8
    assert blocking.tiles(c, [4 * s.mr, 4 * s.nr, 1 << 15]) == 2       # too few rows for two strips
    assert blocking.scratch(c, [5, 5, 0]) >= s.c_at


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_threads_get_equal_shares(threads, monkeypatch):
    monkeypatch.setattr(kernel.pool, "get_num_threads", lambda: threads)
    for tiles in (1, 2, 7, 18, 36, 37, 1009, 4096):
        for most in (0, 1, tiles // (4 * threads), tiles):
            grain = kernel.even(tiles, most)
            chunks = -(-tiles // grain)
            assert 1 <= grain <= max(1, most)
            assert min(tiles, -(-chunks // threads) * grain) <= 1.04 * -(-tiles // threads), (tiles, most, grain)


@pytest.mark.parametrize("threads, grain", [(2, 2), (8, 1)])
def test_strips_for_which_b_is_packed_anew_are_done_together(threads, grain, monkeypatch):
    """By one thread, if there is enough for the others: four tiles of two strips."""
    s, seen = microkernel.shape(dt.float32), []
    monkeypatch.setattr(pool, "get_num_threads", lambda: threads)
    monkeypatch.setattr(pool, "run", lambda steps: seen.append(steps[0, 2:].tolist()))
    k = s.nc // s.nr * s.kc      # more than one block of B has room for
    multiply(*(np.zeros((k, rows), "f4").T for rows in (blocking.SHORTEST * 2 * s.mr, blocking.NARROWEST * 2 * s.nr)))
    assert seen == [[4, grain]]


def test_loops_whose_last_block_is_shorter_are_work_for_all_threads():
    n = ir.arg(0)
    i = ir.integer(8192) * ir.index("p") + ir.index("i")
    inner = ir.loop("i", "vector", ir.minimum(n - ir.integer(8192) * ir.index("p"), 8192), ir.store(1, i, ir.load(1, i, dt.float32)))
    p = ir.Program()
    p.slot("extent", dt.int64), p.slot("out", dt.float32)
    p.body.append(ir.loop("p", "parallel", ir.floordiv(n + 8191, 8192), inner))
    k = kernel.Kernel(p, "")
    assert k.grain([24 * 8192, 0]) < k.tiles([24 * 8192, 0]) == 24


def test_products_take_denormals_for_zero_and_leave_others_alone():
    tiny = torch.full((64, 48), 1e-41)
    assert (tiny @ torch.ones(48, 80)).count_nonzero().item() == 0
    assert (tiny + tiny).tolist()[0][0] == pytest.approx(2e-41, rel=1e-3)
    assert np.float32(1e-41) * np.float32(2) != 0


def test_the_loops_that_products_share_are_compiled_beside_their_kernels(monkeypatch):
    prepared = []
    monkeypatch.setattr(jit, "prepare", lambda modules: prepared.extend(m.key for m in modules))
    monkeypatch.setattr(kernel, "_kernels", {})
    flush.clear()
    (torch.ones(30, 40) @ torch.ones(40, 50)).tolist()
    assert [sum(key.startswith(name) for key in prepared) for name in ("microkernel", "tiles")] == [1, 1]
    (product,) = [k for k in kernel._kernels.values() if isinstance(k, gemm.ContractionKernel)]
    assert "sdiv" not in product.ir()       # what cuts it into tiles is shared, too
    assert set(prepared) <= set(jit._libraries)     # what was compiled is what is loaded
