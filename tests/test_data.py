"""Datasets, samplers, collation and the data loader, with and without worker processes."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import OrderedDict, namedtuple
from pathlib import Path

import numpy as np
import pytest

import antorcha as torch
from antorcha.utils import data
from antorcha.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    default_convert,
    get_worker_info,
    random_split,
)

ROOT = Path(__file__).parents[1]


class Squares(Dataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return torch.tensor([float(i), float(i * i)]), i


class Stream(IterableDataset):
    """Worker i gives 10 i, 10 i + 1, ...: 5 + 4 i of them."""

    def __iter__(self):
        info = get_worker_info()
        first = 0 if info is None else 10 * info.id
        return iter(range(first, first + 5 + first * 2 // 5))


def labels(loader):
    return [batch[1].tolist() for batch in loader]


# datasets


def test_tensor_dataset():
    x, y = torch.arange(6.0).reshape(3, 2), torch.tensor([5, 6, 7])
    dataset = TensorDataset(x, y)
    assert len(dataset) == 3
    row, label = dataset[1]
    assert row.tolist() == [2.0, 3.0] and label.item() == 6
    with pytest.raises(AssertionError, match="Size mismatch"):
        TensorDataset(x, torch.zeros(2))


def test_subset_concat_stack_and_chain():
    squares = Squares(5)
    assert Subset(squares, [4, 2])[1][1] == 2 and len(Subset(squares, [4, 2])) == 2
    both = squares + Subset(squares, [0])
    assert isinstance(both, ConcatDataset) and len(both) == 6 and both[5][1] == 0 and both[-2][1] == 4
    with pytest.raises(ValueError, match="should not exceed"):
        both[-7]
    with pytest.raises(AssertionError, match="empty"):
        ConcatDataset([])
    with pytest.raises(AssertionError, match="IterableDataset"):
        ConcatDataset([Stream()])
    assert StackDataset(squares, squares)[2][1][1] == 2
    assert StackDataset(a=squares, b=Subset(squares, range(5))).__getitems__([1, 3])[1]["b"][1] == 3
    with pytest.raises(ValueError, match="Size mismatch"):
        StackDataset(squares, Squares(4))
    assert list(Stream() + Stream()) == 2 * list(range(5)) and isinstance(Stream() + Stream(), ChainDataset)


def test_subset_must_override_both():
    class Half(Subset):
        def __getitem__(self, index):
            return 0

    with pytest.raises(NotImplementedError, match="__getitems__"):
        Half(Squares(2), [0])


def test_random_split():
    parts = random_split(range(10), [0.25, 0.25, 0.5], generator=torch.Generator().manual_seed(0))
    assert [len(part) for part in parts] == [3, 2, 5]
    assert sorted(i for part in parts for i in part.indices) == list(range(10))
    assert [len(part) for part in random_split(range(10), [7, 3])] == [7, 3]
    with pytest.raises(ValueError, match="sum to 10"):
        random_split(range(10), [7, 4])
    with pytest.raises(ValueError, match="fractions between"):
        random_split(range(10), [1.5, -0.5])
    with pytest.warns(UserWarning, match="is 0"):
        random_split(range(2), [0.5, 0.4, 0.1])


# samplers


def test_samplers():
    torch.manual_seed(0)
    assert list(SequentialSampler(range(4))) == [0, 1, 2, 3]
    assert sorted(RandomSampler(range(50))) == list(range(50))
    assert len(list(RandomSampler(range(5), num_samples=12))) == 12
    drawn = list(RandomSampler(range(5), replacement=True, num_samples=70))
    assert len(drawn) == 70 and set(drawn) <= set(range(5))
    assert sorted(SubsetRandomSampler([3, 9])) == [3, 9]
    assert set(WeightedRandomSampler([0.0, 1.0, 0.0], 10)) == {1}
    assert list(BatchSampler(range(5), 2, False)) == [[0, 1], [2, 3], [4]]
    assert list(BatchSampler(range(5), 2, True)) == [[0, 1], [2, 3]]
    assert len(BatchSampler(range(5), 2, False)) == 3 and len(BatchSampler(range(5), 2, True)) == 2


def test_sampler_arguments():
    with pytest.raises(ValueError, match="num_samples"):
        RandomSampler([])
    with pytest.raises(TypeError, match="replacement"):
        RandomSampler([1], replacement=1)
    for size in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="batch_size"):
            BatchSampler(range(3), size, False)
    with pytest.raises(ValueError, match="1d"):
        WeightedRandomSampler([[0.1]], 1)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
def test_distributed_sampler(shuffle, drop_last):
    samplers = [DistributedSampler(range(11), 4, rank, shuffle, drop_last=drop_last) for rank in range(4)]
    parts = [list(sampler) for sampler in samplers]
    assert [len(part) for part in parts] == [len(sampler) for sampler in samplers] == [2 if drop_last else 3] * 4
    assert len({i for part in parts for i in part}) == (8 if drop_last else 11)
    samplers[0].set_epoch(1)
    assert (list(samplers[0]) != parts[0]) == shuffle
    assert len(list(DistributedSampler(range(2), 8, 7))) == 1
    with pytest.raises(ValueError, match="rank"):
        DistributedSampler(range(3), 2, 2)


# collation


def test_default_collate():
    Pair = namedtuple("Pair", "a b")
    batch = [{"t": torch.tensor([1.0, 2.0]), "i": 1, "f": 0.5, "s": "x", "n": np.float32(2), "arr": np.ones(2),
              "p": Pair(1, [2, 3]), "flag": True} for _ in range(3)]
    got = default_collate(batch)
    assert got["t"].shape == (3, 2) and got["t"].dtype is torch.float32
    assert got["i"].dtype is torch.int64 and got["f"].dtype is torch.float64 and got["s"] == ["x"] * 3
    assert got["n"].dtype is torch.float32 and got["arr"].dtype is torch.float64 and got["flag"].dtype is torch.bool
    assert type(got["p"]) is Pair and got["p"].b[1].tolist() == [3, 3, 3]
    assert type(default_collate([(1, 2)])) is list
    assert type(default_collate([OrderedDict(a=1)])) is OrderedDict
    kept = default_collate([torch.ones(2, requires_grad=True), torch.zeros(2)])
    assert kept.requires_grad


def test_default_collate_errors():
    with pytest.raises(TypeError, match="found <class 'object'>"):
        default_collate([object()])
    with pytest.raises(TypeError, match="found an array"):
        default_collate([np.array(["a"])])
    with pytest.raises(RuntimeError, match="equal size"):
        default_collate([[1], [1, 2]])
    with pytest.raises(RuntimeError, match=r"equal size|same size|expected"):
        default_collate([torch.ones(2), torch.ones(3)])


def test_default_convert_and_own_types():
    got = default_convert({"a": np.ones(2), "b": [np.float32(1), "x"], "c": (1,)})
    assert isinstance(got["a"], torch.Tensor) and isinstance(got["b"][0], torch.Tensor) and got["b"][1] == "x" and got["c"] == [1]

    class Word(str):
        pass

    functions = {**data.collate.default_collate_fn_map, Word: lambda batch, *, collate_fn_map: "".join(batch)}
    assert data.collate.collate([Word("a"), Word("b")], collate_fn_map=functions) == "ab"


# the loader


@pytest.mark.parametrize("workers", [0, 2])
def test_order_and_batches(workers):
    loader = DataLoader(Squares(10), batch_size=4, num_workers=workers)
    assert len(loader) == 3
    assert labels(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    x, _ = next(iter(loader))
    assert x.tolist() == [[0.0, 0.0], [1.0, 1.0], [2.0, 4.0], [3.0, 9.0]]
    assert labels(DataLoader(Squares(10), 4, drop_last=True, num_workers=workers)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [i for _, i in DataLoader(Squares(3), batch_size=None, num_workers=workers)] == [0, 1, 2]
    assert labels(DataLoader(Squares(4), batch_sampler=[[3, 0], [1]], num_workers=workers)) == [[3, 0], [1]]
    assert labels(DataLoader(Squares(4), sampler=[2, 2], num_workers=workers)) == [[2], [2]]
    assert list(DataLoader(Squares(4), 2, collate_fn=len, num_workers=workers)) == [2, 2]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_same_seed_gives_the_same_order(workers):
    def epochs(seed):
        torch.manual_seed(seed)
        loader = DataLoader(Squares(20), 4, shuffle=True, num_workers=workers)
        return labels(loader), labels(loader)

    first, second = epochs(1)
    assert epochs(1) == (first, second) and first != second and epochs(2)[0] != first
    assert sorted(sum(first, [])) == list(range(20))


def test_a_generator_of_ones_own():
    def order(workers):
        return labels(DataLoader(Squares(9), shuffle=True, generator=torch.Generator().manual_seed(4), num_workers=workers))

    assert order(0) == order(0) and order(2) == order(2)


@pytest.mark.parametrize("workers", [0, 2])
def test_whole_batches_of_tensor_datasets(workers):
    """The way that takes all rows at once gives what the general way gives."""
    class General(TensorDataset):
        pass

    x, y = torch.arange(40.0).reshape(20, 2)[:, ::1], torch.arange(20)
    for tensors in [(x, y), (x.t().t(), y), (y,), (torch.arange(40.0).reshape(2, 20).t(), y)]:
        for indices in ([[3, -1, 0], [5]], [list(range(20))]):
            fast = list(DataLoader(TensorDataset(*tensors), batch_sampler=indices, num_workers=workers))
            slow = list(DataLoader(General(*tensors), batch_sampler=indices, num_workers=workers))
            for a, b in zip(fast, slow):
                assert type(a) is type(b)
                for s, t in zip(a, b):
                    assert s.tolist() == t.tolist() and s.dtype is t.dtype and s.stride() == t.stride()
    part = Subset(Subset(TensorDataset(y), range(10, 20)), [1, 3, 5])
    assert [b[0].tolist() for b in DataLoader(part, 2, num_workers=workers)] == [[11, 13], [15]]
    with pytest.raises(IndexError):
        list(DataLoader(TensorDataset(y), batch_sampler=[[0, 20]], num_workers=workers))


def test_batches_are_not_views_of_the_dataset():
    x = torch.zeros(4, 2)
    (batch,) = next(iter(DataLoader(TensorDataset(x), 4)))
    batch.add_(1)
    assert x.tolist() == [[0.0, 0.0]] * 4


def test_batches_that_are_kept_stay_as_they_are():
    class Large(Dataset):
        def __len__(self):
            return 60

        def __getitem__(self, i):
            return torch.full((1000,), float(i))

    kept = list(DataLoader(Large(), 2, num_workers=2, prefetch_factor=3))
    assert [batch[:, 999].tolist() for batch in kept] == [[2.0 * i, 2.0 * i + 1] for i in range(30)]
    for i, batch in enumerate(DataLoader(Large(), 2, num_workers=2)):  # dropped at once: memory is used again
        assert batch.mean().item() == 2 * i + 0.5


def test_what_workers_can_send():
    class Mixed(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return {"turned": torch.arange(600.0).reshape(20, 30).t(), "text": "é" * 3000, "array": np.arange(500),
                    "none": None, "p": torch.nn.Parameter(torch.ones(2)), "empty": torch.zeros(0, 3), "bool": torch.tensor(True)}

    for item in DataLoader(Mixed(), batch_size=None, num_workers=1):
        assert item["turned"].stride() == (1, 30) and item["turned"].shape == (30, 20) and item["turned"][1, 1].item() == 31.0
        assert item["text"] == "é" * 3000 and item["array"].tolist() == list(range(500)) and item["none"] is None
        assert type(item["p"]) is torch.nn.Parameter and item["empty"].shape == (0, 3) and item["bool"].item() is True
        item["array"][0] = 3


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.filterwarnings("ignore:DataLoader")
def test_iterable_datasets(workers):
    wanted = {0: [[0, 1], [2, 3], [4]], 1: [[0, 1], [2, 3], [4]],
              2: [[0, 1], [10, 11], [2, 3], [12, 13], [4], [14, 15], [16, 17], [18]]}
    for persistent in {False, workers > 0}:
        loader = DataLoader(Stream(), 2, num_workers=workers, persistent_workers=persistent)
        for _ in range(2):
            got = [batch.tolist() for batch in loader]
            if workers in wanted:
                assert got == wanted[workers]
            assert len(sum(got, [])) == sum(5 + 4 * i for i in range(max(workers, 1)))
    assert all(len(b) == 2 for b in DataLoader(Stream(), 2, num_workers=workers, drop_last=True))


def test_length_of_iterable_datasets():
    class Wrong(Stream):
        def __len__(self):
            return 3

    loader = DataLoader(Wrong(), 1)
    assert len(loader) == 3
    with pytest.warns(UserWarning, match="reported to be 3"):
        assert len(list(loader)) == 5
    with pytest.raises(TypeError):
        len(DataLoader(Stream(), 2))


def test_worker_info_seeds_and_init():
    class Report(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            info = get_worker_info()
            return (info.id, info.num_workers, info.seed, random.random(), float(np.random.rand()), torch.rand(1).item(),
                    self.mark)

    def init(worker_id):
        get_worker_info().dataset.mark = 100 + worker_id

    assert get_worker_info() is None

    def run():
        torch.manual_seed(5)
        return list(DataLoader(Report(), batch_size=None, num_workers=2, worker_init_fn=init))

    rows = run()
    assert [row[0] for row in rows] == [0, 1, 0, 1] and [row[6] for row in rows] == [100, 101, 100, 101]
    assert rows[1][2] == rows[0][2] + 1 and all(row[1] == 2 for row in rows)
    for column in (3, 4, 5):
        assert len({row[column] for row in rows}) == 4
    assert run() == rows


def test_persistent_workers_stay():
    class Pid(Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, i):
            return os.getpid()

    loader = DataLoader(Pid(), batch_size=None, num_workers=2, persistent_workers=True, shuffle=True)
    pids = set(loader)
    assert len(pids) == 2 and set(loader) == pids
    iterator = iter(loader)
    next(iterator)  # left early: the rest of that epoch does not come up in the next
    assert len(list(loader)) == 8 and set(loader) == pids
    fresh = DataLoader(Pid(), batch_size=None, num_workers=2)
    assert not set(fresh) & set(fresh)


def test_out_of_order():
    go_on = multiprocessing.Event()

    class Uneven(Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, i):
            if i == 0:
                go_on.wait(100)
            return i

    iterator = iter(DataLoader(Uneven(), batch_size=None, num_workers=2, in_order=False))
    first = next(iterator)
    go_on.set()
    assert first != 0 and sorted([first, *iterator]) == list(range(8))


def test_large_requests_and_answers_do_not_block():
    class Text(Dataset):
        def __len__(self):
            return 120_000

        def __getitem__(self, i):
            return "x" * 10

    batches = list(DataLoader(Text(), 40_000, num_workers=2, prefetch_factor=4))
    assert [len(batch) for batch in batches] == [40_000] * 3
    assert sum(len(b) for b in DataLoader(Text(), 10, num_workers=1, prefetch_factor=3000)) == 120_000


def test_pickled_start(tmp_path):
    context = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    script = f"""
        import antorcha as torch
        from antorcha.utils.data import DataLoader, TensorDataset
        if __name__ == "__main__":
            x = torch.arange(4000.0).reshape(4, 1000)
            batches = list(DataLoader(TensorDataset(x), 2, num_workers=1, multiprocessing_context={context!r}))
            print(sum(b[0].sum().item() for b in batches) == x.sum().item())
    """
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, path], env=environment, capture_output=True, text=True, timeout=500)
    assert ran.stdout.strip() == "True", ran.stderr


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have no notes")
def test_a_worker_that_cannot_be_started_says_what_to_do():
    class Local(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return i

    with pytest.raises((pickle.PicklingError, AttributeError)) as caught:
        next(iter(DataLoader(Local(), 2, num_workers=1, multiprocessing_context="spawn")))
    assert "'spawn'" in caught.value.__notes__[-1] and "num_workers=0" in caught.value.__notes__[-1]


# when something goes wrong


class Failing(Dataset):
    def __init__(self, action):
        self.action = action

    def __len__(self):
        return 8

    def __getitem__(self, i):
        if i == 5:
            self.action()
        return i


class Odd(Exception):
    def __init__(self, a, b):
        super().__init__(a, b)


def raise_(error):
    def action():
        raise error
    return action


@pytest.mark.parametrize("error, caught", [
    (ValueError("five"), ValueError), (KeyError("five"), KeyError), (Odd("five", 2), RuntimeError),
    (StopIteration("five"), StopIteration),
])
def test_errors_of_workers(error, caught):
    iterator = iter(DataLoader(Failing(raise_(error)), batch_size=None, num_workers=2))
    for _ in range(5):
        next(iterator)
    with pytest.raises(caught) as info:
        next(iterator)
    text = str(info.value)
    assert f"Caught {type(error).__name__} in DataLoader worker process 1.\nOriginal Traceback" in text
    assert "five" in text and "test_data.py" in text
    assert list(iterator) == [6, 7]


def test_errors_of_local_classes_and_initialisers():
    class Local(Exception):
        pass

    def init(worker_id):
        raise Local("no start")

    with pytest.raises(RuntimeError, match="(?s)Caught Local in DataLoader worker process 0.*no start"):
        list(DataLoader(Squares(2), num_workers=1, worker_init_fn=init))
    with pytest.raises(Exception, match="(?s)Caught .* in DataLoader worker process 0.*pickle"):
        list(DataLoader(Squares(2), num_workers=1, collate_fn=lambda batch: lambda: 0))


@pytest.mark.parametrize("action, message", [
    (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by signal: Killed"),
    (lambda: os._exit(7), "exited unexpectedly with exit code 7"),
])
def test_dead_workers(action, message):
    with pytest.raises(RuntimeError, match=rf"DataLoader worker \(pid \d+\).*{message}"):
        list(DataLoader(Failing(action), batch_size=None, num_workers=2))
    assert_no_children()


def test_timeout():
    with pytest.raises(RuntimeError, match="timed out after 0.2 seconds"):
        list(DataLoader(Failing(lambda: time.sleep(100)), batch_size=None, num_workers=1, timeout=0.2))


def assert_no_children():
    gc.collect()
    deadline = time.time() + 100
    while multiprocessing.active_children() and time.time() < deadline:
        time.sleep(0.05)
    assert multiprocessing.active_children() == []


def test_no_processes_or_descriptors_are_left():
    assert_no_children()
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    iterator = iter(DataLoader(Squares(100), 2, num_workers=2))
    next(iterator)
    del iterator
    list(DataLoader(Squares(10), 2, num_workers=2))
    assert_no_children()
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 1


SLOW = """
    import os, sys, time
    from antorcha.utils.data import DataLoader, Dataset
    class Slow(Dataset):
        def __len__(self): return 1000
        def __getitem__(self, i):
            time.sleep(0.05)
            return i
    iterator = iter(DataLoader(Slow(), batch_size=None, num_workers=2, multiprocessing_context="fork"))
    next(iterator), next(iterator)      # of each worker
    print(*[worker.process.pid for worker in iterator._workers], flush=True)
    for _ in iterator:
        pass
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize("signal_, whole_group", [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGKILL, False)],
                         ids=["ctrl-c", "interrupted parent", "killed parent"])
