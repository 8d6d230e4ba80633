"""Writing to tensors in place: in the storage, and in the history of a tensor, of its base and of its views."""

from __future__ import annotations

from ..base import config
from ..base import dtype as dt
from ..base.formats import contiguous_format
from ..base.grad_mode import mode
from ..graph import tape
from ..graph.node import Node, Static, dense
from ..graph.node import view as make_view
from ..ops import factory, placement, record
from ..ops import pointwise as pw
from ..ops import view as view_ops
from ..ops.layout import fitting
from ..ops.overlap import check_apart, check_once
from ..ops.record import core, meta, number, rounded
from ..ops.strides import fills, of_format
from . import at_once, autograd
from .arrays import tensor
from .autograd import SpecialNode, edge_of
from .storage import Storage
from .tensor import Tensor, contiguous, flat_of, make, tensor_on

_state = tape.state


def inplace(t: Tensor, function, args, kwargs=None, name: str = "in-place", apart: bool = False, repeated: bool = False) -> Tensor:
    """t = function(t, *args), in place: in the storage, and in the history of t and of its base and views.

    RuntimeError if an argument lies partly in the memory of t (or wholly, if they are to be `apart`), or if elements of t share memory.
    They may where what is written to each does not depend on what it was (`repeated`); numbers may then come from anywhere."""
    if kwargs is None:
        kwargs = {}
    try:
        if not (repeated or t._meta.view.dense):
            check_once(name, t)
    except AttributeError:
        record.check_tensor(name, "input", t, 1)
        raise
    tracked, storage = t._rg, t.storage
    for a in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(a, Tensor):
            tracked = tracked or a._rg
            if a.storage is storage and (apart or not repeated):
                check_apart(name, t, (a,), apart)
        elif apart and type(a) in (list, tuple):
            check_apart(name, t, a, True)
    if not (tracked and mode.grad):
        if len(args) == 1 and not kwargs and at_once.change(t, function, args[0]):
            return t
        result = function(t, *args, **kwargs)
        write(*(_once(t, result) if repeated and t.numel() and 0 in t._meta.view.strides else (t, result)))
        return t
    check_inplace(t)
    old = tensor_on(t.storage.copy(), t._meta)
    old._rg, old._grad_fn, old._nr = t._rg, t._grad_fn, t._nr
    result = function(old, *args, **kwargs)
    write(t, result)
    _rewrite_history(t, result)
    return t


def _once(t: Tensor, result: Tensor) -> tuple[Tensor, Tensor]:
    """What is written to elements of `t` that share memory, as something written to elements that do not: of those that share it the last
    one that changed."""
    target, result = t, result.to(t.dtype)
    for d, (n, step) in enumerate(zip(t._meta.view.shape, t._meta.view.strides)):
        if n > 1 and not step:
            kept = (result == target) | (result != result) & (target != target)
            order = factory.arange(1, n + 1).view((n,) + (1,) * (t.dim() - d - 1))
            result = result.gather(d, (~kept * order).argmax(d, keepdim=True))
            target = target.narrow(d, 0, 1)
    return target, result


def _inplace_replacing(t: Tensor, function, src) -> Tensor:
    """Like `inplace` for operations that read nothing of the old value."""
    tracked = mode.grad and (t._rg or (src is not None and src._rg))
    if tracked:
        check_inplace(t)
    result = function(None)
    write(t, result)
    if tracked:
        _rewrite_history(t, result)
    return t


def check_inplace(t: Tensor) -> None:
    """RuntimeError for a leaf that requires grad, or a view of one, which must not be changed where derivatives are recorded."""
    if t._rg and t._grad_fn is None:
        raise RuntimeError(
            "a leaf Variable that requires grad is being used in an in-place operation. Do it inside torch.no_grad(), or use "
            "the form without the trailing underscore."
        )
    if t._base is not None and t._base._rg and t._base._grad_fn is None:
        raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation. Write to it inside "
                           "torch.no_grad(), or to a clone().")


