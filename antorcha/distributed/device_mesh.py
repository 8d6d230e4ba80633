"""Processes in a grid, with a group for each line of it."""

from __future__ import annotations

import antorcha as torch

from .group import get_rank, get_world_size, is_initialized, new_group


class DeviceMesh:
    """A grid of ranks. `mesh[name]` is the line through this process along a dimension, `get_group(name)` its group."""

    def __init__(self, device_type: str, mesh, *, mesh_dim_names: tuple[str, ...] | None = None, _groups=None):
        if not is_initialized():
            raise ValueError("DeviceMesh: expected init_process_group to be called before")
        self.device_type, self.mesh_dim_names = device_type, mesh_dim_names
        self.mesh = mesh.int() if isinstance(mesh, torch.Tensor) else torch.tensor(mesh, dtype=torch.int32)
        place = (self.mesh == get_rank()).nonzero()
        self._coordinate = place[0].tolist() if len(place) else None
        self._groups = self._lines() if _groups is None else _groups

    def _lines(self) -> list:
        """For each dimension the group of the line through this process. All processes make all groups."""
        mine = []
        for dim in range(self.mesh.ndim):
            found = None
            for line in self.mesh.movedim(dim, -1).reshape(-1, self.mesh.shape[dim]).tolist():
                made = new_group(line)
                if get_rank() in line:
                    found = made
            mine.append(found)
        return mine

    ndim = property(lambda self: self.mesh.ndim)
    shape = property(lambda self: tuple(self.mesh.shape))

    def size(self, mesh_dim: int | None = None) -> int:
        return self.mesh.numel() if mesh_dim is None else self.mesh.shape[mesh_dim]

    def _dim(self, which) -> int:
        if isinstance(which, str):
            if which not in (self.mesh_dim_names or ()):
                raise KeyError(f"Invalid mesh_dim_name {which}: expected one of {self.mesh_dim_names}")
            return self.mesh_dim_names.index(which)
        return 0 if which is None else which

    def get_group(self, mesh_dim=None):
        """The group of the line through this process along a dimension."""
        if mesh_dim is None and self.ndim > 1:
            raise RuntimeError(f"Found the DeviceMesh have {self.ndim} dimensions. Optional kwarg `mesh_dim` needs to be specified.")
        return self._groups[self._dim(mesh_dim)]

    def get_local_rank(self, mesh_dim=None) -> int:
        """This process's place along a dimension."""
        return self._coordinate[self._dim(mesh_dim)]

    def get_coordinate(self) -> list[int] | None:
        """This process's place in the grid; None if it has none."""
        return self._coordinate

    def get_rank(self) -> int:
        """The global rank."""
        return get_rank()

    def __getitem__(self, name: str) -> DeviceMesh:
        dim = self._dim(name)
        at = tuple(slice(None) if i == dim else c for i, c in enumerate(self._coordinate))
        return DeviceMesh(self.device_type, self.mesh[at], mesh_dim_names=(name,), _groups=[self._groups[dim]])

    def __repr__(self) -> str:
        return f"DeviceMesh({self.mesh.tolist()}, device_type={self.device_type!r}, mesh_dim_names={self.mesh_dim_names})"


def init_device_mesh(device_type: str, mesh_shape: tuple[int, ...], *, mesh_dim_names: tuple[str, ...] | None = None) -> DeviceMesh:
    """All processes as a grid of this shape."""
    if mesh_dim_names is not None and len(mesh_dim_names) != len(mesh_shape):
        raise RuntimeError(f"mesh_shape and mesh_dim_names should have same length! Found {len(mesh_shape)} and {len(mesh_dim_names)}")
    count = 1
    for n in mesh_shape:
        count *= n
    if count != get_world_size():
        raise RuntimeError(f"init_device_mesh: expected a mesh of {get_world_size()} processes; received shape {tuple(mesh_shape)}")
    return DeviceMesh(device_type, torch.arange(count).reshape(mesh_shape), mesh_dim_names=mesh_dim_names)
