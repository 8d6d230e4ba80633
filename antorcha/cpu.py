"""torch.cpu: the processor as a device."""

from __future__ import annotations

from . import amp  # noqa: F401


def is_available() -> bool:
    """True."""
    return True


def device_count() -> int:
    """1."""
    return 1


def current_device() -> str:
    """"cpu"."""
    return "cpu"


def synchronize(device=None) -> None:
    """Compute everything that was recorded."""
    from .graph import tape
    tape.flush()


class Stream:
    """The one stream of the CPU: what is submitted first is computed first."""


class Event:
    """A mark in the stream: its time, when everything before it is computed."""

    def __init__(self, enable_timing: bool = False):
        self.enable_timing = enable_timing
        self._time: float | None = None

    def record(self, stream=None) -> None:
        """Compute what was recorded, and note the time."""
        import time

        synchronize()
        self._time = time.perf_counter()

    def query(self) -> bool:
        """True: what comes before the mark is done when `record` returns."""
        return True

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def wait(self, stream=None) -> None:
        """Nothing to wait for."""

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this mark to another."""
        if self._time is None or end_event._time is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        return 1e3 * (end_event._time - self._time)


class StreamContext:
    """`with torch.cpu.stream(s):` changes nothing."""

    def __init__(self, stream):
        self.stream = stream

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error) -> None:
        pass


def is_initialized() -> bool:
    """True."""
    return True


def set_device(device) -> None:
    """Nothing to choose: there is one processor."""


def get_capabilities() -> dict:
    """What kernels are compiled for: bytes of a vector register, and the number of threads."""
    from .runtime import cpu, pool

    return {"vector_bytes": cpu.vector_bytes(), "num_threads": pool.get_num_threads()}


def current_stream(device=None) -> Stream:
    """The stream."""
    return Stream()


def stream(stream) -> StreamContext:
    """A context that changes nothing."""
    return StreamContext(stream)
