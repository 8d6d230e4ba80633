"""Fuzzer: sizes and tensors drawn at random, with which a statement is measured in many forms."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

import antorcha as torch


class ParameterAlias:
    """In a distribution: the value of another parameter."""

    def __init__(self, alias_to: str):
        self.alias_to = alias_to

    def __repr__(self) -> str:
        return f"ParameterAlias[alias_to: {self.alias_to}]"


class FuzzedParameter:
    """A number by a name: `distribution` "uniform" or "loguniform" over minval .. maxval, or a dict of values and their probabilities.
    `strict`: drawn as a number of a dict even if it is an alias's value."""

    def __init__(self, name: str, minval=None, maxval=None, distribution=None, strict: bool = False):
        self._name, self._low, self._high, self.strict = name, minval, maxval, strict
        if distribution is None:
            raise ValueError("FuzzedParameter: expected a distribution, 'uniform', 'loguniform' or a dict of probabilities")
        if isinstance(distribution, dict):
            if abs(sum(distribution.values()) - 1) > 1e-3:
                raise ValueError(f"FuzzedParameter: expected probabilities that add up to 1; received {sum(distribution.values())}")
        elif distribution not in ("uniform", "loguniform") or minval is None or maxval is None:
            raise ValueError(f"FuzzedParameter: expected 'uniform' or 'loguniform' with minval and maxval; received {distribution!r}")
        self._distribution = distribution

    name = property(lambda self: self._name)

    def sample(self, state: np.random.RandomState):
        """A value."""
        if isinstance(self._distribution, dict):
            values = list(self._distribution)
            return values[state.choice(len(values), p=np.array(list(self._distribution.values())) / sum(self._distribution.values()))]
        whole = isinstance(self._low, int) and isinstance(self._high, int)
        if self._distribution == "uniform":
            return int(state.randint(self._low, self._high + 1)) if whole else float(state.uniform(self._low, self._high))
        value = math.exp(state.uniform(math.log(self._low), math.log(self._high)))
        return round(value) if whole else value


class FuzzedTensor:
    """A tensor by a name, its sizes numbers or names of parameters; some are not contiguous."""

    def __init__(self, name: str, size: tuple, steps: tuple | None = None, probability_contiguous: float = 0.5, min_elements=None,
                 max_elements=None, max_allocation_bytes=None, dim_parameter: str | None = None, roll_parameter: str | None = None,
                 dtype=torch.float32, cuda: bool = False, tensor_constructor=None):
        self._name, self._size, self._steps, self._contiguous = name, size, steps, probability_contiguous
        self._least, self._most, self._bytes = min_elements, max_elements, max_allocation_bytes
        self._dim, self._roll, self._dtype, self._cuda = dim_parameter, roll_parameter, dtype, cuda
        self._constructor = tensor_constructor

    name = property(lambda self: self._name)

    def _numbers(self, params: dict, names, missing) -> tuple:
        rank = params[self._dim] if self._dim else len(self._size)
        given = (names or ()) + (missing,) * rank
        return tuple(params[n] if isinstance(n, str) else n for n in given[:rank])

    def satisfies_constraints(self, params: dict) -> bool:
        """Whether the tensor would be neither too small nor too large."""
        size, steps = self._numbers(params, self._size, 1), self._numbers(params, self._steps, 1)
        elements, allocated = math.prod(size), math.prod(map(math.prod, zip(size, steps))) * self._dtype.itemsize
        return ((self._least is None or elements >= self._least) and (self._most is None or elements <= self._most)
                and (self._bytes is None or allocated <= self._bytes))

    def _values(self, size: tuple, params: dict):
        device = "cuda" if self._cuda else "cpu"
        if self._constructor is not None:
            return self._constructor(size=size, dtype=self._dtype, device=device, **params)
        if self._dtype.is_floating_point or self._dtype.is_complex:
            return torch.rand(size, dtype=self._dtype, device=device)
        return torch.randint(0, 2 if self._dtype is torch.bool else 127, size, dtype=self._dtype, device=device)

    def make(self, params: dict, state: np.random.RandomState) -> tuple[Any, dict]:
        """(tensor, what it is)."""
        size, steps = self._numbers(params, self._size, 1), self._numbers(params, self._steps, 1)
        order = list(range(len(size)))
        if state.rand() > self._contiguous and len(size) > 1:
            order = list(state.permutation(len(size)))
        whole = tuple(size[d] * steps[d] for d in order)
        t = self._values(whole, params).permute([order.index(d) for d in range(len(size))])
        t = t[tuple(slice(0, n * s, s) for n, s in zip(size, steps))]
        facts = {"numel": t.numel(), "order": order, "steps": steps, "is_contiguous": t.is_contiguous(), "dtype": str(self._dtype)}
        return t, facts


