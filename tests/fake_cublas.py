"""cuBLASLt for machines without it: keeps what it is told about products, and computes them in NumPy in the memory of `fake_cuda`."""

from __future__ import annotations

import numpy as np

from antorcha.base import dtype as dt
from antorcha.runtime import cublas

KINDS = {0: np.float32, 1: np.float64, 2: np.float16, 14: np.uint16}


def _number(x) -> int:
    return int(getattr(x, "value", x) or 0)


class Library:
    """`products` lists (description, layouts of both operands and the result, addresses) of what was computed."""

    def __init__(self, driver):
        self.driver = driver
        self.things: dict[int, dict] = {}
        self.products: list[dict] = []
        self.alignments: list[list[int]] = []       # what is said of A, B, C and D, product by product

    def _make(self, pointer, **what) -> int:
        pointer._obj.value = len(self.things) + 1
        self.things[len(self.things) + 1] = what
        return 0

    def cublasLtCreate(self, handle):
        return self._make(handle, handle=True)

    def cublasLtMatmulDescCreate(self, description, compute, scale):
        return self._make(description, compute=_number(compute), scale=_number(scale))

    def cublasLtMatmulDescSetAttribute(self, description, attribute, value, size):
        self.things[_number(description)][_number(attribute)] = value._obj.value or 0
        return 0

    def cublasLtMatrixLayoutCreate(self, layout, kind, rows, columns, line):
        assert _number(line) >= _number(rows)
        return self._make(layout, kind=_number(kind), rows=_number(rows), columns=_number(columns), line=_number(line), batches=1, step=0)

    def cublasLtMatrixLayoutSetAttribute(self, layout, attribute, value, size):
        self.things[_number(layout)][{cublas.BATCHES: "batches", cublas.BATCH_STEP: "step"}[_number(attribute)]] = value._obj.value
        return 0

    def cublasLtMatmulPreferenceCreate(self, preference):
        return self._make(preference)

    def cublasLtMatmulPreferenceSetAttribute(self, preference, attribute, value, size):
        self.things[_number(preference)][_number(attribute)] = value._obj.value
        return 0

    def cublasLtMatmulPreferenceDestroy(self, preference):
        return 0

    def cublasLtMatmulAlgoGetHeuristic(self, handle, description, a, b, c, d, preference, wanted, result, found):
        told = self.things[_number(preference)]
        assert told[cublas.WORKSPACE] == cublas.WORKSPACE_BYTES
        self.alignments.append([told[a] for a in cublas.ALIGNMENTS])
        work = self.things[_number(description)]
        work["bias aligned"] = work.get(cublas.BIAS, 0) & -work.get(cublas.BIAS, 0)
        found._obj.value = 1
        return 0

    def cublasLtMatmul(self, handle, description, alpha, a, first, b, second, beta, c, third, d, fourth, algorithm, workspace, size,
                       stream):
        assert (alpha._obj.value, beta._obj.value) == (1, 0) and _number(third) == _number(fourth) and _number(c) == _number(d)
        told = dict(self.things[_number(description)])
        layouts = [self.things[_number(x)] for x in (first, second, fourth)]
        work = told, layouts, [_number(x) for x in (a, b, d)]
        if not self.driver._captured(stream, lambda to: self._compute(*work)):
            self._compute(*work)
        return 0

    def _compute(self, told: dict, layouts: list[dict], addresses: list[int]) -> None:
        self.products.append(dict(told=told, layouts=layouts))
        self.driver.calls.append(("cublasLtMatmul",))
        first, second, out = (self._matrices(layout, address) for layout, address in zip(layouts, addresses))
        bias = None
        if told.get(cublas.EPILOGUE) == cublas.ADD_BIAS:
            kind = layouts[2]["kind"]
            assert told["bias aligned"] and told[cublas.BIAS] % told["bias aligned"] == 0, "not what the algorithm was chosen for"
            memory = self.driver.memory.at(told[cublas.BIAS], layouts[2]["rows"] * np.dtype(KINDS[kind]).itemsize)
            bias = self._numbers(memory.view(KINDS[kind]), kind)
        for i in range(layouts[2]["batches"]):
            a, b = (self._numbers(m[i], layout["kind"]) for m, layout in zip((first, second), layouts))
            value = (a.T if told.get(cublas.TRANSPOSE_A) else a) @ (b.T if told.get(cublas.TRANSPOSE_B) else b)
            value = value if bias is None else value + bias[:, None]
            kind = layouts[2]["kind"]
            out[i][...] = dt.encode(value.astype(np.float32)) if kind == 14 else value.astype(KINDS[kind])

    @staticmethod
    def _numbers(array: np.ndarray, kind: int) -> np.ndarray:
        return (array.astype(np.uint32) << 16).view(np.float32) if kind == 14 else array.astype(np.float64 if kind == 1 else np.float32)

    def _matrices(self, layout: dict, address: int) -> list[np.ndarray]:
        """Each batch as rows x columns, stored by columns."""
        kind = np.dtype(KINDS[layout["kind"]])
        found = []
        for i in range(layout["batches"]):
            count = layout["line"] * (layout["columns"] - 1) + layout["rows"]
            flat = self.driver.memory.at(address + i * layout["step"] * kind.itemsize, count * kind.itemsize).view(kind)
            found.append(np.lib.stride_tricks.as_strided(flat, (layout["rows"], layout["columns"]),
                                                         (kind.itemsize, kind.itemsize * layout["line"])))
        return found
