"""The storage: a cell shared by a tensor and all its views.

A cell holds a node: a value in memory or one still pending. Writing replaces the node by "the old value with this
region assigned", so aliasing lives here and nowhere else, and a copy is a second cell holding the same node. `version`
counts the writes; autograd compares it.

When an address is handed to the outside (`numpy()`, DLPack, `data_ptr()`), the cell becomes a `SharedStorage`: its value must stay
at that address, and since the outside may read or write there at any time, what writes to it is executed at once, and what reads it
reads a copy of it, or is executed at once where that would be large.
"""

from __future__ import annotations

import ctypes
from operator import attrgetter

from ..graph import tape
from ..graph.node import Lanes, Node, held, leaf
from ..runtime import flight
from ..runtime.buffer import Buffer

IN_VMAP = ("vmap: It looks like you're calling .item() on a Tensor, or asking in another way for the value of one that stands for a "
           "whole batch. Expected operations that need no value; use torch.where in place of data-dependent control flow, and read "
           "values outside of vmap.")


class Storage:
    node: Node
    version: int
    __slots__ = ("node", "version", "__weakref__")

    @staticmethod
    def of(node: Node) -> Storage:
        """A cell with this value. (No `__init__`: see `Node`.)"""
        storage = Storage()
        storage.node, storage.version = node, 0
        return storage

    dtype, numel = property(attrgetter("node.form.dtype")), property(attrgetter("node.form.numel"))

    @property
    def shared(self) -> bool:
        return False

    def write(self, node: Node) -> None:
        """Replace the value."""
        if tape.state.kept is None or not tape.state.kept(self, node):
            self.node = node

    def copy(self) -> Storage:
        """Another cell with this value."""
        return Storage.of(self.node)

    def buffer(self) -> Buffer:
        """The value in memory, computed now if it was pending."""
        if tape.state.watch is not None:
            tape.state.watch.looked()
        if self.node.buffer is None:
            if type(self.node.inputs) is Lanes:
                raise RuntimeError(IN_VMAP)
            tape.flush(self.node)
            if self.node.buffer is None:
                raise RuntimeError(f"{self.node.op.name}: this value was lost when an earlier error interrupted its computation. "
                                   "Compute it again.")
        buffer = self.node.buffer
        if flight.awaited and buffer.device == "cpu" and buffer.address in flight.awaited:
            flight.finish()
        return buffer

    def __call__(self):
        """`x.storage()`, PyTorch's older way to the numbers in memory."""
        from .untyped import TypedStorage, UntypedStorage
        return TypedStorage(wrap_storage=UntypedStorage.of(self), dtype=self.dtype)

    def resize(self, numel: int) -> None:
        """Room for `numel` elements: the first of them stay, new ones are zero."""
        d = self.dtype
        fresh, old = Buffer.allocate(max(1, numel * d.itemsize)), self.buffer()
        kept = min(numel, self.numel) * d.itemsize
        fresh.array("uint8", numel * d.itemsize)[:kept] = old.array("uint8", kept)
        fresh.array("uint8", numel * d.itemsize)[kept:] = 0
        fresh.exported = old.exported
        _node.__set__(self, leaf(fresh, numel, d))

    def share(self) -> None:
        """From now on the value keeps its address, and what touches it is executed at once. What another cell or a pending node
        refers to stays theirs."""
        buffer = self.buffer()
        flight.finish()     # it may be read in the background still
        if held([self.node], [1])[0]:
            node = self.node
            fresh = buffer.copy()
            self.write(leaf(fresh, node.numel, node.dtype))
            buffer = fresh
        buffer.exported = True
        self.__class__ = SharedStorage


SNAPSHOT = 1 << 16      # bytes that are copied in less time than it takes to begin computing
_node = Storage.node  # the slot's descriptor, which SharedStorage covers


class SharedStorage(Storage):
    """A storage whose address the outside knows. What reads it reads a copy made at the call, or is computed at once if it is large."""

    __slots__ = ()

    @property
    def node(self) -> Node:     # type: ignore[override]
        watch = tape.state.watch
        copied = watch and watch.copy_of(self)
        if copied is not None:
            return copied
        node = _node.__get__(self)
        buffer = node.buffer
        if buffer.nbytes > SNAPSHOT or tape.state.watch is not None or tape.state.rewriter is not None or buffer.device != "cpu":
            tape.state.urgent = True
            return node
        if buffer.address in flight.awaited:
            flight.finish()
        fresh = Buffer.allocate(buffer.nbytes)
        ctypes.memmove(fresh.address, buffer.address, buffer.nbytes)
        return leaf(fresh, node.form.numel, node.form.dtype)

    @node.setter
    def node(self, node: Node) -> None:
        self.write(node)

    @property
    def dtype(self):
        return _node.__get__(self).dtype

    @property
    def numel(self) -> int:
        return _node.__get__(self).numel

    @property
    def shared(self) -> bool:
        return True

    def write(self, node: Node) -> None:
        holder = Storage.of(node)
        _node.__get__(self).buffer.copy_from(holder.buffer())

    def copy(self) -> Storage:
        old = _node.__get__(self)
        return Storage.of(leaf(old.buffer.copy(), old.numel, old.dtype))

    def buffer(self) -> Buffer:
        return _node.__get__(self).buffer

    def share(self) -> None:
        pass


class BorrowedStorage(SharedStorage):
    """A storage on the memory of a NumPy array: it cannot become larger."""

    __slots__ = ()

    def resize(self, numel: int) -> None:
        raise RuntimeError(f"resize: expected a tensor with memory of its own, to make room for {numel} elements; received one that "
                           "shares the memory of a NumPy array. Clone it first: x.clone(). (Trying to resize storage that is not "
                           "resizable)")


def of_buffer(buffer: Buffer, numel: int, dtype) -> Storage:
    node = leaf(buffer, numel, dtype)
    storage = Storage.of(node)
    if tape.state.watch is not None:
        tape.state.watch.made(node)
    if buffer.exported:
        storage.__class__ = SharedStorage       # nobody has seen it yet
    return storage
