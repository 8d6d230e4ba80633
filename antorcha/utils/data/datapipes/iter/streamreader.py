"""Contents of files."""

from __future__ import annotations

from ..datapipe import IterDataPipe, functional_datapipe

__all__ = ["StreamReaderIterDataPipe"]


@functional_datapipe("read_from_stream")
class StreamReaderIterDataPipe(IterDataPipe):
    """(path, content) for each (path, open file): the whole content, or a pair for each `chunk` bytes. The file is closed then."""

    def __init__(self, datapipe, chunk: int | None = None):
        self.datapipe, self.chunk = datapipe, chunk

    def __iter__(self):
        for path, stream in self.datapipe:
            while content := stream.read() if self.chunk is None else stream.read(self.chunk):
                yield path, content
                if self.chunk is None:
                    break
            stream.close()
