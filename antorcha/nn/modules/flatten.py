"""Dimensions joined and split."""

from __future__ import annotations

from .module import Module


class Flatten(Module):
    """The dimensions from `start_dim` to `end_dim` joined into one."""

    def __init__(self, start_dim=1, end_dim=-1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input):
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self):
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """The dimension `dim` split into `unflattened_size`: a tuple, or (name, size) pairs where `dim` is a name."""

    def __init__(self, dim, unflattened_size):
        super().__init__()
        if isinstance(dim, str):
            if not all(isinstance(pair, tuple) for pair in unflattened_size):
                raise TypeError(f"unflattened_size must be tuple of tuples, but found {unflattened_size}")
        elif not isinstance(dim, int):
            raise TypeError("invalid argument type for dim parameter")
        elif not isinstance(unflattened_size, (tuple, list)):
            raise TypeError("unflattened_size must be a tuple of ints, but found type " + type(unflattened_size).__name__)
        else:
            for i, size in enumerate(unflattened_size):
                if not isinstance(size, int):
                    raise TypeError(f"unflattened_size must be tuple of ints, but found element of type {type(size).__name__} at pos {i}")
        self.dim, self.unflattened_size = dim, unflattened_size

    def forward(self, input):
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self):
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