def test_workers_end_with_their_parent(signal_, whole_group):
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(SLOW)], env={**os.environ, "PYTHONPATH": str(ROOT)},
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2
        (os.killpg if whole_group else os.kill)(process.pid, signal_)
        process.wait(100)
        deadline = time.time() + 100
        while any(running(pid) for pid in pids) and time.time() < deadline:
            time.sleep(0.05)
        assert not any(running(pid) for pid in pids)
        errors = process.stderr.read()
        assert "KeyboardInterrupt" in errors if signal_ == signal.SIGINT else errors == ""
        assert errors.count("Traceback") <= 1
    finally:
        process.kill()
        process.communicate()


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# arguments


@pytest.mark.parametrize("options, error, message", [
    (dict(num_workers=-1), ValueError, "num_workers"), (dict(timeout=-1), ValueError, "timeout"),
    (dict(prefetch_factor=2), ValueError, "prefetch_factor"),
    (dict(num_workers=1, prefetch_factor=-1), ValueError, "prefetch_factor"),
    (dict(persistent_workers=True), ValueError, "persistent_workers"), (dict(batch_size=0), ValueError, "batch_size"),
    (dict(sampler=[0], shuffle=True), ValueError, "shuffle"),
    (dict(batch_sampler=[[0]], batch_size=2), ValueError, "batch_sampler"),
    (dict(batch_size=None, drop_last=True), ValueError, "drop_last"),
    (dict(multiprocessing_context="fork"), ValueError, "num_workers"),
    (dict(num_workers=1, multiprocessing_context="magic"), ValueError, "start method"),
    (dict(num_workers=1, multiprocessing_context=3), TypeError, "multiprocessing_context"),
])
def test_loader_arguments(options, error, message):
    with pytest.raises(error, match=message):
        DataLoader(Squares(3), **options)


