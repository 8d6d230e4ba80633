"""Matrix products by NVIDIA's cuBLASLt, where the package nvidia-cublas is installed (pip install antorcha[cuda]), through ctypes.

`Product` describes C[b, m, n] = sum over k of A[b, m, k] B[b, n, k] (+ bias[n]) in memory: what the library is told, but for addresses.
cuBLASLt's matrices are stored by columns, so a product of ours by rows is one of theirs with the operands exchanged: the columns of
C as they see it are our m.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from ctypes import byref, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import NamedTuple

TYPES = {"f32": 0, "f64": 1, "f16": 2, "bf16": 14}      # cudaDataType
FLOAT32, FLOAT32_FROM_TF32, FLOAT64 = 68, 77, 70        # cublasComputeType_t
TRANSPOSE_A, TRANSPOSE_B, EPILOGUE, BIAS = 3, 4, 7, 8   # attributes of a description
ADD_BIAS = 4                                            # an epilogue
BATCHES, BATCH_STEP = 5, 6                              # attributes of a layout
WORKSPACE, ALIGNMENTS = 1, (5, 6, 7, 8)                 # attributes of a preference; at what A, B, C and D lie
ALIGNED = 256                                           # bytes: what the library takes for granted unless it is told
WORKSPACE_BYTES = 32 << 20


class CublasError(RuntimeError):
    """cuBLASLt reported an error."""


class Operand(NamedTuple):
    """A matrix in memory: its element type, the distance of its lines, of batches (in elements), whether lines run along k, and a power
    of two of which its address is a multiple."""

    type: str
    line: int
    batch: int
    along_k: bool = True
    aligned: int = ALIGNED


class Product(NamedTuple):
    """A product; `bias` is a power of two of which the address of what is added to each column n is a multiple, 0 for none. Its elements
    are of C's type: the library knows no other."""

    sizes: tuple[int, int, int, int]    # batch, m, n, k
    a: Operand
    b: Operand
    c: Operand
    rounded: bool = False               # TF32 is allowed
    bias: int = 0


@functools.lru_cache(maxsize=1)
def library():
    """cuBLASLt, or None where it is not installed."""
    return _find()


def _find():
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for pattern in ("*/lib/libcublasLt.so.*", "*/bin/**/cublasLt64_*.dll"):
            for path in sorted(Path(folder).glob(pattern), reverse=True):
                try:
                    return ctypes.CDLL(str(path))
                except OSError:
                    continue
    return None


