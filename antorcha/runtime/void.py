"""Memory of the device "meta": there is none. Tensors there have a shape, a dtype and strides, and values are never computed."""

from __future__ import annotations

from .buffer import Buffer

NO_DATA = "Cannot copy out of meta tensor; no data!"


class Void(Buffer):
    """What stands for `nbytes` of memory that nobody will read: asking for them raises NotImplementedError."""

    __slots__ = ()

    device = "meta"
    alive = 0       # how many there are: without any, nobody need ask where tensors are

    def __init__(self, nbytes: int):
        self.nbytes, self.exported = nbytes, False
        Void.alive += 1

    def __del__(self) -> None:      # type: ignore[override]
        Void.alive -= 1

    @property
    def address(self) -> int:   # type: ignore[override]
        raise NotImplementedError(NO_DATA)

    @property
    def __array_interface__(self) -> dict:
        raise NotImplementedError(NO_DATA)

    def copy(self) -> Void:
        return Void(self.nbytes)

    def copy_from(self, source: Buffer) -> None:
        """Nothing to copy to."""

    def __repr__(self) -> str:
        return f"Void({self.nbytes} bytes)"
