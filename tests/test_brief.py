"""Small recordings that come again and again are told and computed by functions written for them (`graph.brief`): nothing else is taken
for one."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

import antorcha as torch
from antorcha.base import config
from antorcha.graph import brief, flush, tape
from antorcha.loops.plan import Plan

OFTEN = 2 * brief.PATIENCE + 2


@pytest.fixture(autouse=True)
def _anew():
    tape.flush()
    flush.clear()
    yield
    flush.clear()


@pytest.fixture
def looked_up(monkeypatch):
    """How often a plan was found by its key."""
    calls = []
    monkeypatch.setattr(brief, "found", lambda *arguments, found=brief.found: (calls.append(1), found(*arguments)))
    return calls


def _functions() -> list:
    return [one for several in brief._known.values() for one in several]


def _settled(step, looked_up, *arguments):
    """Run `step` until a function of its own computes it."""
    for _ in range(OFTEN):
        step(*arguments)
    assert _functions() and all(one.counts for one in _functions())
    looked_up.clear()
    step(*arguments)
    assert not looked_up


def test_no_key_is_made_of_a_recording_that_is_known(looked_up):
    a = torch.tensor(2.0)
    for k in range(OFTEN):
        assert (a + k).item() == 2.0 + k
    looked_up.clear()
    for number in (3, 2.5, -0.0, True, 7):
        a.fill_(float(number))
        assert (a * number).item() == number * number and (a + number).item() == 2 * number
    looked_up.clear()
    assert (a + 1).item() == 8.0 and not looked_up


def test_blocks_and_numbers(looked_up):
    layer, x = torch.nn.Linear(3, 2), torch.randn(4, 3)

    def step(scale):
        with torch.no_grad():
            return (torch.softmax(layer(x), -1) * scale).sum().item()

    _settled(step, looked_up, 1.0)
    assert step(0.5) == pytest.approx(2.0) and step(3) == pytest.approx(12.0)
    assert not looked_up


def test_values_that_are_kept_are_computed(looked_up):
    a, b = torch.arange(4.0), torch.ones(4)
    kept = []

    def step(keep=False):
        product = a * b
        if keep:
            kept.append(product)
        return (product + 1).sum().item()

    _settled(step, looked_up)
    for _ in range(3):
        assert step(keep=True) == 10.0
    assert [t.tolist() for t in kept] == [[0, 1, 2, 3]] * 3
    assert step() == 10.0


def test_another_value_is_asked_for(looked_up):
    a = torch.arange(4.0)

    def step(second):
        x, y = a.sum(), (a * a).sum()
        return (y if second else x).item(), x.item(), y.item()

    _settled(step, looked_up, False)
    for second in (True, False, True, True):
        assert step(second) == (14.0 if second else 6.0, 6.0, 14.0)


def test_other_things_are_read(looked_up):
    a, b, c = torch.arange(4.0), torch.ones(4), torch.full((4,), 2.0)

    def step(x, y, z):
        return (x * y + z).tolist()

    _settled(step, looked_up, a, b, c)
    assert step(a, a, c) == [2, 3, 6, 11] and step(b, a, a) == [0, 2, 4, 6] and step(a, b, b) == [1, 2, 3, 4]
    assert step(a + 1, b, c) == [3, 4, 5, 6]        # not in memory yet
    assert step(torch.arange(4), b, c) == step(a.double(), b, c) == step(a, b, c) == [2, 3, 4, 5]
    whole = torch.arange(8.0)
    assert step(whole[:4], b, c) == [2, 3, 4, 5] and step(whole[4:], b, whole[2:6]) == [6, 8, 10, 12]
    array = np.arange(4, dtype=np.float32)
    assert step(torch.from_numpy(array), b, c) == [2, 3, 4, 5]


def test_memory_is_taken_over_only_if_nobody_can_ask_for_it(looked_up):
    seen = []

    def step(total, keep=None):
        for k in range(3):
            before = total.clone() if keep == "copy" else total.detach() if keep == "alias" else None
            total += 1.5
            total.sum().item()
            seen.append((before, k))
        return total.tolist()

    _settled(lambda: step(torch.zeros(4)), looked_up)
    for keep in ("copy", "alias", None, "copy", "alias"):
        seen.clear()
        assert step(torch.zeros(4), keep) == [4.5] * 4
        for before, k in seen:
            assert before is None or before.tolist() == ([1.5 * k] * 4 if keep == "copy" else [4.5] * 4)
    total = torch.zeros(4)
    array = total.numpy()
    assert step(total) == array.tolist() == [4.5] * 4


def test_an_index_out_of_its_dimension(looked_up):
    table = torch.arange(5.0)

    def step(place):
        index = (torch.tensor([1.5]) * place).to(torch.int64)
        return table[index].item()

    _settled(step, looked_up, 2)
    for _ in range(3):
        with pytest.raises(IndexError, match="5"):
            step(7)
        assert step(2) == 3.0 and step(1) == 1.0


def test_slices_that_move(looked_up):
    data = torch.arange(60.0)

    def step(k):
        return (data[k] > 10).item(), (data[k:k + 3] * 2).tolist()

    for k in range(1, 3 * OFTEN):
        step(k)
    looked_up.clear()
    for k in range(1, 50):
        assert step(k) == (k > 10, [2 * k, 2 * k + 2, 2 * k + 4])
    assert not looked_up


def test_a_setting_changes(looked_up, monkeypatch):
    a = torch.arange(4.0)

    def step():
        return (a * 2).sum().item()

    _settled(step, looked_up)
    monkeypatch.setattr(config, "fuse", False)
    assert step() == 12.0 and len(flush.last().kernels()) == 2
    monkeypatch.setattr(config, "fuse", True)
    assert step() == 12.0 and len(flush.last().kernels()) == 1


def test_functions_are_not_kept_for_good(monkeypatch):
    monkeypatch.setattr(brief, "ROOM", 5)
    for n in range(1, 20):
        x = torch.ones(n)
        for _ in range(OFTEN):
            assert (x + 1).sum().item() == 2.0 * n
    assert len(_functions()) <= 5


def test_what_seems_to_be_another_recording_is_not_trusted():
    """A function is used once it and the key have told the same."""
    a = torch.arange(4.0)

    def step(keep):
        product = a * 2
        (product + 1).sum().item()
        return product if keep else None

    while not _functions():
        step(False)
    (one,) = _functions()
    assert one.counts is None
    assert step(True).tolist() == [0, 2, 4, 6]


def test_threads():
    """Each lets values go while another computes."""
    failures = []

    def work(number):
        a = torch.full((8,), float(number))
        kept = []
        try:
            for k in range(300):
                product = a * 2 + k
                if k % 3 == 0:
                    kept.append((k, product))
                total = product.sum()
                if k % 2:
                    del product
                assert total.item() == 8 * (2 * number + k)
                if len(kept) > 4:
                    old, value = kept.pop(0)
                    np.testing.assert_array_equal(value.numpy(), np.full(8, 2 * number + old, np.float32))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures[0]


def test_nothing_is_kept_alive(looked_up):
    def step(x):
        return (x * 3).sum().item()

    _settled(step, looked_up, torch.ones(5))
    x = torch.ones(5)
    step(x)
    node = x.storage.node
    gone = weakref.ref(node)
    del x, node
    gc.collect()
    assert gone() is None


def test_ctrl_c_while_results_are_given(looked_up, monkeypatch):
    a = torch.arange(4.0)

    def step():
        return (a * 2).sum().item()

    _settled(step, looked_up)
    given = []

    def give(plan, nodes, buffers, give=Plan._give):
        give(plan, nodes, buffers)
        given.append(1)
        if len(given) == 1:
            raise KeyboardInterrupt

    total = (a * 2).sum()
    with monkeypatch.context() as m:
        m.setattr(Plan, "_give", give)
        with pytest.raises(KeyboardInterrupt):
            total.item()
    assert total.item() == 12.0 == step()
