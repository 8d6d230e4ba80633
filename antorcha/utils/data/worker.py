"""The worker process of a data loader: answers requests for batches, one by one, until its pipe is closed."""

from __future__ import annotations

import os
import pickle
import random
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import shared
from .datapipes.datapipe import IterDataPipe


@dataclass
class WorkerInfo:
    """What `get_worker_info()` tells: `id` below `num_workers`, the `seed` of this worker, its copy of the `dataset`."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_worker_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """In a worker process, what it is; in the main process, None."""
    return _worker_info


class ExceptionWrapper:
    """An exception on its way to another process: its class and its traceback as text."""

    def __init__(self, error: BaseException, where: str):
        self.exc_type: Any = type(error)
        self.exc_msg = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self.where = where

    def __reduce__(self):
        try:
            kind = pickle.dumps(self.exc_type)
        except Exception:  # a class that the other process cannot find
            kind = pickle.dumps(RuntimeError)
        return _wrapped, (kind, self.exc_type.__name__, self.exc_msg, self.where)

    def reraise(self) -> None:
        """Raise it again, as its own class where its constructor takes a message, and as a RuntimeError otherwise."""
        name = getattr(self, "name", self.exc_type.__name__)
        message = f"Caught {name} {self.where}.\nOriginal {self.exc_msg}"
        if issubclass(self.exc_type, KeyError):
            raise self.exc_type(_Message(message))
        try:
            error = self.exc_type(message)
        except Exception:
            raise RuntimeError(message) from None
        raise error


def _wrapped(kind: bytes, name: str, message: str, where: str) -> ExceptionWrapper:
    wrapper = ExceptionWrapper.__new__(ExceptionWrapper)
    wrapper.exc_type, wrapper.exc_msg, wrapper.where = pickle.loads(kind), message, where
    wrapper.name = name  # type: ignore[attr-defined]
    return wrapper


class _Message(str):
    """A KeyError prints the repr of its argument: this one keeps its line breaks."""

    def __repr__(self) -> str:
        return str(self)


class End:
    """The answer of a worker whose iterable dataset is exhausted."""


@dataclass
class Resume:
    """The request to begin another epoch, with the seed of a pipeline's random stages."""

    seed: int | None = None


class Resumed:
    """The answer to `Resume`."""


# A forked process must not keep the parent's ends of pipes open: then nobody would notice that the parent has died.
parent_ends: weakref.WeakSet = weakref.WeakSet()


def _close_parent_ends() -> None:
    for connection in list(parent_ends):
        connection.close()
    parent_ends.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_parent_ends)


@dataclass
class Settings:
    """All that a worker is started with."""

    make_fetcher: Callable
    dataset: Any
    init_fn: Callable | None
    base_seed: int
    worker_id: int
    num_workers: int
    iterable: bool


def seed_everything(base_seed: int, worker_id: int) -> int:
    """Seed `random`, NumPy and antorcha differently in each worker, with PyTorch's numbers; returns the worker's seed."""
    import antorcha as torch

    seed = base_seed + worker_id
    random.seed(seed)
    torch.manual_seed(seed)
    entropy = [worker_id, base_seed & 0xFFFFFFFF, base_seed >> 32, 0]
    np.random.seed(np.random.SeedSequence(entropy).generate_state(4))
    return seed


def run(settings: Settings, requests, answers, arena) -> None:
    """The main function of a worker. Returns when the parent closes the pipe or dies, or on Ctrl-C."""
    global _worker_info
    try:
        import antorcha as torch

        torch.set_num_threads(1)
        seed = seed_everything(settings.base_seed, settings.worker_id)
        _worker_info = WorkerInfo(settings.worker_id, settings.num_workers, seed, settings.dataset)
        sender = shared.Sender(arena)
        shared.serve(sender)
        _answer_all(_Worker(settings), sender, requests, answers)
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        pass  # the parent is gone or going


class _Worker:
    def __init__(self, settings: Settings):
        self._settings = settings
        self.where = f"in DataLoader worker process {settings.worker_id}"
        self._fetcher: Any = None
        self._failure: ExceptionWrapper | None = None
        self._ended = False
        try:
            if settings.init_fn is not None:
                settings.init_fn(settings.worker_id)
            if isinstance(settings.dataset, IterDataPipe):
                from .graph_settings import share_out

                share_out(settings.dataset, settings.num_workers, settings.worker_id)
            self._fetcher = settings.make_fetcher(settings.dataset)
        except Exception as error:
            self._failure = ExceptionWrapper(error, self.where)

    def answer(self, request: Any) -> Any:
        if self._failure is not None:
            return self._failure
        try:
            if isinstance(request, Resume):
                self._ended = False
                if request.seed is not None:
                    from .graph_settings import begin_epoch

                    begin_epoch(self._settings.dataset, request.seed)
                self._fetcher = self._settings.make_fetcher(self._settings.dataset)
                return Resumed()
            return End() if self._ended else self._fetcher.fetch(request)
        except StopIteration as error:
            if not self._settings.iterable:
                return ExceptionWrapper(error, self.where)
            self._ended = True
            return End()
        except Exception as error:
            return ExceptionWrapper(error, self.where)


def _answer_all(worker: _Worker, sender: shared.Sender, requests, answers) -> None:
    while True:
        task, request, released = pickle.loads(requests.recv_bytes())
        for offset in released:
            sender.release(offset)
        payload = worker.answer(request)
        try:
            message = sender.message(task, payload)
        except Exception as error:  # a batch that cannot be pickled
            message = sender.message(task, ExceptionWrapper(error, worker.where))
        del payload
        answers.send_bytes(message)
