"""Dispatch keys: PyTorch's names for the implementations of an operator. Here they say for which tensors a kernel of `torch.library`
is meant."""

from __future__ import annotations

import enum

from ..core.tensor import Tensor


class DispatchKey(enum.Enum):
    """The keys that programs name."""

    Undefined = 0
    Dense = 1
    CPU = 2
    CUDA = 3
    Meta = 4
    SparseCPU = 5
    BackendSelect = 6
    Python = 7
    Functionalize = 8
    ADInplaceOrView = 9
    AutogradOther = 10
    AutogradCPU = 11
    AutogradCUDA = 12
    AutocastCPU = 13
    AutocastCUDA = 14
    FuncTorchBatched = 15
    PythonTLSSnapshot = 16
    PreDispatch = 17
    Autograd = 18
    CompositeImplicitAutograd = 19
    CompositeExplicitAutograd = 20
    Autocast = 21
    XPU = 22
    MPS = 23
    AutogradXPU = 24
    AutogradMPS = 25
    AutocastXPU = 26
    AutocastMPS = 27
    SparseCUDA = 28
    QuantizedCPU = 29


class DispatchKeySet:
    """Some dispatch keys; the one that comes latest in their order is asked first."""

    def __init__(self, *keys: DispatchKey):
        self._keys = frozenset(keys) - {DispatchKey.Undefined}

    @classmethod
    def full(cls) -> DispatchKeySet:
        return cls(*DispatchKey)

    def has(self, key: DispatchKey) -> bool:
        return key in self._keys

    def add(self, key: DispatchKey) -> DispatchKeySet:
        return DispatchKeySet(*self._keys, key)

    def remove(self, key: DispatchKey) -> DispatchKeySet:
        return DispatchKeySet(*(self._keys - {key}))

    def highestPriorityTypeId(self) -> DispatchKey:
        return max(self._keys, key=lambda k: k.value, default=DispatchKey.Undefined)

    def __or__(self, other: DispatchKeySet) -> DispatchKeySet:
        return DispatchKeySet(*(self._keys | other._keys))

    def __and__(self, other: DispatchKeySet) -> DispatchKeySet:
        return DispatchKeySet(*(self._keys & other._keys))

    def __sub__(self, other: DispatchKeySet) -> DispatchKeySet:
        return DispatchKeySet(*(self._keys - other._keys))

    def __contains__(self, key) -> bool:
        return self.has(key)

    def __eq__(self, other) -> bool:
        return isinstance(other, DispatchKeySet) and self._keys == other._keys

    def __hash__(self) -> int:
        return hash(self._keys)

    def __repr__(self) -> str:
        return f"DispatchKeySet({', '.join(k.name for k in sorted(self._keys, key=lambda k: k.value))})"


class ExcludeDispatchKeyGuard:
    """A context without some dispatch keys. Nothing is chosen by keys while operators are recorded: it changes nothing."""

    def __init__(self, keys: DispatchKeySet):
        self.keys = keys

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error) -> None:
        pass


class Tag(enum.Enum):
    """What an operator declares about itself (`torch.library`)."""

    core = 0
    cudagraph_unsafe = 1
    data_dependent_output = 2
    dynamic_output_shape = 3
    flexible_layout = 4
    generated = 5
    inplace = 6
    inplace_view = 7
    maybe_aliasing_or_mutating = 8
    needs_contiguous_strides = 9
    needs_exact_strides = 10
    needs_fixed_stride_order = 11
    nondeterministic_bitwise = 12
    nondeterministic_seeded = 13
    out = 14
    out_variant = 15
    pointwise = 16
    pt2_compliant_tag = 17
    reduction = 18
    view_copy = 19


def _dispatch_keys(tensor: Tensor) -> DispatchKeySet:
    """The keys of a tensor."""
    kind = "CPU" if tensor.is_cpu else "CUDA"
    return DispatchKeySet(DispatchKey[kind], DispatchKey.ADInplaceOrView, DispatchKey[f"Autograd{kind}"])
