"""How a tensor would lie on the processes of one dimension of a mesh: plans for parallel layers are written in these words."""

from __future__ import annotations

from dataclasses import dataclass


class Placement:
    """What `Shard`, `Replicate` and `Partial` have in common."""

    def is_shard(self, dim: int | None = None) -> bool:
        return isinstance(self, Shard) and dim in (None, self.dim)

    def is_replicate(self) -> bool:
        return isinstance(self, Replicate)

    def is_partial(self, reduce_op: str | None = None) -> bool:
        return isinstance(self, Partial) and reduce_op in (None, self.reduce_op)


@dataclass(frozen=True)
class Shard(Placement):
    """Cut along `dim`, a part for each process."""

    dim: int


@dataclass(frozen=True)
class _StridedShard(Shard):
    """Cut along `dim` after another mesh dimension has cut it into `split_factor` parts."""

    split_factor: int = 1


@dataclass(frozen=True)
class Replicate(Placement):
    """Whole on each process."""


@dataclass(frozen=True)
class Partial(Placement):
    """A summand on each process, to be combined by `reduce_op`."""

    reduce_op: str = "sum"
