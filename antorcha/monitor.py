"""torch.monitor: counters and events of a program, and who is told of them."""

from __future__ import annotations

import datetime
import enum
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

data_value_t = int | float | str | bool


class Aggregation(enum.Enum):
    """What is made of the values that a Stat was given."""

    VALUE = 0       # the last
    MEAN = 1
    COUNT = 2
    SUM = 3
    MAX = 4
    MIN = 5


VALUE, MEAN, COUNT, SUM, MAX, MIN = Aggregation
STAT_EVENT = "torch.monitor.Stat"

_AGGREGATES: dict[Aggregation, Callable[[list], float]] = {
    VALUE: lambda values: values[-1], MEAN: lambda values: sum(values) / len(values), COUNT: len, SUM: sum, MAX: max, MIN: min}


@dataclass
class Event:
    """Something that happened: its name, when, and numbers or words about it."""

    name: str
    timestamp: datetime.datetime
    data: dict[str, data_value_t] = field(default_factory=dict)


class EventHandlerHandle:
    """What `register_event_handler` returns."""

    def __init__(self, handler: Callable[[Event], None]):
        self.handler = handler


_handlers: list[EventHandlerHandle] = []


def register_event_handler(callback: Callable[[Event], None]) -> EventHandlerHandle:
    """Have `callback(event)` called for each event."""
    _handlers.append(EventHandlerHandle(callback))
    return _handlers[-1]


def unregister_event_handler(handler: EventHandlerHandle) -> None:
    """Call it no longer."""
    _handlers.remove(handler)


def log_event(event: Event) -> None:
    """Tell all handlers of an event."""
    for handle in list(_handlers):
        handle.handler(event)


class Stat:
    """Collects values over a window of time and logs an event with their aggregates, named "name.mean" and the like, at its end.

    `window_size`: a timedelta. `max_samples`: the window also ends with so many values, and more are not taken before it is over.
    """

    def __init__(self, name: str, aggregations: list[Aggregation], window_size: datetime.timedelta, max_samples: int | None = None):
        self.name, self.aggregations, self.window, self.max_samples = name, list(aggregations), window_size, max_samples
        self._values: list[float] = []
        self._begin, self._logged = time.monotonic(), False
        self._finish = weakref.finalize(self, Stat._log, name, self.aggregations, self._values)

    @property
    def count(self) -> int:
        """How many values the window holds."""
        self._look()
        return len(self._values)

    def add(self, v: float) -> None:
        """Give one more value."""
        self._look()
        if self.max_samples is not None and self._logged:
            return
        self._values.append(v)
        if len(self._values) == self.max_samples:
            self._end()
            self._logged = True

    def get(self) -> dict[Aggregation, float]:
        """The aggregates of what the window holds."""
        self._look()
        return {a: _AGGREGATES[a](self._values) if self._values else 0 for a in self.aggregations}

    def _look(self) -> None:
        if time.monotonic() - self._begin >= self.window.total_seconds():
            self._end()
            self._begin, self._logged = time.monotonic(), False

    def _end(self) -> None:
        Stat._log(self.name, self.aggregations, self._values)
        self._values.clear()

    @staticmethod
    def _log(name: str, aggregations: list, values: list) -> None:
        if values:
            data = {f"{name}.{a.name.lower()}": _AGGREGATES[a](values) for a in aggregations}
            log_event(Event(STAT_EVENT, datetime.datetime.now(), data))


class TensorboardEventHandler:
    """A handler that writes each Stat's aggregates as scalars: `register_event_handler(TensorboardEventHandler(writer))`."""

    def __init__(self, writer):
        self._writer = writer

    def __call__(self, event: Event) -> None:
        if event.name == STAT_EVENT:
            for name, value in event.data.items():
                self._writer.add_scalar(name, value, walltime=event.timestamp.timestamp())


__all__ = ["Aggregation", "COUNT", "Event", "EventHandlerHandle", "MAX", "MEAN", "MIN", "SUM", "Stat", "TensorboardEventHandler", "VALUE",
           "data_value_t", "log_event", "register_event_handler", "unregister_event_handler"]