class FuzzedSparseTensor(FuzzedTensor):
    """A sparse tensor: `sparse_dim` and `nnz` are names of parameters, of the number of sparse dimensions and of values for each element
    of these."""

    def __init__(self, name: str, size: tuple, min_elements=None, max_elements=None, dim_parameter=None, sparse_dim=None, nnz=None,
                 density=None, coalesced=None, dtype=torch.float32, cuda: bool = False):
        super().__init__(name, size, min_elements=min_elements, max_elements=max_elements, dim_parameter=dim_parameter, dtype=dtype,
                         cuda=cuda)
        self._sparse, self._nnz, self._density, self._coalesced = sparse_dim, nnz, density, coalesced

    def make(self, params: dict, state: np.random.RandomState) -> tuple[Any, dict]:
        """(tensor, what it is)."""
        size = self._numbers(params, self._size, 1)
        rank = params[self._sparse] if isinstance(self._sparse, str) else self._sparse or len(size)
        rank = min(rank, len(size))
        places = math.prod(size[:rank])
        if self._nnz is not None:
            count = int(params.get(self._nnz, self._nnz) if isinstance(self._nnz, str) else self._nnz)
        else:
            density = params[self._density] if isinstance(self._density, str) else self._density or 0.1
            count = math.ceil(places * density)
        unique = bool(params.get(self._coalesced, self._coalesced) if isinstance(self._coalesced, str) else self._coalesced)
        flat = np.sort(state.choice(places, min(count, places), replace=False)) if unique else state.randint(0, places, count)
        indices = torch.tensor(np.stack(np.unravel_index(flat, size[:rank])).astype(np.int64))
        values = self._values((len(flat), *size[rank:]), params)
        t = torch.sparse_coo_tensor(indices, values, size)
        t = t.coalesce() if unique else t
        return t, {"numel": math.prod(size), "shape": tuple(size), "is_coalesced": t.is_coalesced(), "sparse_dim": rank,
                   "density": len(flat) / max(1, places), "dtype": str(self._dtype)}


class Fuzzer:
    """Draws parameters until all `constraints` (functions of them, by name) and tensors are content, and makes the tensors."""

    MOST = 1000     # attempts for one draw

    def __init__(self, parameters: list, tensors: list, constraints: list | None = None, seed: int | None = None):
        flat = lambda given: list(itertools.chain(*(p if isinstance(p, (list, tuple)) else [p] for p in given)))
        self._parameters, self._tensors = flat(parameters), flat(tensors)
        self._constraints = list(constraints or ())
        self._seed = int(np.random.RandomState().randint(0, 2**32 - 1, dtype=np.int64)) if seed is None else seed
        self._drawn = self._refused = 0

    @property
    def rejection_rate(self) -> float:
        """The part of all draws that was not content."""
        return self._refused / max(1, self._drawn)

    def _draw(self, state) -> dict:
        for _ in range(self.MOST):
            params = {p.name: p.sample(state) for p in self._parameters}
            for name, value in params.items():
                while isinstance(value, ParameterAlias):
                    value = params[name] = params[value.alias_to]
            self._drawn += 1
            if all(check(**params) for check in self._constraints) and all(t.satisfies_constraints(params) for t in self._tensors):
                return params
            self._refused += 1
        raise ValueError(f"Fuzzer: none of {self.MOST} draws met the constraints. Loosen them.")

    def take(self, n: int):
        """`n` times (tensors by name, what they are, parameters)."""
        state = np.random.RandomState(self._seed)
        torch.manual_seed(int(state.randint(0, 2**31)))
        for _ in range(n):
            params = self._draw(state)
            made = {t.name: t.make(params, state) for t in self._tensors}
            yield {name: t for name, (t, _) in made.items()}, {name: facts for name, (_, facts) in made.items()}, params
