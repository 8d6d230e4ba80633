"""Operations that all processes of a group take part in. Sums are in the order of ranks: all processes get the same bits."""

from __future__ import annotations

import pickle

import numpy as np

import antorcha as torch

from ..core.tensor import host
from .group import ProcessGroup, ReduceOp, member


class Work:
    """An operation that is done: what is asked for with `async_op=True` is carried out at once, too."""

    def __init__(self, result=None):
        self._result = result

    def wait(self, timeout=None) -> bool:
        return True

    def is_completed(self) -> bool:
        return True

    is_success = is_completed

    def result(self):
        return self._result

    def get_future(self):
        from ..futures import Future
        future: Future = Future()
        future.set_result(self._result)
        return future


def _done(async_op: bool, result=None) -> Work | None:
    return Work(result) if async_op else None


def _array(t) -> np.ndarray:
    """The value of a tensor; what NumPy has no dtype for in float32."""
    return np.ascontiguousarray(host(t.detach().cpu()))


def _like(data: bytearray, array: np.ndarray) -> np.ndarray:
    got = np.frombuffer(data, array.dtype)
    if got.size != array.size:
        raise RuntimeError(f"torch.distributed: expected tensors of one size from all processes; received {got.size} and {array.size} "
                           "elements")
    return got.reshape(array.shape)


def _store(t, array: np.ndarray) -> None:
    with torch.no_grad():
        t.copy_(torch.tensor(np.asarray(array)).reshape(t.shape))


def _exchanged(g: ProcessGroup, pieces: list) -> list[np.ndarray]:
    """What each process has for this one; `pieces[i]` is for process i."""
    me = g.rank()
    for step in range(1, g.size()):
        peer = (me + step) % g.size()
        g.send(peer, np.ascontiguousarray(pieces[peer]))
    return [pieces[me] if peer == me else np.frombuffer(g.receive(peer), pieces[me].dtype) for peer in range(g.size())]


def _combined(parts: list, op) -> np.ndarray:
    total = parts[0].copy()
    for part in parts[1:]:
        total = op.combine(total, part.reshape(total.shape))
    if op is ReduceOp.AVG:
        total = total / len(parts) if total.dtype.kind in "fc" else total // len(parts)
    return total


def _gathered(g: ProcessGroup, array: np.ndarray) -> list[np.ndarray]:
    return [x.reshape(array.shape) if x.size == array.size else x for x in _exchanged(g, [array] * g.size())]


# -- collectives ------------------------------------------------------------------------------------------------

