"""The data loader: batches of a dataset in the order of a sampler, fetched here or in worker processes."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from ...graph import tape
from ...runtime import cuda
from . import worker as workers
from .collate import default_collate, default_convert
from .datapipes.datapipe import IterDataPipe
from .dataset import IterableDataset
from .fetch import IterableFetcher, MapFetcher
from .pinning import pin
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, draw_seed
from .shared import Arena, Receiver
from .worker import ExceptionWrapper, get_worker_info

_collate_fn_t = Callable[[list], Any]
_worker_init_fn_t = Callable[[int], None]

__all__ = ["DataLoader", "default_collate", "default_convert", "get_worker_info"]


class _DatasetKind:
    Map = 0
    Iterable = 1


class _InfiniteConstantSampler(Sampler):
    """An iterable dataset decides itself what comes: the sampler only counts."""

    def __iter__(self):
        return itertools.repeat(None)


class DataLoader:
    """Iterates over `dataset` in batches.

    `batch_size`: samples per batch; None gives single samples. `shuffle`: a new random order each time.
    `sampler` gives indices instead, `batch_sampler` lists of indices.
    `num_workers`: processes that fetch batches ahead, `prefetch_factor` (2) batches each; 0 fetches in this process.
    `collate_fn`: makes a batch of a list of samples (`default_collate`). `drop_last`: no shorter last batch.
    `timeout`: seconds to wait for a worker's batch; 0 waits for ever. `worker_init_fn(worker_id)` runs first in each worker.
    `multiprocessing_context`: a start method or context. `generator`: for the order and the seeds of the workers.
    `persistent_workers`: keep the processes between epochs. `in_order=False`: give batches out as they are ready.
    `pin_memory`: put batches into page-locked memory, for quick copies to a GPU (a warning where there is none).
    `pin_memory_device`: accepted.
    """

    __initialized = False

    def __init__(self, dataset, batch_size: int | None = 1, shuffle: bool | None = None, sampler=None, batch_sampler=None,
                 num_workers: int = 0, collate_fn: Callable | None = None, pin_memory: bool = False, drop_last: bool = False,
                 timeout: float = 0, worker_init_fn: Callable | None = None, multiprocessing_context=None, generator=None, *,
                 prefetch_factor: int | None = None, persistent_workers: bool = False, pin_memory_device: str = "",
                 in_order: bool = True):
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers)
        if isinstance(dataset, IterDataPipe):
            from .graph_settings import apply_shuffle_settings

            dataset, shuffle = apply_shuffle_settings(dataset, shuffle), None
        self.dataset, self.num_workers, self.timeout, self.generator = dataset, num_workers, timeout, generator
        self.prefetch_factor = 2 if num_workers > 0 and prefetch_factor is None else prefetch_factor
        self.pin_memory, self.pin_memory_device = pin_memory, pin_memory_device
        self.worker_init_fn, self.in_order, self.persistent_workers = worker_init_fn, in_order, persistent_workers
        self.multiprocessing_context = multiprocessing_context
        self._dataset_kind = _DatasetKind.Iterable if isinstance(dataset, IterableDataset) else _DatasetKind.Map
        _check_sampling(self._dataset_kind, batch_size, shuffle, sampler, batch_sampler, drop_last)
        if batch_sampler is not None:
            batch_size, drop_last = None, False
        if sampler is None:
            sampler = self._default_sampler(bool(shuffle))
        if batch_size is not None and batch_sampler is None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size, self.drop_last, self.sampler, self.batch_sampler = batch_size, drop_last, sampler, batch_sampler
        self.collate_fn = collate_fn or (default_collate if self._auto_collation else default_convert)
        self._IterableDataset_len_called: int | None = None
        self._iterator: _BaseDataLoaderIter | None = None
        self.__initialized = True
        self.check_worker_number_rationality()

    def _default_sampler(self, shuffle: bool):
        if self._dataset_kind == _DatasetKind.Iterable:
            return _InfiniteConstantSampler()
        if shuffle:
            return RandomSampler(self.dataset, generator=self.generator)
        return SequentialSampler(self.dataset)

    def __setattr__(self, name: str, value: Any) -> None:
        fixed = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")
        if self.__initialized and name in fixed:
            raise ValueError(f"{name} attribute should not be set after {type(self).__name__} is initialized. Make a new loader")
        super().__setattr__(name, value)

    @property
    def multiprocessing_context(self):
        return self._context

    @multiprocessing_context.setter
    def multiprocessing_context(self, context) -> None:
        self._context = _checked_context(context, self.num_workers)

    @property
    def _auto_collation(self) -> bool:
        return self.batch_sampler is not None

    @property
    def _index_sampler(self):
        return self.batch_sampler if self._auto_collation else self.sampler

    def __iter__(self) -> _BaseDataLoaderIter:
        if not (self.persistent_workers and self.num_workers > 0):
            return self._get_iterator()
        if self._iterator is None or self._iterator.broken:
            self._iterator = self._get_iterator()
        else:
            self._iterator._reset(self)
        return self._iterator

    def _get_iterator(self) -> _BaseDataLoaderIter:
        return _MultiProcessingDataLoaderIter(self) if self.num_workers else _SingleProcessDataLoaderIter(self)

    def __len__(self) -> int:
        if self._dataset_kind == _DatasetKind.Map:
            return len(self._index_sampler)
        length = self._IterableDataset_len_called = len(self.dataset)
        if self.batch_size is None:
            return length
        return length // self.batch_size if self.drop_last else -(-length // self.batch_size)

    def check_worker_number_rationality(self) -> None:
        """Warn if there are more workers than processors."""
        available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if self.num_workers > available:
            warnings.warn(f"DataLoader: num_workers={self.num_workers}, but this process may use {available} processors. "
                          "More workers than that make loading slower, not faster", stacklevel=3)


def _check_workers(num_workers: int, timeout: float, prefetch_factor: int | None, persistent_workers: bool) -> None:
    if num_workers < 0:
        raise ValueError(f"num_workers option should be non-negative; received {num_workers}. "
                         "Use num_workers=0 to disable multiprocessing")
    if timeout < 0:
        raise ValueError(f"timeout option should be non-negative; received {timeout}")
    if num_workers == 0 and prefetch_factor is not None:
        raise ValueError("prefetch_factor option could only be specified in multiprocessing. "
                         "Let num_workers > 0, or leave prefetch_factor out")
    if prefetch_factor is not None and prefetch_factor < 0:
        raise ValueError(f"prefetch_factor option should be non-negative; received {prefetch_factor}")
    if persistent_workers and num_workers == 0:
        raise ValueError("persistent_workers option needs num_workers > 0")


def _check_sampling(kind: int, batch_size, shuffle, sampler, batch_sampler, drop_last) -> None:
    if kind == _DatasetKind.Iterable:
        for name, value in (("shuffle", shuffle or None), ("sampler", sampler), ("batch_sampler", batch_sampler)):
            if value is not None:
                raise ValueError(f"DataLoader with IterableDataset: expected unspecified {name} option, "
                                 f"but got {name}={value}. The dataset itself decides the order")
    if sampler is not None and shuffle:
        raise ValueError("sampler option is mutually exclusive with shuffle")
    if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
        raise ValueError("batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last")
    if batch_size is None and drop_last:
        raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")


def _checked_context(context, num_workers: int):
    if context is None:
        return None
    if num_workers == 0:
        raise ValueError("multiprocessing_context can only be used with multi-process loading (num_workers > 0), "
                         "but got num_workers=0")
    if isinstance(context, str):
        known = multiprocessing.get_all_start_methods()
        if context not in known:
            raise ValueError(f"multiprocessing_context option should specify a valid start method in {known!r}, "
                             f"but got multiprocessing_context={context!r}")
        return multiprocessing.get_context(context)
    if not isinstance(context, multiprocessing.context.BaseContext):
        raise TypeError("multiprocessing_context option should be a valid context object or a string specifying the start "
                        f"method, but got multiprocessing_context={context}")
    return context


class _BaseDataLoaderIter:
    """One pass over a loader."""

    broken = False

    def __init__(self, loader: DataLoader):
        self._dataset, self._dataset_kind = loader.dataset, loader._dataset_kind
        self._index_sampler, self._num_workers = loader._index_sampler, loader.num_workers
        fetcher = IterableFetcher if loader._dataset_kind == _DatasetKind.Iterable else MapFetcher
        self._make_fetcher = functools.partial(_make_fetcher, fetcher, loader._auto_collation, loader.collate_fn,
                                               loader.drop_last)
        self._pinned = loader.pin_memory and cuda.unavailable() is None
        if loader.pin_memory and not self._pinned:
            warnings.warn("'pin_memory' argument is set as true but no accelerator is found, "
                          "then device pinned memory won't be used.", stacklevel=4)
        self._epoch_seed = self._begin_epoch(loader)
        self._sampler_iter = iter(self._index_sampler)
        self._base_seed = draw_seed(loader.generator)
        self._start(loader)

    def _begin_epoch(self, loader: DataLoader) -> int | None:
        """Seed the random stages of a pipeline; returns the seed that they were drawn from."""
        if not isinstance(self._dataset, IterDataPipe):
            return None
        from .graph_settings import begin_epoch, draw_epoch_seed

        seed = draw_epoch_seed(loader.generator)
        begin_epoch(self._dataset, seed)
        return seed

    def _start(self, loader: DataLoader) -> None:
        self._num_yielded = 0
        self._expected = loader._IterableDataset_len_called

    def _reset(self, loader: DataLoader) -> None:
        self._sampler_iter = iter(self._index_sampler)
        self._start(loader)

    def __iter__(self):
        return self

    def __next__(self) -> Any:
        data = self._next_data()
        self._num_yielded += 1
        if self._dataset_kind == _DatasetKind.Iterable and self._expected is not None and self._num_yielded > self._expected:
            warnings.warn(f"Length of IterableDataset {self._dataset} was reported to be {self._expected} (when "
                          f"accessing len(dataloader)), but {self._num_yielded} samples have been fetched. With workers, each "
                          "iterates over the whole dataset unless it asks get_worker_info() for its part", stacklevel=2)
        return pin(data) if self._pinned else data

    def _next_data(self) -> Any:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._index_sampler)

    def __getstate__(self):
        raise NotImplementedError(f"{type(self).__name__} cannot be pickled: make a new iterator of the loader")


def _make_fetcher(kind: type, batched: bool, collate_fn: Callable, drop_last: bool, dataset):
    return kind(dataset, batched, collate_fn, drop_last)


class _SingleProcessDataLoaderIter(_BaseDataLoaderIter):
    def __init__(self, loader: DataLoader):
        super().__init__(loader)
        if loader.timeout:
            raise AssertionError(f"timeout needs num_workers > 0; received timeout={loader.timeout}")
        if isinstance(self._dataset, IterDataPipe):
            from .graph_settings import share_out

            share_out(self._dataset)
        self._fetcher = self._make_fetcher(self._dataset)

    def _next_data(self) -> Any:
        return self._fetcher.fetch(next(self._sampler_iter))


class _MultiProcessingDataLoaderIter(_BaseDataLoaderIter):
    """Requests go to the workers in turn, and each worker answers in the order of its requests.

    In order, the next batch is thus always the next answer of a known worker. `_tasks` has the worker of each request.
    """

    def __init__(self, loader: DataLoader):
        super().__init__(loader)
        self._timeout, self._in_order = loader.timeout, loader.in_order
        self._persistent = loader.persistent_workers
        self._most = loader.prefetch_factor * loader.num_workers  # type: ignore[operator]
        tape.flush()  # a value still pending would be computed in every worker
        context = loader.multiprocessing_context or multiprocessing
        self._workers: list[_WorkerHandle] = []
        self._closer = weakref.finalize(self, _close, self._workers, os.getpid())
        try:
            for i in range(self._num_workers):
                settings = workers.Settings(self._make_fetcher, self._dataset, loader.worker_init_fn, self._base_seed, i,
                                            self._num_workers, self._dataset_kind == _DatasetKind.Iterable)
                self._workers.append(_WorkerHandle(context, settings))
            self._reset(loader)
        except BaseException:
            self._shutdown_workers()
            raise

    @property
    def broken(self) -> bool:  # type: ignore[override]
        return not self._closer.alive

    def _reset(self, loader: DataLoader) -> None:
        if self._num_yielded or hasattr(self, "_tasks"):
            self._epoch_seed = self._begin_epoch(loader)
            self._resume()
        super()._reset(loader)
        self._tasks: deque[_WorkerHandle] = deque()
        self._turn = itertools.cycle(self._workers)
        self._sent = 0
        for worker in self._workers:
            worker.active = True
        for _ in range(self._most):
            self._request()

    def _resume(self) -> None:
        """Tell all workers that another epoch begins, and drop what they still had to answer."""
        for worker in self._workers:
            worker.send(-1, workers.Resume(self._epoch_seed))
        for worker in self._workers:
            while True:
                _, payload = self._receive(worker)
                if isinstance(payload, workers.Resumed):
                    break
                if isinstance(payload, ExceptionWrapper) and not worker.unanswered:
                    self._shutdown_workers()
                    payload.reraise()

    def _request(self) -> None:
        """Send the next indices to the worker whose turn it is."""
        try:
            index = next(self._sampler_iter)
        except StopIteration:
            return
        active = sum(worker.active for worker in self._workers)
        for worker in itertools.islice(self._turn, self._num_workers):
            if worker.active and (self._in_order or len(worker.unanswered) < self._most // active):
                self._tasks.append(worker)
                worker.send(self._sent, index)
                self._sent += 1
                return

    def _next_data(self) -> Any:
        while self._tasks:
            if self.broken:
                raise RuntimeError("DataLoader: expected running workers; they were stopped by an earlier error. "
                                   "Start again: iter(loader)")
            worker = self._tasks[0] if self._in_order else self._first_ready()
            _, payload = self._receive(worker)
            self._tasks.remove(worker)
            if isinstance(payload, workers.End):
                if worker.active:
                    worker.active = False
                    self._request()
                continue
            self._request()
            if isinstance(payload, ExceptionWrapper):
                payload.reraise()
            return payload
        if not self._persistent:
            self._shutdown_workers()
        raise StopIteration

    def _first_ready(self) -> _WorkerHandle:
        waiting = {worker.answers: worker for worker in self._workers if worker.unanswered}
        ready = multiprocessing.connection.wait(list(waiting), self._timeout or None)
        if not ready:
            self._time_out()
        return waiting[ready[0]]  # type: ignore[index]

    def _receive(self, worker: _WorkerHandle) -> tuple[int, Any]:
        try:
            if self._timeout and not worker.answers.poll(self._timeout):
                self._time_out()
            return worker.receive()
        except BaseException:  # a message half read, a dead worker: there is no going on
            self._shutdown_workers()
            raise

    def _time_out(self) -> None:
        for worker in self._workers:
            worker.process.terminate()  # it hangs: there is no use in waiting for it to end by itself
        raise RuntimeError(f"DataLoader timed out after {self._timeout} seconds. "
                           "A worker needs longer for a batch, or hangs: try num_workers=0")

    def _shutdown_workers(self) -> None:
        self._closer()


class _WorkerHandle:
    """The parent's side of one worker: its process, the two pipes and the shared memory."""

    def __init__(self, context, settings: workers.Settings):
        requests, self._requests = context.Pipe(duplex=False)
        self.answers, answers = context.Pipe(duplex=False)
        workers.parent_ends.update((self._requests, self.answers))
        arena = Arena.create()
        self._receiver = Receiver(arena)
        self.process = context.Process(target=workers.run, args=(settings, requests, answers, arena), daemon=True)
        try:
            self.process.start()
        except (pickle.PicklingError, AttributeError, TypeError, OSError, EOFError) as error:
            method = context.get_start_method()
            if method != "fork" and hasattr(error, "add_note"):
                error.add_note(f"DataLoader: a worker could not be started by {method!r}, which sends it the dataset and functions with "
                               "pickle and imports the main script again. Define them at the top level of a module and put what the "
                               'script does under `if __name__ == "__main__":`, or pass multiprocessing_context="fork", or num_workers=0.')
            raise
        finally:
            requests.close()
            answers.close()
            if arena is not None:
                arena.close()
        self.active = True
        self.unanswered: deque[int] = deque()  # the bytes of each request that has no answer yet
        self._waiting: deque[bytes] = deque()
        self._room = _capacity(self._requests.fileno()) // 2

    def send(self, task: int, request: Any) -> None:
        """Send a request without ever blocking: what may not fit into the pipe waits until the worker has answered.

        (A worker that blocks on a large answer does not read; were its parent to block on a request, both would for ever.)
        """
        message = pickle.dumps((task, request, self._receiver.take_released()), 5)
        self.unanswered.append(len(message))
        self._waiting.append(message)
        self._send_waiting()

    def _send_waiting(self) -> None:
        while self._waiting:
            underway = len(self.unanswered) - len(self._waiting)
            nbytes = sum(itertools.islice(self.unanswered, underway))
            if underway and nbytes + len(self._waiting[0]) > self._room:
                return
            try:
                self._requests.send_bytes(self._waiting.popleft())
            except OSError:
                return  # it is dead, which `receive` reports

    def receive(self) -> tuple[int, Any]:
        """The next answer: (task, payload). Raises RuntimeError if the worker has died."""
        try:
            message = self.answers.recv_bytes()
        except (EOFError, OSError):
            raise RuntimeError(self._obituary()) from None
        self.unanswered.popleft()
        self._send_waiting()
        return self._receiver.unpack(message)

    def _obituary(self) -> str:
        self.process.join(30)     # it is ending: its end of the pipe is closed
        code = self.process.exitcode
        name = f"DataLoader worker (pid {self.process.pid})"
        if code is not None and code < 0:
            text = f"{name} is killed by signal: {signal.strsignal(-code) or -code}. "
            return text + ("The machine may be out of memory: use fewer workers or smaller batches" if code == -9 else
                           "Rerun with num_workers=0 to see where")
        return f"{name} exited unexpectedly with exit code {code}. Rerun with num_workers=0 to see why"

    def hang_up(self) -> None:
        """Close the pipes, which ends the worker."""
        self._requests.close()
        self.answers.close()


def _capacity(descriptor: int) -> int:
    try:
        import fcntl

        return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)  # type: ignore[attr-defined]
    except (ImportError, AttributeError, OSError):
        return 8192


def _close(handles: list[_WorkerHandle], owner: int) -> None:
    """End all workers: they stop when they find the pipe closed; one that is busy for long is killed."""
    if os.getpid() != owner:
        return  # a forked copy of the iterator
    for worker in handles:
        worker.hang_up()
    deadline = time.monotonic() + 5
    for worker in handles:
        worker.process.join(max(0.0, deadline - time.monotonic()))
    for worker in handles:
        if worker.process.is_alive():
            worker.process.terminate()
            worker.process.join(1)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


