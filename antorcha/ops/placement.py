"""On which device tensors are: moving them, and bringing operands together.

A tensor's `_meta.device` is "cpu", such as "cuda:0", or "meta", where nothing is ever computed.
None is that of a tensor which an operator made for its own use (a constant, a
mask): it is computed on the CPU, but goes wherever it is needed.
"""

from __future__ import annotations

import numpy as np

from ..base import device as base_device
from ..base.device import TYPES
from ..base.device import device as Device
from ..graph import tape
from ..graph.node import Node, leaf
from ..runtime.buffer import Buffer
from ..runtime.void import NO_DATA
from .record import core, meta, operator

Tensor = "Tensor"


def device_name(device) -> str:
    """The device of a new tensor as a string; RuntimeError for one that is not here."""
    if device is None:
        if core.default_device == "meta":
            tape.state.devices = True
        return core.default_device
    if isinstance(device, int):
        device = Device("cuda", device)
    kind, _, number = str(device).partition(":")
    if kind == "cpu":
        return "cpu"
    if kind == "cuda":
        from ..runtime import cuda

        cuda.check_index(int(number) if number else cuda.current_index())
        tape.state.devices = tape.state.gpus = True
        return f"cuda:{number or cuda.current_index()}"
    if kind == "meta":
        tape.state.devices = True
        return "meta"
    if kind in TYPES:
        raise RuntimeError(f"device '{device}' is not available in antorcha. Use device='cpu' or device='cuda'.")
    raise RuntimeError(f"device: expected one of cpu, meta, cuda (optionally with an index); received '{device}'.")


def place(t: Tensor, device: str, wait: bool = True) -> Tensor:
    """`t` on a device: itself, if it is there."""
    m = t._meta
    if m.device == device:
        return t
    node = t.storage.node
    if m.device is None and device == "cpu":
        t._meta = meta(m.view, m.dtype, device)
        return t
    if m.device is None and node.buffer is None and not any(type(s) is Node for s in node.inputs):
        made = Node.of(node.op, node.inputs, node.views, node.static._replace(device=device), node.shape, node.numel, node.dtype)
        return core.make(made, meta(m.view, m.dtype, device))
    return move(t, m.device or "cpu", device, wait)


@operator(name="to_device", title="ToCopy", public=False, grad=dict(input=lambda g, source: place(g, source)))
def move(input: Tensor, source: str, target: str, wait) -> Tensor:
    """A copy on another device. Strides stay, where the elements fill memory."""
    v = input._meta.view
    if source == "meta":
        raise NotImplementedError(f"{NO_DATA} Values come with torch.nn.Module.to_empty(device=...), or by loading them.")
    if not v.numel or target == "meta":
        return core.blank(v.shape, input.dtype, target)
    if not (v.numel == input.storage.numel and v.offset == 0 and core.fills(v)):
        input = core.contiguous(input)
    storage, m = input.storage, input._meta
    if storage.node.buffer is None:
        tape.flush_only(source)
    buffer = _copied(storage.buffer(), source, target, wait)
    return core.tensor_on(core.Storage.of(leaf(buffer, storage.numel, m.dtype)), meta(m.view, m.dtype, target))


def _copied(buffer, source: str, target: str, wait: bool):
    """A buffer on the device `target` with the bytes of one on `source`."""
    from ..runtime import cuda

    if source == "cpu":
        return cuda.named(target).upload(np.asarray(buffer), wait)
    if target == "cpu":
        fresh = Buffer.allocate(buffer.nbytes)
        cuda.named(source).download(buffer.address, np.asarray(fresh))
        return fresh
    return cuda.named(target).upload(buffer.array(np.uint8, buffer.nbytes))


def common(tensors) -> str | None:
    """The device of the result of an operator of these tensors, which are together."""
    for t in tensors:
        if t._meta.device is not None:
            return t._meta.device
    return None


def together(name: str, args, lenient=(), names=()):
    """The arguments with their tensors on one device. What operators made for themselves moves there, and so do CPU tensors without
    dimensions and those whose positions are in `lenient`; any other difference is a RuntimeError, which tells `names` if there are any."""
    elsewhere = [a._meta.device for a in args if isinstance(a, core.Tensor) and a._meta.device not in (None, "cpu")]
    if not elsewhere:
        return args
    target, placed = elsewhere[0], []
    for i, a in enumerate(args):
        if isinstance(a, core.Tensor) and a._meta.device != target:
            if a._meta.device is not None and i not in lenient and (a._meta.device != "cpu" or a._meta.view.shape):
                error = RuntimeError()
                error.devices = target, a._meta.device
                blame(error, name, zip(names, args))
                raise error
            a = place(a, target)
        placed.append(a)
    return placed


def apart(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are on different devices; what operators made for themselves is anywhere."""
    here, there = a._meta.device, b._meta.device
    return here != there and here is not None and there is not None


def blame(error: RuntimeError, what: str, named) -> None:
    """Let an error of `together` speak of the operator `what`, and of its arguments, (name, value) each, where these differ."""
    target, other = error.devices
    places: dict[str, list[str]] = {}
    for name, value in named:
        parts = [(f"{name}[{i}]", x) for i, x in enumerate(value)] if isinstance(value, (list, tuple)) else [(name, value)]
        for part, x in parts:
            if isinstance(x, core.Tensor) and x._meta.device is not None:
                places.setdefault(x._meta.device, []).append(part)
    if target in places and other in places:
        found = "; ".join(f"on {device}: {', '.join(parts)}" for device, parts in places.items())
        hint = f" {found[0].upper()}{found[1:]}. Move what is elsewhere, for example: {places[other][0]}.to('{target}')."
    elif error.args:
        return      # the error is about what the operator made, or holds
    else:
        hint = f" Move one of them: x.to('{target}'), or x.cpu()."
    error.args = f"{what}: Expected all tensors to be on the same device, but found at least two devices, {target} and {other}!{hint}",


def settled(result, args):
    """What an operator made on the CPU from values that are elsewhere, where these are."""
    target = _elsewhere(args)
    if target is None:
        return result
    if isinstance(result, core.Tensor):
        return place(result, target) if result._meta.device is None else result
    if isinstance(result, tuple):
        parts = [settled(r, args) for r in result]
        return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
    return [settled(r, args) for r in result] if isinstance(result, list) else result


def _elsewhere(args) -> str | None:
    for a in args:
        if isinstance(a, core.Tensor):
            if a._meta.device not in (None, "cpu"):
                return a._meta.device
        elif isinstance(a, (tuple, list)):
            found = _elsewhere(a)
            if found is not None:
                return found
    return None


def loose(t: Tensor) -> Tensor:
    """Mark a tensor as made by an operator for its own use."""
    t._meta = meta(t._meta.view, t._meta.dtype, None)
    return t


def _exchange_default(new) -> str:
    """The device of new tensors, for `with device:`."""
    old, core.default_device = core.default_device, device_name(new)
    return old


base_device.exchange_default = _exchange_default
