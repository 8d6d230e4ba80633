"""Pipelines of data: what each stage gives, epochs, and the loader's share in them."""

from __future__ import annotations

import pickle

import pytest

import antorcha as torch
from antorcha.utils.data import (
    DataLoader,
    IterDataPipe,
    MapDataPipe,
    functional_datapipe,
    guaranteed_datapipes_determinism,
    non_deterministic,
)
from antorcha.utils.data.datapipes.iter import IterableWrapper
from antorcha.utils.data.datapipes.map import SequenceWrapper
from antorcha.utils.data.graph import traverse_dps


def numbers(n: int = 6):
    return IterableWrapper(range(n))


STAGES = {
    "map": (lambda p: p.map(lambda x: x * x), [0, 1, 4, 9, 16, 25]),
    "filter": (lambda p: p.filter(lambda x: x % 2 == 0), [0, 2, 4]),
    "batch": (lambda p: p.batch(4), [[0, 1, 2, 3], [4, 5]]),
    "batch_drop": (lambda p: p.batch(4, drop_last=True), [[0, 1, 2, 3]]),
    "unbatch": (lambda p: p.batch(2).batch(2).unbatch(unbatch_level=2), [0, 1, 2, 3, 4, 5]),
    "unbatch_all": (lambda p: p.batch(2).batch(2).unbatch(unbatch_level=-1), [0, 1, 2, 3, 4, 5]),
    "concat": (lambda p: p.concat(numbers(2)), [0, 1, 2, 3, 4, 5, 0, 1]),
    "zip": (lambda p: p.zip(numbers(2).map(str)), [(0, "0"), (1, "1")]),
    "mux": (lambda p: p.mux(numbers(2).map(str)), [0, "0", 1, "1"]),
    "group": (lambda p: p.groupby(lambda x: x % 3), [[0, 3], [1, 4], [2, 5]]),
    "group_key": (lambda p: p.groupby(lambda x: x % 2, keep_key=True, group_size=2), [(0, [0, 2]), (1, [1, 3]), (0, [4]), (1, [5])]),
    "group_full": (lambda p: p.groupby(lambda x: x // 2, buffer_size=3), [[0, 1], [2, 3], [4, 5]]),
    "shard": (lambda p: p.sharding_filter(), [0, 1, 2, 3, 4, 5]),
    "columns": (lambda p: p.map(lambda x: (x, 1)).map(lambda a, b: a + b, input_col=[0, 1]), [(i + 1,) for i in range(6)]),
    "new_column": (lambda p: p.map(lambda x: [x]).map(str, input_col=0, output_col=-1), [[i, str(i)] for i in range(6)]),
    "dict_column": (lambda p: p.map(lambda x: {"a": x}).filter(lambda x: x > 4, input_col="a"), [{"a": 5}]),
}


@pytest.mark.parametrize("name", STAGES)
def test_what_a_stage_gives_in_each_epoch(name):
    build, expected = STAGES[name]
    pipe = build(numbers())
    assert list(pipe) == expected == list(pipe)


def test_lengths():
    pipe = numbers(7)
    assert len(pipe.batch(3)) == 3 and len(pipe.batch(3, drop_last=True)) == 2 and len(pipe.map(str)) == 7
    assert len(pipe.zip(numbers(3))) == 3 and len(pipe.concat(numbers(3))) == 10 and len(pipe.mux(numbers(3))) == 6
    with pytest.raises(TypeError):
        len(pipe.filter(bool))


def test_forks_read_the_source_once_an_epoch():
    drawn = []
    left, right = numbers(4).map(lambda x: drawn.append(x) or x).fork(2)
    for _ in range(2):
        assert list(left) == [0, 1, 2, 3] == list(right)
    assert drawn == [0, 1, 2, 3] * 2
    small, other = numbers(9).fork(2, buffer_size=3)
    iter(other)
    with pytest.raises(BufferError, match="overflow"):
        list(small)


def test_forked_samples_are_copied_when_asked():
    left, right = IterableWrapper([[1], [2]]).fork(2, copy="shallow")
    for sample in left:
        sample.append(0)
    assert list(right) == [[1], [2]]


def test_demux_sorts_samples():
    even, odd = numbers(5).demux(2, lambda x: x % 2)
    assert list(even) == [0, 2, 4] and list(odd) == [1, 3]
    (kept,) = numbers(5).demux(1, lambda x: 0 if x > 2 else None, drop_none=True)
    assert list(kept) == [3, 4]
    with pytest.raises(ValueError, match="between 0 and 0"):
        list(numbers(5).demux(1, lambda x: x)[0])


def test_an_iterator_ends_with_its_epoch():
    pipe = numbers(3)
    first = iter(pipe)
    assert next(first) == 0
    second = iter(pipe)
    assert next(second) == 0
    with pytest.raises(RuntimeError, match="invalidated"):
        next(first)


def test_shuffle_follows_the_seed():
    pipe = numbers(20).shuffle(buffer_size=5)
    torch.manual_seed(1)
    first, second = list(pipe), list(pipe)
    assert sorted(first) == sorted(second) == list(range(20)) and first != second
    torch.manual_seed(1)
    assert list(pipe) == first
    assert list(pipe.set_shuffle(False)) == list(range(20))
    assert list(pipe.set_shuffle().set_seed(3)) == list(pipe.set_seed(3))


def test_stages_of_ones_own():
    @functional_datapipe("plus_for_test")
    class Plus(IterDataPipe):
        def __init__(self, source, what):
            self.source, self.what, self.epochs = source, what, 0

        def reset(self):
            self.epochs += 1

        def __iter__(self):
            for x in self.source:
                yield x + self.what

    pipe = numbers(2).plus_for_test(5)
    assert isinstance(pipe, Plus) and list(pipe) == [5, 6] == list(pipe) and pipe.epochs == 2
    assert not hasattr(SequenceWrapper([1]), "plus_for_test")
    with pytest.raises(ValueError, match="already taken"):
        functional_datapipe("plus_for_test")(Plus)
    with pytest.raises(TypeError, match="IterDataPipe or MapDataPipe"):
        functional_datapipe("x_for_test")(dict)
    with pytest.raises(AttributeError, match="no_such_stage"):
        pipe.no_such_stage()


def test_non_deterministic_stages_are_refused_when_determinism_is_asked():
    @non_deterministic
    class Any(IterDataPipe):
        pass

    Any()
    with guaranteed_datapipes_determinism(), pytest.raises(TypeError, match="non-deterministic"):
        Any()


def test_pipelines_by_key():
    pipe = SequenceWrapper([3, 1, 2]).map(lambda x: x * 2)
    assert isinstance(pipe, MapDataPipe) and [pipe[i] for i in range(len(pipe))] == [6, 2, 4]
    both = pipe.concat(SequenceWrapper([7]))
    assert both[3] == 7 and len(both) == 4 and both.batch(3)[1] == [7] and both.zip(pipe)[1] == (2, 2)
    assert sorted(both.shuffle()) == [2, 4, 6, 7]


def test_files(tmp_path):
    from antorcha.utils.data.datapipes.iter import FileLister

    for name in ("b.txt", "a.txt", "c.md"):
        (tmp_path / name).write_text(name * 2)
    found = [(path[-5:], text) for path, text in FileLister(str(tmp_path), "*.txt").open_files().read_from_stream()]
    assert found == [("a.txt", "a.txta.txt"), ("b.txt", "b.txtb.txt")]


def test_traverse_finds_all_stages():
    source = numbers()
    left, right = source.fork(2)
    ((_, below),) = traverse_dps(left.zip(right)).values()
    assert {id(left), id(right)} == set(below) and all(id(source) in inner for _, inner in below.values())


def test_the_loader_shuffles_and_shares_out():
    pipe = numbers(12).shuffle().sharding_filter()
    torch.manual_seed(0)
    alone = torch.cat(list(DataLoader(pipe, batch_size=3))).tolist()
    assert sorted(alone) == list(range(12)) != alone
    torch.manual_seed(0)
    loader = DataLoader(pickle.loads(pickle.dumps(pipe)), batch_size=3, num_workers=2, persistent_workers=True)
    epochs = [torch.cat(list(loader)).tolist() for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12)) and epochs[0] != epochs[1]
    assert epochs[0][:3] == alone[::2][:3]      # the first worker's share of the same order
    assert torch.cat(list(DataLoader(pipe, batch_size=3, shuffle=False))).tolist() == list(range(12))


@pytest.mark.oracle
def test_shuffles_as_pytorch_does():
    oracle = pytest.importorskip("torch")
    from torch.utils.data.datapipes.iter import IterableWrapper as Theirs

    orders = []
    for module, wrapper, loader in ((torch, IterableWrapper, DataLoader), (oracle, Theirs, oracle.utils.data.DataLoader)):
        module.manual_seed(5)
        pipe = wrapper(range(40)).shuffle(buffer_size=7)
        orders.append([list(pipe), module.cat(list(loader(pipe.sharding_filter(), batch_size=8))).tolist()])
    assert orders[0] == orders[1]