def write(t: Tensor, result: Tensor) -> None:
    """Store the value of `result` into `t`'s elements."""
    m, r, storage = t._meta, result._meta, t.storage
    if _state.rewriter is not None and _state.vmap is not None:
        _state.vmap.check_write(t, result)
    if r is m and m.view.dense:
        fresh = result.storage
        if type(fresh) is Storage and 0 < m.view.numel == storage.numel == fresh.node.form.numel:
            if not t._untracked:
                storage.version += 1
            storage.write(fresh.node)
            return
    if _state.devices and r.device != m.device:
        result = _on_one_device(t, result)
        m, r = t._meta, result._meta
    if r.view.shape != m.view.shape:
        if record.broadcast_shapes("in-place", r.view.shape, m.view.shape) != m.view.shape:
            raise RuntimeError(f"output with shape {list(m.view.shape)} doesn't match the broadcast shape {list(r.view.shape)}")
    if r.dtype is not m.dtype:
        if dt.CATEGORY[r.dtype.kind] > dt.CATEGORY[m.dtype.kind]:
            raise RuntimeError(
                f"result type {_NAMES.get(r.dtype, r.dtype)} can't be cast to the desired output type {_NAMES.get(m.dtype, m.dtype)}"
            )
        with autograd.no_grad():
            result = pw.cast(result, m.dtype)
        r = result._meta
    if not t._untracked:
        storage.version += 1
    v = m.view
    if v.numel == 0:
        return
    if r.view is v and v.numel == storage.numel == result.storage.numel and v.offset == 0 and fills(v):
        storage.write(result.storage.copy().node if result.storage.shared else result.storage.node)
        return
    n = storage.numel
    node = Node.of(view_ops.SCATTER, (storage.node, result.storage.node), (dense((n,)), record.broadcast_view(r.view, v.shape)),
                Static(casts=(m.dtype, m.dtype), combine="set", region=v), (n,), n, m.dtype)
    tape.record(node)
    storage.write(node)
    if _state.urgent or config.eager:
        tape.settle()


def _on_one_device(t: Tensor, result: Tensor) -> Tensor:
    """`result` where `t` is. If `t` was made by an operator for its own use and `result` is on a GPU, `t` goes there."""
    if t._meta.device is None and result.is_cuda:
        flat = placement.place(flat_of(t.storage, t._meta), result._meta.device)
        t.storage.write(flat.storage.node)
        t._meta = meta(t._meta.view, t._meta.dtype, result._meta.device)
        return result
    return placement.place(result, t._meta.device or "cpu")


_NAMES = {dt.float32: "Float", dt.float64: "Double", dt.int64: "Long", dt.int32: "Int", dt.int16: "Short", dt.int8: "Char",
          dt.uint8: "Byte", dt.bool_: "Bool", dt.float16: "Half", dt.bfloat16: "BFloat16"}


class CopySlices(SpecialNode):
    """A write through a view: the base's cotangent without the region, and the region's for what was written."""

    __slots__ = ("region", "base", "value_meta")

    def backward(self, grads):
        g, region, base = grads[0], self.region, self.base
        plain = base.offset == 0 and base.strides == dense(base.shape).strides
        if plain:
            flat = g.contiguous()
        else:       # the region is told in coordinates of the base's memory
            extent = 1 + base.offset + sum((n - 1) * t for n, t in zip(base.shape, base.strides))
            flat = core.overwrite_region(factory.full_of((extent,), 0, g._meta.dtype, g._meta.device), base, g)
        before = None
        if self.edges[0] is not None:
            zero = factory.full_of(region.shape, 0, g._meta.dtype, g._meta.device)
            before = core.overwrite_region(flat, region, zero)
            before = before if plain else view_ops.as_strided_(before, base.shape, base.strides, base.offset)
        after = view_ops.as_strided_(flat, region.shape, region.strides, region.offset)
        return [before, autograd.reduce_to(after, self.value_meta)]


class Overwritten(SpecialNode):
    """All of a tensor replaced by constants: it goes on requiring grad, and what it was gets zeros."""

    __slots__ = ()

    def backward(self, grads):
        return [core.zeros(self.outputs[0])]


def _rewrite_history(t: Tensor, result: Tensor) -> None:
    base = t._base
    if base is None:
        if t._rg and not result._rg:
            node = Overwritten()
            node.edges, node.outputs = (edge_of(t),), t._meta.alone
            t._grad_fn, t._nr = node, 0
        else:
            t._rg, t._grad_fn, t._nr = result._rg, result._grad_fn, result._nr
        base = t
        changed = bool(base._views)
    else:
        if not (result._rg or base._rg):
            return
        node = CopySlices()
        node.edges = (edge_of(base) if base._rg else None, edge_of(result) if result._rg else None)
        node.outputs = (base._meta,)
        node.region, node.base, node.value_meta = t._meta.view, base._meta.view, result._meta
        base._rg, base._grad_fn, base._nr = True, node, 0
        changed = True
    if changed and base._rg:
        for reference in base._views or ():
            v = reference()
            if v is not None and v.storage is base.storage:
                m, v._nr = v._meta.view, 0
                record.attach(view_ops.as_strided_.record, v, (base, m.shape, m.strides, m.offset))


@record.operator(name="region", public=False, grad=dict(
    base=lambda g, region: core.overwrite_region(g, region, factory.full_of(region.shape, 0, g._meta.dtype, g._meta.device)),
    value=lambda g, region: view_ops.as_strided_(g.contiguous(), region.shape, region.strides, region.offset)))
