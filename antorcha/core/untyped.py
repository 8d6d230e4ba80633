"""The storage as PyTorch's API shows it: bytes behind one or several tensors."""

from __future__ import annotations


class UntypedStorage:
    """A view of a storage cell's bytes."""

    def __init__(self, cell):
        self.cell = cell

    def nbytes(self) -> int:
        return self.cell.numel * self.cell.dtype.itemsize

    size = nbytes
    __len__ = nbytes

    def data_ptr(self) -> int:
        self.cell.share()
        return self.cell.buffer().address

    def __getitem__(self, i):
        return int(self.cell.buffer().array("uint8", self.nbytes())[i])

    def tolist(self) -> list:
        return self.cell.buffer().array("uint8", self.nbytes()).tolist()

    @property
    def device(self):
        from ..base.device import device
        return device(self.cell.buffer().device)

    def __eq__(self, other) -> bool:
        return isinstance(other, UntypedStorage) and other.cell is self.cell

    def __hash__(self) -> int:
        return hash(id(self.cell))