class _Result(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = [("algorithm", c_uint64 * 8), ("workspace", c_size_t), ("state", c_int), ("waves", c_float), ("reserved", c_int * 4)]


class Handle:
    """The library's state on a device, with the products that were prepared there."""

    def __init__(self, device, lib):
        self.device, self.lib = device, lib
        device.bind()
        self.handle = c_void_p()
        self.check("cublasLtCreate", byref(self.handle))
        self.products: dict[Product, Prepared | None] = {}

    def check(self, name: str, *args) -> None:
        code = getattr(self.lib, name)(*args)
        if code:
            raise CublasError(f"cuBLASLt error in {name}: status {code}. Uninstall nvidia-cublas to compute products without it.")

    def workspace(self) -> int:
        """Memory for the library's own use, one for each stream: products in several streams come at the same time."""
        device, key = self.device, (self, self.device.home)
        if key not in device.scratch:
            device.scratch[key] = device.allocate(WORKSPACE_BYTES)
        return device.scratch[key].address

    def prepared(self, product: Product) -> Prepared | None:
        """A product ready to run; None if the library has no algorithm for it."""
        if product not in self.products:
            try:
                self.products[product] = Prepared(self, product)
            except CublasError:
                self.products[product] = None
        return self.products[product]


class Prepared:
    """Descriptions of a product, and the algorithm that the library chose."""

    def __init__(self, owner: Handle, product: Product):
        self.owner, self.product = owner, product
        batch, m, n, k = product.sizes
        double = product.c.type == "f64"
        compute = FLOAT64 if double else FLOAT32_FROM_TF32 if product.rounded else FLOAT32
        self.one, self.zero = (ctypes.c_double(1), ctypes.c_double(0)) if double else (c_float(1), c_float(0))
        self.description = c_void_p()
        owner.check("cublasLtMatmulDescCreate", byref(self.description), c_int(compute), c_int(TYPES["f64" if double else "f32"]))
        # Their first operand is our B: n x k. Lines along k are their columns, so it is to be transposed.
        self._describe(TRANSPOSE_A, c_int32(product.b.along_k))
        self._describe(TRANSPOSE_B, c_int32(not product.a.along_k))
        if product.bias:
            self._describe(EPILOGUE, c_int32(ADD_BIAS))
            self._describe(BIAS, c_void_p(product.bias))        # the choice goes by what the address is a multiple of
        self.layouts = [self._layout(product.b, n, k, batch), self._layout(product.a, m, k, batch),
                        self._layout(product.c._replace(along_k=False), n, m, batch)]
        self._choose()

    def _describe(self, attribute: int, value) -> None:
        self.owner.check("cublasLtMatmulDescSetAttribute", self.description, c_int(attribute), byref(value), c_size_t(ctypes.sizeof(value)))

    def _layout(self, operand: Operand, rows: int, k: int, batch: int) -> c_void_p:
        layout, check = c_void_p(), self.owner.check
        lines = (k, rows) if operand.along_k else (rows, k)
        check("cublasLtMatrixLayoutCreate", byref(layout), c_int(TYPES[operand.type]), c_uint64(lines[0]), c_uint64(lines[1]),
              c_int64(operand.line))
        if batch > 1:
            for attribute, value in ((BATCHES, c_int32(batch)), (BATCH_STEP, c_int64(operand.batch))):
                check("cublasLtMatrixLayoutSetAttribute", layout, c_int(attribute), byref(value), c_size_t(ctypes.sizeof(value)))
        return layout

    def _choose(self) -> None:
        check, preference, found, nbytes = self.owner.check, c_void_p(), c_int(), c_uint64(WORKSPACE_BYTES)
        self.result = _Result()
        check("cublasLtMatmulPreferenceCreate", byref(preference))
        check("cublasLtMatmulPreferenceSetAttribute", preference, c_int(WORKSPACE), byref(nbytes), c_size_t(8))
        p = self.product
        for attribute, operand in zip(ALIGNMENTS, (p.b, p.a, p.c, p.c)):
            check("cublasLtMatmulPreferenceSetAttribute", preference, c_int(attribute), byref(c_uint32(operand.aligned)), c_size_t(4))
        first, second, result = self.layouts
        check("cublasLtMatmulAlgoGetHeuristic", self.owner.handle, self.description, first, second, result, result, preference, c_int(1),
              byref(self.result), byref(found))
        check("cublasLtMatmulPreferenceDestroy", preference)
        if not found.value or self.result.state:
            raise CublasError("cuBLASLt has no algorithm")

    def run(self, a: int, b: int, c: int, bias: int, stream: int) -> None:
        """Compute with operands at these addresses, in a stream."""
        owner = self.owner
        owner.device.bind()
        if self.product.bias:
            self._describe(BIAS, c_void_p(bias))
        first, second, result = self.layouts
        owner.check("cublasLtMatmul", owner.handle, self.description, byref(self.one), c_void_p(b), first, c_void_p(a), second,
                    byref(self.zero), c_void_p(c), result, c_void_p(c), result, byref(self.result.algorithm),
                    c_void_p(owner.workspace()), c_size_t(WORKSPACE_BYTES), c_void_p(stream))


class LibraryCall:
    """A product as a step of a plan. `places`: (address of the word, bytes further on) of A, B, C and the bias."""

    def __init__(self, prepared: Prepared, places: list[tuple[int, int]]):
        self.prepared, self.places = prepared, places

    def launch(self, device) -> None:
        addresses = [c_int64.from_address(word).value + offset if word else 0 for word, offset in self.places]
        self.prepared.run(*addresses, device.stream)
        device.launches += 1