def all_reduce(tensor, op=ReduceOp.SUM, group=None, async_op: bool = False):
    """Combine the tensors of all processes; each has the result in its own."""
    g, array = member(group), _array(tensor)
    flat = array.reshape(-1)
    cuts = [len(flat) * i // g.size() for i in range(g.size() + 1)]
    mine = _combined(_exchanged(g, [flat[a:b] for a, b in zip(cuts, cuts[1:])]), op)      # each combines a part of it
    _store(tensor, np.concatenate(_exchanged(g, [mine] * g.size())))
    return _done(async_op, [tensor])


def all_reduce_coalesced(tensors, op=ReduceOp.SUM, group=None, async_op: bool = False):
    """`all_reduce` of several tensors."""
    for t in tensors:
        all_reduce(t, op, group)
    return _done(async_op, tensors)


def broadcast(tensor, src: int | None = None, group=None, async_op: bool = False, group_src: int | None = None):
    """Give the tensor of process `src` to all."""
    g = member(group)
    source, array = _position(g, src, group_src), _array(tensor)
    if g.rank() == source:
        for peer in range(g.size()):
            if peer != source:
                g.send(peer, array)
    else:
        _store(tensor, _like(g.receive(source), array))
    return _done(async_op, [tensor])


def reduce(tensor, dst: int | None = None, op=ReduceOp.SUM, group=None, async_op: bool = False, group_dst: int | None = None):
    """Combine the tensors of all; process `dst` has the result."""
    g = member(group)
    target, array = _position(g, dst, group_dst), _array(tensor)
    if g.rank() == target:
        _store(tensor, _combined([array if p == target else _like(g.receive(p), array) for p in range(g.size())], op))
    else:
        g.send(target, array)
    return _done(async_op, [tensor])


def all_gather(tensor_list: list, tensor, group=None, async_op: bool = False):
    """Give the tensors of all processes to all."""
    for t, part in zip(tensor_list, _gathered(member(group), _array(tensor))):
        _store(t, part)
    return _done(async_op, tensor_list)


def all_gather_into_tensor(output_tensor, input_tensor, group=None, async_op: bool = False):
    """The tensors of all processes one after the other, along the first dimension, in one tensor."""
    parts = _gathered(member(group), _array(input_tensor))
    _store(output_tensor, np.concatenate([p.reshape(-1) for p in parts]))
    return _done(async_op, output_tensor)


def gather(tensor, gather_list: list | None = None, dst: int | None = None, group=None, async_op: bool = False,
           group_dst: int | None = None):
    """Give the tensors of all to process `dst`."""
    g = member(group)
    target, array = _position(g, dst, group_dst), _array(tensor)
    if g.rank() != target:
        g.send(target, array)
    else:
        if gather_list is None or len(gather_list) != g.size():
            raise ValueError("Argument ``gather_list`` must be specified on destination rank, with a tensor for each process")
        for peer, t in enumerate(gather_list):
            _store(t, array if peer == target else _like(g.receive(peer), array))
    return _done(async_op, gather_list)


def scatter(tensor, scatter_list: list | None = None, src: int | None = None, group=None, async_op: bool = False,
            group_src: int | None = None):
    """Give each process one of the tensors of process `src`."""
    g = member(group)
    source = _position(g, src, group_src)
    if g.rank() == source:
        if scatter_list is None or len(scatter_list) != g.size():
            raise ValueError("Argument ``scatter_list`` must be specified on source rank, with a tensor for each process")
        for peer, t in enumerate(scatter_list):
            if peer != source:
                g.send(peer, _array(t))
        _store(tensor, _array(scatter_list[source]))
    else:
        _store(tensor, _like(g.receive(source), _array(tensor)))
    return _done(async_op, [tensor])


def reduce_scatter(output, input_list: list, op=ReduceOp.SUM, group=None, async_op: bool = False):
    """Combine the lists of all; process i has the i-th."""
    g = member(group)
    _store(output, _combined(_exchanged(g, [_array(t).reshape(-1) for t in input_list]), op))
    return _done(async_op, output)


def reduce_scatter_tensor(output, input, op=ReduceOp.SUM, group=None, async_op: bool = False):
    """Combine the tensors of all; process i has the i-th part along the first dimension."""
    g = member(group)
    _store(output, _combined(_exchanged(g, np.split(_array(input).reshape(-1), g.size())), op))
    return _done(async_op, output)


def all_to_all(output_tensor_list: list, input_tensor_list: list, group=None, async_op: bool = False):
    """Process i gets the i-th tensor of every process."""
    for t, part in zip(output_tensor_list, _exchanged(member(group), [_array(t).reshape(-1) for t in input_tensor_list])):
        _store(t, part)
    return _done(async_op, output_tensor_list)


def all_to_all_single(output, input, output_split_sizes=None, input_split_sizes=None, group=None, async_op: bool = False):
    """Process i gets the i-th part, along the first dimension, of every process's tensor."""
    g, array = member(group), _array(input)
    cuts = np.cumsum(input_split_sizes)[:-1] if input_split_sizes else g.size()
    parts = _exchanged(g, [p.reshape(-1) for p in np.split(array, cuts)])
    if output_split_sizes is not None:
        row = int(np.prod(array.shape[1:], dtype=np.int64))
        for peer, (part, n) in enumerate(zip(parts, output_split_sizes)):
            if part.size != n * row:
                raise RuntimeError(f"all_to_all_single: expected {n} rows from process {peer}; received {part.size // max(row, 1)}")
    _store(output, np.concatenate(parts))
    return _done(async_op, output)


def barrier(group=None, async_op: bool = False, device_ids=None):
    """Wait until all processes are here."""
    _exchanged(member(group), [np.zeros(0, np.uint8)] * member(group).size())
    return _done(async_op)


def monitored_barrier(group=None, timeout=None, wait_all_ranks: bool = False) -> None:
    """`barrier`."""
    barrier(group)


def _position(g: ProcessGroup, of_all: int | None, of_group: int | None) -> int:
    """A rank within the group, from a global rank or one of the group."""
    if of_group is not None:
        if of_all is not None:
            raise ValueError("Can't specify both group_src (group_dst) and src (dst)")
        return of_group
    rank = 0 if of_all is None else of_all
    if rank not in g.ranks:
        raise ValueError(f"Global rank {rank} is not part of group {g.ranks}")
    return g.ranks.index(rank)


# -- from one to another ----------------------------------------------------------------------------------------

def send(tensor, dst: int | None = None, group=None, tag: int = 0, group_dst: int | None = None) -> None:
    """Send a tensor to process `dst`, which receives it."""
    g = member(group)
    g.send(_position(g, dst, group_dst), _array(tensor), 1 + tag)


def recv(tensor, src: int | None = None, group=None, tag: int = 0, group_src: int | None = None) -> int:
    """Receive a tensor from process `src`, or from any. Returns the sender's rank."""
    g = member(group)
    if src is None and group_src is None:
        source, data = g.connections.receive_any(g.number, 1 + tag)
    else:
        peer = _position(g, src, group_src)
        source, data = g.ranks[peer], g.receive(peer, 1 + tag)
    _store(tensor, _like(data, _array(tensor)))
    return source


class _Receiving(Work):
    """A tensor that is received when it is waited for."""

    def __init__(self, receive):
        super().__init__()
        self._receive = receive

    def wait(self, timeout=None) -> bool:
        if self._receive is not None:
            self._receive()
            self._receive = None
        return True

    def is_completed(self) -> bool:
        return self._receive is None


def isend(tensor, dst: int | None = None, group=None, tag: int = 0, group_dst: int | None = None) -> Work:
    """`send`, which returns a Work."""
    send(tensor, dst, group, tag, group_dst)
    return Work()


def irecv(tensor, src: int | None = None, group=None, tag: int = 0, group_src: int | None = None) -> Work:
    """`recv`, carried out when the Work is waited for."""
    return _Receiving(lambda: recv(tensor, src, group, tag, group_src))


class P2POp:
    """One `isend` or `irecv` of `batch_isend_irecv`."""

    def __init__(self, op, tensor, peer: int | None = None, group=None, tag: int = 0, group_peer: int | None = None):
        if op not in (isend, irecv):
            raise RuntimeError("Invalid ``op``. Expected ``op`` to be of type ``torch.distributed.isend`` or ``torch.distributed.irecv``.")
        self.op, self.tensor, self.peer, self.group, self.tag, self.group_peer = op, tensor, peer, group, tag, group_peer


def batch_isend_irecv(p2p_op_list: list[P2POp]) -> list[Work]:
    """Several sends and receives at once."""
    return [p.op(p.tensor, p.peer, p.group, p.tag, p.group_peer) for p in p2p_op_list]


# -- objects ----------------------------------------------------------------------------------------------------

def all_gather_object(object_list: list, obj, group=None) -> None:
    """Give the objects of all to all. They are pickled: processes must trust each other."""
    g = member(group)
    data = np.frombuffer(pickle.dumps(obj), np.uint8)
    object_list[:] = [pickle.loads(x.tobytes()) for x in _exchanged(g, [data] * g.size())]


def gather_object(obj, object_gather_list: list | None = None, dst: int | None = None, group=None, group_dst: int | None = None) -> None:
    """Give the objects of all to process `dst`."""
    g = member(group)
    found: list = []
    all_gather_object(found, obj, g)
    if g.rank() == _position(g, dst, group_dst):
        if object_gather_list is None:
            raise ValueError("Argument ``object_gather_list`` must be specified on destination rank.")
        object_gather_list[:] = found


def broadcast_object_list(object_list: list, src: int | None = None, group=None, device=None, group_src: int | None = None) -> None:
    """Give the objects of process `src` to all."""
    g = member(group)
    source = _position(g, src, group_src)
    if g.rank() == source:
        data = pickle.dumps(list(object_list))
        for peer in range(g.size()):
            if peer != source:
                g.send(peer, data)
    else:
        object_list[:] = pickle.loads(bytes(g.receive(source)))


def scatter_object_list(scatter_object_output_list: list, scatter_object_input_list: list | None = None, src: int | None = None,
                        group=None, group_src: int | None = None) -> None:
    """Give each process one of the objects of process `src`."""
    g = member(group)
    everything = list(scatter_object_input_list) if scatter_object_input_list is not None else [None] * g.size()
    broadcast_object_list(everything, src, g, group_src=group_src)
    scatter_object_output_list[0] = everything[g.rank()]