@pytest.mark.parametrize("options", [dict(shuffle=True), dict(sampler=[1]), dict(batch_sampler=[[1]])])
def test_iterable_datasets_take_no_sampler(options):
    with pytest.raises(ValueError, match="IterableDataset"):
        DataLoader(Stream(), **options)


def test_loader_attributes():
    loader = DataLoader(Squares(3))
    with pytest.raises(ValueError, match="batch_size attribute should not be set"):
        loader.batch_size = 2
    assert loader.batch_size == 1 and loader.num_workers == 0 and isinstance(loader.sampler, SequentialSampler)
    with pytest.raises(NotImplementedError, match="pickled"):
        iter(loader).__getstate__()
    with pytest.warns(UserWarning, match="processors"):
        DataLoader(Squares(3), num_workers=1000)
    with pytest.warns(UserWarning, match="pin_memory"):
        next(iter(DataLoader(Squares(3), pin_memory=True)))


def test_samples_left_to_chance_are_computed_one_by_one():
    """A batch's samples together are recorded as hardly any other batch's: each alone has one of a few plans."""
    from antorcha.graph import flush

    class Flipped(Dataset):
        def __init__(self):
            self.images = np.random.default_rng(0).integers(0, 255, (96, 6, 5), dtype=np.uint8)

        def __len__(self):
            return 96

        def __getitem__(self, i):
            x = torch.from_numpy(self.images[i]).float().div(255)
            return {"x": (x.flip(1) if i * i % 7 in (1, 2) else x) - 0.5, "i": i}

    data = Flipped()
    for epoch in range(3):
        made = flush.counters["made"]
        for batch in DataLoader(data, batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(epoch)):
            for x, i in zip(batch["x"].tolist(), batch["i"].tolist()):
                expected = data.images[i].astype(np.float32) / np.float32(255)
                expected = (expected[:, ::-1] if i * i % 7 in (1, 2) else expected) - np.float32(0.5)
                np.testing.assert_array_equal(np.array(x, np.float32), expected)
    assert flush.counters["made"] == made


def test_samples_on_another_device_stay_there():
    samples = [(torch.ones(3, device="meta") * 2, i) for i in range(4)]
    for x, i in DataLoader(samples, batch_size=2):
        assert x.shape == (2, 3) and x.device.type == "meta" and len(i) == 2
