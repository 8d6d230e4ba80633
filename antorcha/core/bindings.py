"""What the operators, which lie in a layer below, need of this one."""

from __future__ import annotations

from ..ops import factory, index, joining, placement, record
from ..ops import pointwise as pw
from ..ops.parts import conj_
from ..ops.record import core
from ..ops.strides import fills
from . import autograd
from .arrays import adopt, from_numpy, tensor
from .at_once import chosen, put
from .autograd import GradNode
from .generator import default_generator, generator_of
from .history import Folded
from .storage import Storage
from .tensor import Node, Tensor, alias, contiguous, host, laid_out, make, record_form, reread, tensor_on, view_of, wrap
from .writing import add_region, inplace, overwrite_region


def _bitcast(t: Tensor, d) -> Tensor:
    from .untyped import reinterpret
    return reinterpret(t, d)


def _loosely(make_one):
    """A function that makes tensors for an operator's own use (see ops/placement.py)."""
    return lambda *args, **given: placement.loose(make_one(*args, **given, device="cpu"))


def _sparse_rows(*args):
    from .sparse import sparse_rows
    return sparse_rows(*args)


record.bind(Tensor, make, alias, GradNode)
autograd.bind(Tensor)
core.__dict__.update(
    Node=Node,
    record=record_form,
    tensor_on=tensor_on,
    wrap=wrap,
    default_generator=default_generator,
    view_of=view_of,
    reread=reread,
    contiguous=contiguous,
    laid_out=laid_out,
    no_grad=autograd.no_grad,
    default_device="cpu",
    divisor=index.divisor,
    host=host,
    zeros=lambda m: factory.full_of(m.view.shape, 0, m.dtype, m.device),
    ones=lambda m: factory.full_of(m.view.shape, 1, m.dtype, m.device),
    ones_like=lambda t, d=None: factory.full_of(t._meta.view.shape, 1, d or t._meta.dtype, t._meta.device),
    full=factory.full_of,
    blank=lambda shape, d, device=None: factory.full_of(shape, 0, d, device, factory.BLANK),
    arange=_loosely(factory.arange),
    eye=_loosely(factory.eye),
    is_grad_enabled=autograd.is_grad_enabled,
    add_region=add_region,
    overwrite_region=overwrite_region,
    from_numpy=lambda array, shape=None: placement.loose(adopt(array, shape)),
    tensor=_loosely(tensor),
    cast=pw.cast,
    cat=joining.cat,
    stack=joining.stack,
    conj=conj_,
    store_out=record.store_out,
    inplace=inplace,
    put_at_once=put,
    chosen_at_once=chosen,
    broadcast_tensors=joining.broadcast_tensors,
    sparse_rows=_sparse_rows,
    bitcast=_bitcast,
    on_memory=from_numpy,
    together=placement.together,
    blame=placement.blame,
    apart=placement.apart,
    settled=placement.settled,
    fills=fills,
    Storage=Storage,
    Folded=Folded,
    generator_of=generator_of,
)
