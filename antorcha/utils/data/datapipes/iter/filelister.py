"""Paths of files."""

from __future__ import annotations

import fnmatch
import os

from ..datapipe import IterDataPipe, functional_datapipe

__all__ = ["FileListerIterDataPipe"]


@functional_datapipe("list_files")
class FileListerIterDataPipe(IterDataPipe):
    """The paths of the files in folders (`root`: one, several, or a pipeline of them) whose names match one of `masks`, sorted within each
    folder; with `recursive`, of the folders within too."""

    def __init__(self, root=".", masks="", *, recursive: bool = False, abspath: bool = False, non_deterministic: bool = False,
                 length: int = -1):
        self.datapipe = [root] if isinstance(root, (str, os.PathLike)) else root
        self.masks = [masks] if isinstance(masks, str) else list(masks)
        self.recursive, self.abspath, self.length, self.sorted = recursive, abspath, length, not non_deterministic

    def __iter__(self):
        for root in self.datapipe:
            root = os.path.abspath(root) if self.abspath else root
            for folder, folders, names in os.walk(root):
                if self.sorted:
                    folders.sort()
                    names.sort()
                for name in names:
                    if not any(self.masks) or any(fnmatch.fnmatch(name, mask) for mask in self.masks):
                        yield os.path.join(folder, name)
                if not self.recursive:
                    break

    def __len__(self) -> int:
        if self.length == -1:
            raise TypeError(f"{type(self).__name__} instance doesn't have valid length")
        return self.length