def overwrite_region(base: Tensor, region, value: Tensor) -> Tensor:
    """A dense tensor with one region (in coordinates of its flat value) replaced."""
    return _region(base, region, value, "set")


@record.operator(name="region_sum", public=False, grad=dict(
    base=lambda g: g, value=lambda g, region: view_ops.as_strided_(g.contiguous(), region.shape, region.strides, region.offset)))
def add_region(base: Tensor, region, value: Tensor) -> Tensor:
    """A dense tensor with `value` added at one region (in coordinates of its flat value), which may repeat elements."""
    return _region(base, region, value, "set" if not _overlaps(region) else "sum")


def _overlaps(v) -> bool:
    """Whether an element may be read twice (strides that do not nest)."""
    reach = 0
    for t, n in sorted((abs(t), n) for n, t in zip(v.shape, v.strides) if n > 1):
        if t <= reach:
            return True
        reach += t * (n - 1)
    return False


def _region(base, region, value, combine):
    whole = dense(base._meta.view.shape)
    if not base._meta.view.dense:
        base = contiguous(base)
    if region.numel == 0:
        return base.clone()
    d = base._meta.dtype
    if _state.devices:
        base, value = placement.together("write", (base, value))
    node = Node.of(view_ops.SCATTER, (base.storage.node, value.storage.node),
                (dense((whole.numel,)), record.broadcast_view(value._meta.view, region.shape)),
                Static(casts=(d, d), combine=combine, region=region), whole.shape, whole.numel, d)
    return make(node, meta(whole, d, base._meta.device))


# -- methods -----------------------------------------------------------------------------------------------------

def copy_(self: Tensor, src, non_blocking=False):
    """Take over the values of `src`, broadcast and converted to this dtype; returns the tensor."""
    if not isinstance(src, Tensor):
        src = tensor(src)
    check_once("copy_", self)
    if src.storage is self.storage:
        check_apart("copy_", self, (src,), False)
    return taking(self, src)


def taking(self: Tensor, src: Tensor) -> Tensor:
    """`copy_` of a tensor that may lie anywhere."""
    if at_once.copy(self, src):
        return self
    lead = record.broadcast_shapes("copy_", src._meta.view.shape, self._meta.view.shape)
    if lead != self._meta.view.shape:
        raise RuntimeError(f"The expanded size of the tensor must match: copy_ of shape {list(src.shape)} into {list(self.shape)}. "
                           "(output with shape doesn't match the broadcast shape)")
    target = self

    def copied(_):
        x = rounded(src, target._meta.dtype)
        return x.clone() if x is src else x
    return _inplace_replacing(self, copied, src)


def fill_(self, value):
    """Set every element to one value, a number or a tensor of one element; returns the tensor."""
    if isinstance(value, Tensor):
        return self.copy_(value)
    if self._rg and mode.grad:
        return inplace(self, record.RECORDS["fill"].call, (value,), None, "fill_", False, True)
    if at_once.fill(self, value):
        return self
    d, shape = self._meta.dtype, self._meta.view.shape
    value = number(fitting(value, d))
    return _inplace_replacing(self, lambda _: factory.full_of(shape, value, d, self._meta.device), None)


def zero_(self):
    """Set every element to 0; returns the tensor."""
    return self.fill_(0)


def resize_(self, *shape, memory_format=None):
    """Give this tensor another shape on the same storage, which grows if need be; what is new is not initialised."""
    if self._rg:
        raise RuntimeError("resize_: cannot resize variables that require grad. Resize what it shares memory with: x.detach().resize_(...)")
    shape = view_ops.sizes("resize_", shape)
    want = of_format("resize_", shape, memory_format or contiguous_format)
    have = self.storage.numel
    if want.numel > have and self.storage.shared:
        self.storage.resize(want.numel)
    elif want.numel > have:
        grown = factory.full_of((want.numel,), 0, self._meta.dtype, self._meta.device)
        if have:
            grown.as_strided((have,), (1,), 0).copy_(flat_of(self.storage, self._meta))
        self.storage.write(grown.storage.node)
    self._meta = meta(want, self._meta.dtype, self._meta.device)
    return self


def set_(self, source=None, storage_offset=0, size=None, stride=None):
    """Make this tensor one on the memory of another tensor or of a storage."""
    if isinstance(source, Tensor):
        self.storage, self._meta = source.storage, source._meta
    elif source is None:
        empty = factory.empty(0, dtype=self.dtype, device=self.device)
        self.storage, self._meta = empty.storage, empty._meta
    else:
        from .untyped import reread
        cell = reread(source.cell, self.dtype)
        size = tuple(size) if size is not None else (cell.numel,)
        stride = tuple(stride) if stride is not None else dense(size).strides
        self.storage, self._meta = cell, meta(make_view(size, stride, storage_offset), cell.dtype, self._meta.device)
    return self
