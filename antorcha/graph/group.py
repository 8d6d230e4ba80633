"""Groups of nodes that one kernel computes, and attempts to add to them."""

from __future__ import annotations

from ..loops.view import View, dense, view
from .node import Node

LONG_SUM = 8192         # elements from which on a sum may be split
CHUNKS = 64, 32, 16, 8, 5, 4, 3, 2      # numbers of chunks of a long sum: few, so that plans for other lengths have as many


class Group:
    """Nodes computed by one kernel (and, for sums across rows, a second one that adds up the partial results).

    `domain`: extents it runs over, without ones. `inner`: for kernels with rows, the product of the last extents, which make
    up a row. `at`: how each member is laid over the domain. `reductions`: member -> (form, view of its input), form one of
    "row" (within each row), "column" (over all rows, for each position in the row), "total".
    """

    def __init__(self, number: int, kind: str, domain: tuple, inner: int | None = None):
        self.number, self.kind, self.domain, self.inner = number, kind, domain, inner
        self.outer = 1              # columns only: the product of the first extents, kept like those of the row
        self.at: dict[int, View] = {}
        self.members: list[int] = []
        self.reductions: dict[int, tuple[str, View]] = {}
        self.root: int = -1         # the contraction, scatter, scan or extern node
        self.operands: tuple = ()
        self.reason = ""            # why it is not part of an earlier group
        self.chain = None           # graph/chain.py; `bodies`: (its stages, what they hold), a second one for a shorter last block
        self.bodies: list = []
        self.rows, self.beyond = 0, None    # of a matrix, and how far beyond its diagonal it is computed (unread.py); None: whole
        self.begins: list = []      # of a recurrence: (node, its index map, of which output it is the beginning, from which element on)
        self.moves: list[int] = []  # nodes that are no work of their own: where the group stores its values (settling.py)
        self.nodes: list = []       # for `explain`: (number in the recording, operator, shape, dtype, stored) of each member

    @property
    def numel(self) -> int:
        return size(self.domain)

    def __repr__(self) -> str:
        return f"<group {self.number} {self.kind} {self.domain} of {len(self.members)}>"


def size(shape: tuple) -> int:
    n = 1
    for s in shape:
        n *= s
    return n


def wall_of(domain: tuple, inner: int) -> int | None:
    """How many leading dimensions are rows when a row has `inner` elements; None if no dimension ends there."""
    n, wall = 1, len(domain)
    while n < inner:
        wall -= 1
        n *= domain[wall]
    return wall if n == inner else None


def row_view(domain: tuple, wall: int) -> View:
    """A value per row, read from everywhere in the row."""
    return view(domain, dense(domain[:wall]).strides + (0,) * (len(domain) - wall))


class Sum:
    """The operator that adds up the chunks of a split contraction."""

    name, family, combine, uses_index = "sum", "reduction", "sum", False


class Product:
    """The operator of a contraction that sums one product."""

    name, family, uses_index, complex = "mul", "pointwise", False, None

    @staticmethod
    def scalar(a, b):
        return a * b if a.dtype.kind != "b" else a & b


SUM = Sum()
PRODUCT = Product()


def sum_chunks(n: Node) -> int:
    """Into how many chunks the sum of a contraction is split: by its sizes alone. More than one only where the result is too
    small to keep several threads busy and the sum is long."""
    if n.static.dims[3] != 1:
        return 1
    k = n.views[0].shape[-1]
    if k < LONG_SUM or n.numel > 16_384 or size(n.views[0].shape[:n.static.dims[0]]) > 4:
        return 1
    wanted = k // 2048
    return next((c for c in CHUNKS if c <= wanted and k % c == 0), 1)


class Refine(Exception):
    """The domain must be split further; the attempt starts again."""


class Attempt:
    """One try to compute something in a group: what would become its members, what would have to be stored."""

    def __init__(self, group: Group | None, number: int, domain: tuple, inner: int | None, at: dict, fresh: bool, members: bool = True):
        self.group, self.number, self.domain, self.inner, self.at = group, number, domain, inner, at
        self.fresh = fresh                  # a new group: what cannot be read is placed first
        self.takes_members = members
        self.epilogue = group is not None and group.kind == "contraction"
        self.wall = wall_of(domain, inner) if inner else None
        self.seen: dict = {}                # (node, how it is read) -> whether it can be
        self.loaded: set[Node] = set()      # from memory
        self.members: dict[int, View] = {}
        self.demands: list[int] = []
        self.loads = 0
        self.cost = 0
        self.reason = ""
