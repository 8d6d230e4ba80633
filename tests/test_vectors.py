"""What decoding a token at a time is made of: products by one vector, caches that grow or are written in place."""

from __future__ import annotations

import numpy as np
import pytest
from recorded import program_text
from tolerance import agree

import antorcha as torch
from antorcha.graph import flush


def numbers(*shape):
    return np.sin(np.arange(int(np.prod(shape)), dtype=np.float32) * 0.37).reshape(shape)


def kernels(*operators) -> list[dict]:
    """Those of the last plan in which one of the operators is computed."""
    return [k for k in flush.last().kernels() if any(node[1] in operators for node in k["nodes"])]


def test_a_vector_through_two_matrices_reads_neither_across():
    """The second sum goes over what the first one's rows give: in one kernel it would read a column of its matrix for each of them."""
    first, second, x = numbers(96, 80), numbers(72, 96), numbers(1, 80)
    a, b, v = (torch.tensor(t) for t in (first, second, x))
    found = ((v @ a.t()).relu() @ b.t()).tolist()
    assert len(kernels("sum")) == 2
    agree(found, np.maximum(x @ first.T, 0) @ second.T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("turned", [False, True])
def test_products_by_a_vector_go_along_the_matrix(turned, dtype):
    m = torch.arange(3 * 33 * 65).reshape(3, 33, 65).remainder(7).to(dtype)
    m = m if turned else m.transpose(1, 2).contiguous().transpose(1, 2)
    x = torch.arange(3 * 33).reshape(3, 1, 33).remainder(3).to(dtype)
    found, kinds = (x @ m).float().tolist(), [k["kind"] for k in kernels("sum")]
    np.testing.assert_array_equal(found, x.float().numpy() @ m.float().numpy())
    if dtype.is_floating_point:
        assert kinds[0] == ("columns" if turned else "loops")


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 20])
def test_a_product_by_a_vector_is_the_sum_of_products(columns):
    """Whichever of them is written: a few columns are read one by one, more side by side."""
    x, v = torch.tensor(numbers(3000, columns)), torch.tensor(numbers(3000))
    x.tolist(), v.tolist()      # computed before
    flush.clear()       # plans for other numbers of columns would serve as well, and look otherwise
    text = program_text(lambda: x.t() @ v)
    assert text == program_text(lambda: (x * v[:, None]).sum(0))
    assert ("= sum from" in text) == (columns <= 4)     # one accumulator, rather than a row of them in memory
    agree(x.t() @ v, numbers(3000) @ numbers(3000, columns))


@pytest.mark.parametrize("length", [1, 2, 127, 128, 129, 255, 256, 257, 259, 511, 770])
def test_sums_of_bfloat16_read_two_at_a_time(length):
    """Of an odd number too, and from an odd place on; nothing beyond the last one counts. Sums of whole numbers are exact."""
    whole = torch.arange(5 * 801).reshape(5, 801).remainder(7).sub(3)
    x, m = whole[0, 3:3 + length], whole[1:, 1:1 + length]
    narrow = whole.to(torch.bfloat16)
    v, w = narrow[:1, 3:3 + length], narrow[1:, 1:1 + length]
    for found, right in ((torch.nn.functional.linear(v, w)[0], (m * x).sum(1)), (w.float().sum(1), m.sum(1)), (w.amax(1), m.amax(1))):
        assert found.float().tolist() == right.to(torch.bfloat16).float().tolist()


def test_sums_of_bfloat16_are_loads_of_32_bits():
    wide, half, bfloat = torch.float32, torch.float16, torch.bfloat16
    for dtypes, pairs in (((bfloat, bfloat), True), ((bfloat, wide), False), ((half, half), False)):
        m, v = (torch.tensor(numbers(rows, 300)).to(dtype) for rows, dtype in zip((40, 1), dtypes))
        m.tolist(), v.tolist()      # computed before
        (m * v).sum(1).tolist()
        (kernel,) = kernels("sum")
        assert ("load i32" in kernel["kernel"].ir()) == pairs


def test_a_slice_is_written_in_place_where_nothing_reads_the_old_value():
    x, y = torch.tensor(numbers(40, 30)), torch.tensor(numbers(5, 30))
    right, place = numbers(40, 30), x.data_ptr()
    for at in (0, 7, 35):
        x[at:at + 5] = y + at
        right[at:at + 5] = numbers(5, 30) + at
        assert x[at].tolist() == right[at].tolist()
        assert len(kernels("scatter")) == 1 and x.data_ptr() == place
    np.testing.assert_array_equal(x.numpy(), right)


def test_the_old_value_of_a_slice_is_kept_where_it_is_read():
    start = numbers(50)

    def fresh():
        x = torch.tensor(start)
        x.tolist()
        return x

    x = fresh()
    before = x * 2
    x[3:9] = 5.0
    assert before.tolist() == (start * 2).tolist() and x[3:10].tolist() == [5.0] * 6 + [start[9]]

    x = fresh()
    other = x.detach().clone()
    x[3:9] = other[:6] + x[1:7]
    np.testing.assert_array_equal(x.numpy()[3:9], start[:6] + start[1:7])
    assert other.tolist() == start.tolist()

    x = fresh()
    x[1:] = x[:-1].clone()
    assert x.tolist() == [start[0], *start[:-1]]

    x, table = fresh(), torch.tensor(start)
    far = (torch.tensor(start).sum() * 0 + 50.0).exp().log().round().long()
    with pytest.raises(IndexError):
        failing = table[far + torch.arange(3)]
        x[3:9] = 5.0
        (failing.sum() + x.sum()).item()
    x[3:9] = 5.0
    assert x[2:4].tolist() == [start[2], 5.0]


def test_what_is_joined_is_written_once():
    a, b = torch.tensor(numbers(2, 40, 3)), torch.tensor(numbers(2, 1, 3))
    joined = torch.cat([a, b], 1)
    assert joined.tolist() == np.concatenate([numbers(2, 40, 3), numbers(2, 1, 3)], 1).tolist()
    assert len(kernels("scatter")) == 2


def test_what_is_looked_up_is_added_up_in_many_parts():
    """A loop that checks indices is one of vectors too: a sum of n numbers in one running total would be off by n units of its last
    digit. An index that is out of range is told, whichever of the vector it is."""
    torch.manual_seed(0)
    weight, classes = torch.tensor([0.3, 1.0, 2.0]), torch.randint(0, 3, (200_000,))
    assert weight[classes].sum().item() == pytest.approx(weight.double()[classes].sum().item(), rel=2e-6)
    for bad in (0, 7, 99):
        index = torch.arange(100) * 1.0
        index[bad] = -101.0
        with pytest.raises(IndexError, match="received -101"):
            torch.rand(100)[index.long()].sum().item()
