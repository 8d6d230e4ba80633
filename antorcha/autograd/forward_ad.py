"""torch.autograd.forward_ad: tensors that carry a tangent.

A dual tensor's history begins at a seed that holds the tangent; `unpack_dual` finds the seeds that a tensor was computed from and
pushes their tangents forward (`func.derivatives`). To be told apart, duals require grad, and so does what is computed from them.
"""

from __future__ import annotations

from typing import NamedTuple

from ..base.grad_mode import mode, set_grad
from ..core.autograd import edge_of, place_of
from ..core.tensor import Tensor
from ..func.derivatives import Pushforward, escapes, released, seed

_levels: list[Level] = []


class Level:
    """The seeds made within a `dual_level`, and their tangents."""

    def __init__(self):
        self.tangents: dict = {}
        self.outer = mode.grad


class UnpackedDualTensor(NamedTuple):
    """A tensor without its tangent, and the tangent (None where there is none)."""

    primal: Tensor
    tangent: Tensor | None


def enter_dual_level() -> int:
    """Begin a level of forward derivatives; returns its number."""
    if _levels:
        raise RuntimeError("Nested forward mode AD is not supported at the moment. Use torch.func.jvp within torch.func.jvp.")
    _levels.append(Level())
    set_grad(True)
    return len(_levels) - 1


def exit_dual_level(*, level=None) -> None:
    """End the level: its tangents are forgotten."""
    if not _levels:
        raise RuntimeError("Trying to exit a forward AD level but no level exists, make sure to enter_dual_level() first.")
    set_grad(_levels.pop().outer)


class dual_level:
    """A level of forward derivatives, as a context."""

    def __enter__(self):
        return enter_dual_level()

    def __exit__(self, *exc):
        exit_dual_level()


def make_dual(tensor, tangent, *, level=None) -> Tensor:
    """A tensor like `tensor` that carries `tangent`, of its shape and dtype."""
    if not _levels:
        raise RuntimeError(
            "Trying to create a dual Tensor for forward AD but no level exists, make sure to enter_dual_level() first."
        )
    if tensor.dtype.kind not in "fc":
        raise ValueError(f"Expected primal to be floating point or complex, but got: {tensor.dtype}")
    if tangent.dtype.kind not in "fc":
        raise ValueError(f"Expected tangent to be floating point or complex, but got: {tangent.dtype}")
    if tangent.shape != tensor.shape:
        raise RuntimeError(
            "Trying to set a forward gradient that has a different size than that of the original Tensor, this is not supported. "
            f"Tensor is of size {list(tensor.shape)} while the given forward gradient is of size {list(tangent.shape)}."
        )
    dual = seed(tensor, _levels[-1].outer)
    _levels[-1].tangents[dual._grad_fn] = tangent
    return dual


def _seeds(tensor, tangents: dict) -> list:
    """The seeds of the level that `tensor` was computed from."""
    if not tensor._rg:
        return []
    found, seen, stack = [], set(), [place_of(edge_of(tensor))[0]]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in tangents:
            found.append(node)
        elif not isinstance(node, Tensor):
            stack.extend([place_of(e)[0] for e in node.edges if e is not None])
    return found


def unpack_dual(tensor, *, level=None) -> UnpackedDualTensor:
    """(primal, tangent) of a tensor computed from duals; the tangent is None for one that is not."""
    nodes = _seeds(tensor, _levels[-1].tangents) if _levels and isinstance(tensor, Tensor) else []
    if not nodes:
        return UnpackedDualTensor(tensor, None)
    level, own = _levels[-1], set(nodes)
    tangents = [level.tangents[n] for n in nodes]
    further = level.outer and (escapes([tensor], own) or any(t._rg for t in tangents))
    (tangent,) = Pushforward([tensor], nodes)(tangents, further)
    return UnpackedDualTensor(released(tensor, own, level.outer), tangent)


__all__ = ["UnpackedDualTensor", "dual_level", "enter_dual_level", "exit_dual_level", "make_dual", "unpack_dual"]
