"""What PyTorch drew and printed: the cases, and `python tests/golden_cases.py` to record them anew (needs torch 2.13)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "golden"
SEEDS = (0, -3, 2 ** 40 + 5)
SIZES = (0, 1, 2, 15, 16, 17, 31, 32, 100, 1000)
LARGE = (4097, 100_000)

EXACT = {
    "rand": lambda t, n: t.rand(n),
    "rand float64": lambda t, n: t.rand(n, dtype=t.float64),
    "uniform_": lambda t, n: t.empty(n).uniform_(-0.3, 0.378),
    "uniform_ permuted": lambda t, n: t.empty(3, n).t().uniform_(-1, 1),
    "randint": lambda t, n: t.randint(-5, 10, (n,), dtype=t.int32),
    "randint 2**28 - 1": lambda t, n: t.randint(0, 2 ** 28 - 1, (n,)),
    "randint 2**28": lambda t, n: t.randint(0, 2 ** 28, (n,)),
    "randint 2**41": lambda t, n: t.randint(-2 ** 40, 2 ** 40, (n,)),
    **{f"random_ {d}": lambda t, n, d=d: t.empty(n, dtype=getattr(t, d)).random_()
       for d in ("int64", "int32", "int16", "int8", "uint8", "bool", "float32", "float64")},
    "random_ from": lambda t, n: t.empty(n, dtype=t.int32).random_(3, None),
    "random_ all": lambda t, n: t.empty(n, dtype=t.int64).random_(-2 ** 63, None),
    "randperm": lambda t, n: t.randperm(n),
    "bernoulli_": lambda t, n: t.empty(n).bernoulli_(0.3),
    "bernoulli": lambda t, n: t.bernoulli(t.linspace(0, 1, n)),
    "bernoulli float64": lambda t, n: t.bernoulli(t.linspace(0, 1, n, dtype=t.float64)),
    "dropout": lambda t, n: t.nn.functional.dropout(t.ones(n), 0.1),
    "dropout permuted": lambda t, n: t.nn.functional.dropout(t.ones(3, n).t(), 0.7),
    "dropout1d": lambda t, n: t.nn.functional.dropout1d(t.ones(2, n, 3), 0.3),
    "geometric_": lambda t, n: t.empty(n).geometric_(0.3),
    "poisson": lambda t, n: t.poisson(t.linspace(0, 30, n)),
    "multinomial 1": lambda t, n: t.multinomial(t.arange(1.0, n + 2), 1),
    "multinomial replaced": lambda t, n: t.multinomial(t.arange(1.0, n + 2).repeat(2, 1), 5, True),
    "multinomial": lambda t, n: t.multinomial(t.arange(1.0, n + 2, dtype=t.float64), n // 3 + 1),
    "Linear": lambda t, n: t.nn.Linear(n + 1, 3).weight.detach(),
}
CLOSE = {
    "randn": lambda t, n: t.randn(n),
    "randn float64": lambda t, n: t.randn(n, dtype=t.float64),
    "normal_": lambda t, n: t.empty(n).normal_(2.0, 3.0),
    "normal_ permuted": lambda t, n: t.empty(3, n).t().normal_(),
    "normal": lambda t, n: t.normal(t.linspace(0, 1, n), t.linspace(0.1, 1, n)),
    "exponential_": lambda t, n: t.empty(n).exponential_(2.5),
    "cauchy_": lambda t, n: t.empty(n, dtype=t.float64).cauchy_(1, 2),
    "log_normal_": lambda t, n: t.empty(n, dtype=t.float64).log_normal_(),
    "trunc_normal_": lambda t, n: t.nn.init.trunc_normal_(t.empty(n), 1.0, 2.0, 0.0, 2.5),
    "trunc_normal_ in a tail": lambda t, n: t.nn.init.trunc_normal_(t.empty(n), 0.0, 1.0, 1.5, 3.0),
    "Embedding": lambda t, n: t.nn.Embedding(n + 1, 3).weight.detach(),
    "mixed": lambda t, n: t.cat([t.randn(3), t.rand(n), t.randn(n), t.randint(0, 9, (5,)).float(), t.randn(2)]),
}
RECORDED = (2, 15, 17, 100)     # sizes whose numbers are kept in the file

PRINTED = [line for line in """
t.tensor(3.)
t.tensor(3)
t.tensor(True)
t.tensor(1e10)
t.tensor([1., float('-inf')])
t.tensor([float('nan'), 1.5, -0.])
t.tensor([0., -0., 0.])
t.tensor([1., 2., 3.])
t.tensor([1., 2000.])
t.tensor([1e-5, 1.])
t.tensor([1.5, 123456789.])
t.tensor([[1, -200], [3, 4]], dtype=t.int16)
t.tensor([[True, False], [False, True]])
t.empty(0)
t.empty(0, 3)
t.empty(0, dtype=t.int64)
t.arange(24).view(2, 3, 4)
t.arange(24.).view(2, 3, 4) / 7
t.arange(100)
t.arange(1001)
t.arange(1200.).view(30, 40)
t.arange(8000).view(20, 20, 20)
t.zeros(2, 3, dtype=t.float64)
t.ones(3, requires_grad=True)
t.ones(30, requires_grad=True) * 1.5
t.ones(2, 3, requires_grad=True).sum()
t.nn.Parameter(t.zeros(2, 3))
t.ones(2, 3).shape
t.tensor([[1., 2], [3, 4]]).max(1)
t.tensor([3., 1, 2]).sort()
t.sparse_coo_tensor(t.arange(60).view(2, 30) * 37 % 50, t.arange(30.) / 7, (50, 50))
t.sparse_coo_tensor(t.zeros(2, 0, dtype=t.int64), t.rand(0), (50, 50))
t.sparse_coo_tensor(t.arange(2000).view(1, -1) % 9, t.ones(2000, 2, dtype=t.float64), (9, 2))
t.eye(40).to_sparse_csr()
t.optim.SGD([{"params": [t.ones(1)]}, {"params": [t.ones(2)], "lr": 1}])
t.finfo(t.float32)
t.iinfo(t.int64)
t.float32
""".splitlines() if line]
OPTIONS = [{}, {"precision": 2}, {"sci_mode": True}, {"sci_mode": False}, {"linewidth": 40}, {"threshold": 5, "edgeitems": 1},
           {"profile": "short"}]


def printed(torch, expression: str, options: dict) -> str:
    """The text of an expression under some print options; the options are put back."""
    torch.set_printoptions(profile="default")
    torch.set_printoptions(**options)
    try:
        return repr(eval(expression, {"t": torch}))
    finally:
        torch.set_printoptions(profile="default")


def record() -> None:
    import torch

    numbers = {}
    for name, draw in {**EXACT, **CLOSE}.items():
        for n in RECORDED:
            torch.manual_seed(SEEDS[1])
            numbers[f"{name}/{n}"] = draw(torch, n).numpy()
    HERE.mkdir(exist_ok=True)
    np.savez_compressed(HERE / "random.npz", **numbers)
    texts = [[expression, options, printed(torch, expression, options)] for expression in PRINTED for options in OPTIONS]
    (HERE / "printing.json").write_text(json.dumps(texts, indent=0))


if __name__ == "__main__":
    record()
