"""The same seed gives the same orders and seeds as in PyTorch."""

from __future__ import annotations

import random

import numpy as np
import pytest

import antorcha
import antorcha.utils.data as ours

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("torch.utils.data")
pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

BOTH = [(antorcha, ours), (torch, theirs)]


def both(make):
    got = []
    for library, data in BOTH:
        library.manual_seed(11)
        got.append((make(library, data), library.rand(3).tolist()))  # and the generator is left in the same state
    assert got[0] == got[1]
    return got[0][0]


@pytest.mark.parametrize("n", [1, 7, 40, 1000])
def test_samplers(n):
    both(lambda library, data: list(data.RandomSampler(range(n))))
    both(lambda library, data: list(data.RandomSampler(range(n), num_samples=2 * n + 3)))
    both(lambda library, data: list(data.RandomSampler(range(n), generator=library.Generator().manual_seed(3))))
    for count in (1, 31, 32, 64, 70):
        both(lambda library, data, count=count: list(data.RandomSampler(range(n), True, count)))
        both(lambda library, data, count=count: list(
            data.RandomSampler(range(n), True, count, library.Generator().manual_seed(3))))
    both(lambda library, data: list(data.SubsetRandomSampler(range(5, 5 + n))))
    for drop_last in (False, True):
        both(lambda library, data, drop=drop_last: [
            list(data.DistributedSampler(range(n), 3, rank, seed=2, drop_last=drop)) for rank in range(3)])


def test_weighted_sampler():
    both(lambda library, data: list(data.WeightedRandomSampler([0.1, 0.9, 0.4, 3.0], 50)))


def test_random_split():
    for lengths in ([30, 70], [0.5, 0.3, 0.2], [1 / 3] * 3):
        both(lambda library, data, lengths=lengths: [part.indices for part in data.random_split(range(100), lengths)])


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("persistent", [False, True])
def test_epochs(workers, persistent):
    options = dict(num_workers=workers, persistent_workers=persistent and workers > 0)

    def epochs(library, data):
        loader = data.DataLoader(data.TensorDataset(library.arange(50)), 8, shuffle=True, **options)
        return [[batch[0].tolist() for batch in loader] for _ in range(3)]

    both(epochs)
    both(lambda library, data: [batch.tolist() for batch in data.DataLoader(
        range(50), 8, shuffle=True, generator=library.Generator().manual_seed(1), **options)])


def test_random_numbers_of_workers():
    def draw(library, data):
        class Draw(data.Dataset):
            def __len__(self):
                return 6

            def __getitem__(self, i):
                return random.random(), float(np.random.rand()), library.rand(2).tolist(), data.get_worker_info().seed

        return list(data.DataLoader(Draw(), batch_size=None, num_workers=2, collate_fn=lambda sample: sample))

    both(draw)


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_iterable_datasets(workers):
    def epoch(library, data):
        class Stream(data.IterableDataset):
            def __iter__(self):
                info = data.get_worker_info()
                first = 0 if info is None else 10 * info.id
                return iter(range(first, first + 5 + first // 3))

        return [[batch.tolist() for batch in data.DataLoader(Stream(), size, num_workers=workers, drop_last=drop)]
                for size in (1, 2, 3) for drop in (False, True)]

    both(epoch)


def test_collate():
    def structure(value):
        if hasattr(value, "tolist"):
            return str(value.dtype), tuple(value.shape), value.tolist()
        if isinstance(value, dict):
            return {key: structure(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [type(value).__name__, *map(structure, value)]
        return value

    samples = [1, 2.5, True, "a", b"b", np.float32(3), np.int16(3), np.ones((2, 3)), [1, 2.0], (1, "x"),
               {"k": 1, "n": [1, (2, 3)]}]
    for sample in samples:
        both(lambda library, data, sample=sample: structure(data.default_collate([sample, sample, sample])))
        both(lambda library, data, sample=sample: structure(data.default_convert(sample)))
