"""What all stages of a pipeline share, and how stages become methods: `pipe.map(f).batch(8)` is `Batcher(Mapper(pipe, f), 8)`."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar

import antorcha as torch

from ..dataset import Dataset, IterableDataset

T_co = TypeVar("T_co", covariant=True)


class _Chained:
    """Stages that were registered under a name are methods of all pipelines of their kind."""

    functions: ClassVar[dict[str, Callable]]

    def __getattr__(self, name: str):
        if name.startswith("__") or name == "functions":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        from . import iter, map  # noqa: F401 (they register the stages)

        stage = type(self).functions.get(name)
        if stage is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return functools.partial(stage, self)

    def __dir__(self):
        return [*super().__dir__(), *self.functions]

    @classmethod
    def register_function(cls, function_name: str, function: Callable) -> None:
        """Make `function(pipe, ...)` a method of all pipelines."""
        cls.functions[function_name] = function

    @classmethod
    def register_datapipe_as_function(cls, function_name: str, cls_to_register: Callable, enable_df_api_tracing: bool = False) -> None:
        """Make a stage a method of all pipelines; ValueError if the name is taken."""
        if function_name in cls.functions:
            raise ValueError(f"Unable to add DataPipe function name {function_name} as it is already taken.")
        cls.functions[function_name] = cls_to_register

    def __getstate__(self) -> dict:
        return dict(self.__dict__)

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)

    def __repr__(self) -> str:
        return type(self).__qualname__

    __str__ = __repr__


class IterDataPipe(_Chained, IterableDataset[T_co]):
    """A stage that gives samples one after the other: subclasses define `__iter__`, and `reset` if they keep state between epochs.

    One iterator is alive at a time: a new one makes the one before it raise RuntimeError when it is asked for more.
    """

    functions: ClassVar[dict[str, Callable]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__iter__" in cls.__dict__:
            cls.__iter__ = _restarting(cls.__iter__)    # type: ignore[method-assign]

    def reset(self) -> None:
        """Called before each epoch."""


def _restarting(iterate: Callable) -> Callable:
    """`__iter__` that resets the stage first, and whose iterator ends with the epoch it was made for."""
    if getattr(iterate, "restarts", False):
        return iterate

    @functools.wraps(iterate)
    def __iter__(self):
        epoch = self.__dict__.get("_epoch", 0) + 1
        self.__dict__["_epoch"] = epoch
        self.reset()
        found = iterate(self)
        return _OfEpoch(self, found, epoch) if found is not self else self

    __iter__.restarts = True    # type: ignore[attr-defined]
    return __iter__


class _OfEpoch(Iterator):
    """An iterator of a stage, until the stage begins anew."""

    def __init__(self, pipe: IterDataPipe, iterator: Any, epoch: int):
        self.pipe, self.iterator, self.epoch = pipe, iterator, epoch

    def __next__(self):
        if self.pipe.__dict__["_epoch"] != self.epoch:
            raise RuntimeError(f"This iterator has been invalidated because another iterator has been created from the same "
                               f"{type(self.pipe).__name__}. Fork the pipeline (pipe.fork(2)) to read it twice at a time.")
        return next(self.iterator)

    def __len__(self) -> int:
        return len(self.pipe)  # type: ignore[arg-type]

    def __getattr__(self, name: str):
        return getattr(self.iterator, name)


class MapDataPipe(_Chained, Dataset[T_co]):
    """A stage that is asked for samples by key: subclasses define `__getitem__` and `__len__`."""

    functions: ClassVar[dict[str, Callable]] = {}


class DataChunk(list):
    """A batch that has not been collated: a list of samples."""

    def __init__(self, items):
        items = list(items)
        super().__init__(items)
        self.items = items

    def as_str(self, indent: str = "") -> str:
        """The samples in brackets."""
        return f"{indent}[{', '.join(map(str, self))}]"

    def raw_iterator(self) -> Iterator:
        """The samples."""
        yield from self.items


class OfSeveral:
    """A stage of several pipelines of one kind: the one that it is itself of."""

    def __init__(self, *datapipes):
        kind = IterDataPipe if isinstance(self, IterDataPipe) else MapDataPipe
        if not datapipes:
            raise ValueError("Expected at least one DataPipe, but got nothing")
        if not all(isinstance(pipe, kind) for pipe in datapipes):
            raise TypeError(f"Expected all inputs to be `{kind.__name__}`; received {[type(pipe).__name__ for pipe in datapipes]}")
        self.datapipes = datapipes


class OfBatches:
    """A stage of lists (`wrapper_class`) of `batch_size` samples; the last one may be shorter, or is dropped with `drop_last`."""

    def __init__(self, datapipe, batch_size: int, drop_last: bool = False, wrapper_class: type = DataChunk):
        if batch_size <= 0:
            raise AssertionError(f"Batch size is required to be larger than 0; received {batch_size}")
        self.datapipe, self.batch_size, self.drop_last, self.wrapper_class = datapipe, batch_size, drop_last, wrapper_class

    def __len__(self) -> int:
        whole, rest = divmod(len(self.datapipe), self.batch_size)
        return whole + bool(rest and not self.drop_last)


class Shuffling:
    """A stage in a random order, unless that is switched off. The seed of an epoch is drawn from torch's generator, or set for the next one
    by `set_seed`."""

    def __init__(self, datapipe):
        self.datapipe = datapipe
        self._enabled, self._seed, self._rng = True, None, random.Random()

    def set_shuffle(self, shuffle: bool = True):
        """Shuffle or keep the order; returns the stage."""
        self._enabled = shuffle
        return self

    def set_seed(self, seed: int):
        """Of the next epoch; returns the stage."""
        self._seed = seed
        return self

    def _use_seed(self) -> None:
        if self._enabled and self._seed is None:
            self._seed = int(torch.empty((), dtype=torch.int64).random_().item())
        self._rng.seed(self._seed)
        self._seed = None

    def __len__(self) -> int:
        return len(self.datapipe)


class functional_datapipe:
    """A class decorator: the stage becomes the method `name` of pipelines of its kind."""

    def __init__(self, name: str, enable_df_api_tracing: bool = False):
        self.name = name

    def __call__(self, cls):
        stage = cls.args[0] if isinstance(cls, functools.partial) else cls     # what non_deterministic returns
        kind = next((kind for kind in (IterDataPipe, MapDataPipe) if isinstance(stage, type) and issubclass(stage, kind)), None)
        if kind is None:
            raise TypeError("`functional_datapipe` can only decorate IterDataPipe or MapDataPipe; "
                            f"received {getattr(cls, '__name__', cls)!r}")
        kind.register_datapipe_as_function(self.name, cls)
        return cls


_determinism = False


@contextlib.contextmanager
def guaranteed_datapipes_determinism(mode: bool = True):
    """Within, making a stage that was declared `non_deterministic` raises TypeError."""
    global _determinism
    before, _determinism = _determinism, mode
    try:
        yield
    finally:
        _determinism = before


class non_deterministic:
    """A class decorator: the order of samples may differ between runs; always, or when the given function of its arguments says so."""

    def __init__(self, arg: type | Callable[..., bool]):
        self.stage = arg if isinstance(arg, type) else None
        self.decides = (lambda *args, **kwargs: True) if isinstance(arg, type) else arg

    def __call__(self, *args, **kwargs):
        if self.stage is None:
            (stage,) = args
            return functools.partial(self._make, stage)
        return self._make(self.stage, *args, **kwargs)

    def _make(self, stage, *args, **kwargs):
        if _determinism and self.decides(*args, **kwargs):
            raise TypeError(f"{stage.__name__} is non-deterministic. Leave `guaranteed_datapipes_determinism` to make it.")
        return stage(*args, **kwargs)
