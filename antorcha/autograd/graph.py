"""torch.autograd.graph: the graph of derivatives, and what it keeps."""

from __future__ import annotations

from contextlib import contextmanager
from typing import NamedTuple

from ..core import autograd
from ..core.autograd import GradNode as Node
from ..core.autograd import edge_of, place_of
from ..core.tensor import Tensor, alias
from ..ops.factory import full_of

_forbidden: list[str] = []  # the messages of disable_saved_tensors_hooks, the innermost last


class saved_tensors_hooks:
    """Inside, a tensor x that an operation keeps for the backward pass is kept as pack_hook(x); unpack_hook gives it back when it
    is needed. Hooks within hooks: the innermost are used."""

    def __init__(self, pack_hook, unpack_hook) -> None:
        self._hooks = (pack_hook, unpack_hook)

    def __enter__(self):
        if _forbidden:
            raise RuntimeError(_forbidden[-1])
        autograd.saving.append(self._hooks)

    def __exit__(self, *exc):
        autograd.saving.pop()


class save_on_cpu(saved_tensors_hooks):
    """Inside, what operations keep is kept in the CPU's memory, and copied back to its device when it is needed."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        def pack(tensor):
            held = tensor.cpu()
            return tensor.device, held.pin_memory() if pin_memory else held

        def unpack(packed):
            device, held = packed
            return held.to(device, non_blocking=pin_memory)

        super().__init__(pack, unpack)


@contextmanager
def disable_saved_tensors_hooks(error_message: str):
    """Inside, `saved_tensors_hooks` raises RuntimeError(error_message)."""
    if autograd.saving:
        raise RuntimeError(error_message)
    _forbidden.append(error_message)
    try:
        yield
    finally:
        _forbidden.pop()


@contextmanager
def allow_mutation_on_saved_tensors():
    """Inside, what operations keep may be written in place: the backward pass sees the old values. (A copy that is not written
    costs nothing.)"""

    def pack(tensor):
        held = alias(tensor, tensor._meta)
        held.storage = tensor.storage.copy()
        return held

    with saved_tensors_hooks(pack, lambda held: held):
        yield


class GradientEdge(NamedTuple):
    """Where the cotangent of a tensor goes: output `output_nr` of `node`. It stands for the tensor, without keeping its value."""

    node: Node
    output_nr: int
    ownership_token: object = None


def get_gradient_edge(tensor) -> GradientEdge:
    """The GradientEdge of a tensor that requires grad."""
    if not tensor.requires_grad:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    return GradientEdge(autograd.accumulator(tensor), 0) if tensor.is_leaf else GradientEdge(*place_of(edge_of(tensor)))


def tensor_at(edge: GradientEdge) -> Tensor:
    """A tensor (without a value of its own) whose cotangent goes to `edge`."""
    node, nr = edge.node, edge.output_nr
    if isinstance(node, autograd.AccumulateGrad):
        return node.variable
    m = node.outputs[nr]
    t = full_of(m.view.shape, 0, m.dtype)
    t._rg, t._grad_fn, t._nr = True, node, nr
    return t


def increment_version(tensor) -> None:
    """Count a write that happened behind autograd's back, so that a backward pass that needs the old value raises."""
    for t in (tensor,) if isinstance(tensor, Tensor) else tensor:
        t.storage.version += 1


def region_activation_memory_budget(budget: float):
    """RuntimeError: what is stored and what recomputed is decided for each recording as a whole, not for regions."""
    raise RuntimeError(
        "region_activation_memory_budget: expected to be called in a region compiled by torch.compile; recordings are planned "
        "as a whole here. Use torch.utils.checkpoint to recompute the values of a part of a model."
    )


def set_warn_on_accumulate_grad_stream_mismatch(enabled: bool) -> None:
    """Accepted for compatibility: each device has one stream."""


def set_override_stale_capture_stream(enabled: bool) -> None:
    """Accepted for compatibility: each device has one stream."""


def _visited(tensors) -> list[bool]:
    """Which of the tensors the backward pass that runs now comes by."""
    roots, needed = autograd.passes[-1]
    seen, stack = set(), [node for node, _ in roots]
    while stack:
        node = stack.pop()
        if node not in seen and (needed is None or node in needed):
            seen.add(node)
            stack.extend(autograd._successors(node))
    return [t.requires_grad and place_of(edge_of(t))[0] in seen for t in tensors]


class MultiHandle:
    """`remove()` takes several hooks away."""

    def __init__(self, handles: tuple):
        self.handles = handles

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.remove()


def register_multi_grad_hook(tensors, fn, *, mode: str = "all"):
    """Call `fn` in a backward pass. mode "all": when the gradients of all `tensors` that the pass comes by are known, with the
    list of them (None for the others); "any": with the first of them. Returns a handle to remove the hook."""
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    tensors = list(tensors)
    current: dict = {}  # of the running pass: what is awaited, and what has come

    def hook_of(i):
        def hook(g):
            of = autograd.passes[-1]
            if current.get("pass") is not of:
                current.update({"pass": of, "left": sum(_visited(tensors)), "grads": [None] * len(tensors)})
            if mode == "any":
                if current["left"] is not None:
                    current["left"] = None
                    fn(g)
                return
            current["grads"][i] = g
            current["left"] -= 1
            if not current["left"]:
                grads = current["grads"]
                current.clear()
                fn(grads)

        return hook

    return MultiHandle(tuple(t.register_hook(hook_of(i)) for i, t in enumerate(tensors) if t.requires_grad))


__all__ = [
    "GradientEdge",
    "Node",
    "allow_mutation_on_saved_tensors",
    "disable_saved_tensors_hooks",
    "get_gradient_edge",
    "increment_version",
    "register_multi_grad_hook",
    "save_on_cpu",
    "saved_tensors_hooks",
]
