"""Sparse tensors against dense ones, and against torch."""

from __future__ import annotations

import pytest
from tolerance import agree

import antorcha as torch
from antorcha import nn


def example(module=torch, requires_grad=False):
    values = module.tensor([3.0, 4.0, 5.0, 1.0], requires_grad=requires_grad)
    return module.sparse_coo_tensor(module.tensor([[0, 1, 1, 0], [2, 0, 2, 2]]), values, (2, 3)), values


DENSE = [[0.0, 0.0, 4.0], [4.0, 0.0, 5.0]]


def test_layouts_tell_the_same_matrix():
    s, _ = example()
    assert s.is_sparse and isinstance(s, torch.Tensor) and s.shape == (2, 3) and s._nnz() == 4 and s.layout is torch.sparse_coo
    assert s.to_dense().tolist() == DENSE and s.t().to_dense().tolist() == torch.tensor(DENSE).t().tolist()
    c = s.coalesce()
    assert c.indices().tolist() == [[0, 1, 1], [2, 0, 2]] and c.values().tolist() == [4.0, 4.0, 5.0]
    r = s.to_sparse_csr()
    assert r.crow_indices().tolist() == [0, 1, 3] and r.col_indices().tolist() == [2, 0, 2] and r.to_dense().tolist() == DENSE
    k = s.to_sparse_csc()
    assert k.ccol_indices().tolist() == [0, 1, 1, 3] and k.row_indices().tolist() == [1, 0, 1] and k.to_dense().tolist() == DENSE
    again = torch.sparse_csr_tensor(r.crow_indices(), r.col_indices(), r.values(), (2, 3))
    assert again.to_dense().tolist() == DENSE and torch.tensor(DENSE).to_sparse().to_dense().tolist() == DENSE


def test_arithmetic():
    s, _ = example()
    d = torch.tensor(DENSE)
    other = torch.arange(12.0).reshape(3, 4)
    assert (
        torch.equal(s @ other, d @ other)
        and torch.equal(torch.sparse.mm(s, other), d @ other)
        and torch.equal(torch.mm(s, other), d @ other)
    )
    assert torch.equal(s @ other[:, 0], d @ other[:, 0]) and torch.equal(other.t() @ s.t(), other.t() @ d.t())
    assert torch.equal((s + s).to_dense(), d + d) and torch.equal((s * 2 - s).to_dense(), d) and torch.equal(s + d, d + d)
    assert torch.equal((s * d).to_dense(), d * d) and s.sum() == d.sum() and torch.equal(torch.sparse.sum(s, 0).to_dense(), d.sum(0))
    assert torch.equal((s @ s.t().coalesce()).to_dense(), d @ d.t()) and torch.equal(s.coalesce().sqrt().to_dense(), d.sqrt())
    assert torch.allclose(torch.sparse.softmax(s, 1).to_dense()[1], torch.tensor([0.26894143, 0.0, 0.7310586]))


def test_derivatives_reach_the_values():
    s, values = example(requires_grad=True)
    w = torch.ones(3, 2, requires_grad=True)
    (s @ w).sum().backward()
    assert values.grad.tolist() == [2.0] * 4 and w.grad.tolist() == [[4.0, 4.0], [0.0, 0.0], [9.0, 9.0]]
    leaf = torch.tensor(DENSE).to_sparse().requires_grad_()
    leaf.to_dense().pow(2).sum().backward()
    assert leaf.grad.is_sparse and leaf.grad.to_dense().tolist() == [[0.0, 0.0, 8.0], [8.0, 0.0, 10.0]]


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "SparseAdam"])
def test_tables_learn_from_sparse_gradients(name):
    torch.manual_seed(0)
    sparse, dense = nn.Embedding(6, 3, sparse=True), nn.Embedding(6, 3)
    dense.load_state_dict(sparse.state_dict())
    options = dict(lr=0.1)
    ours = getattr(torch.optim, name)(sparse.parameters(), **options)
    theirs = getattr(torch.optim, name.replace("Sparse", ""))(dense.parameters(), **options)
    for _ in range(3):
        for table, optimizer in ((sparse, ours), (dense, theirs)):
            optimizer.zero_grad()
            table(torch.tensor([1, 4, 1])).pow(2).sum().backward()
            optimizer.step()
    assert sparse.weight.grad.is_sparse
    agree(sparse.weight, dense.weight)


def test_gradients_accumulate():
    table = nn.Embedding(4, 2, sparse=True)
    for _ in range(2):
        table(torch.tensor([0, 2])).sum().backward()
    assert table.weight.grad.to_dense().tolist() == [[2.0, 2.0], [0.0, 0.0], [2.0, 2.0], [0.0, 0.0]]
    (table(torch.tensor([0])).sum() + table.weight.sum()).backward()
    assert not table.weight.grad.is_sparse and table.weight.grad.tolist() == [[4.0, 4.0], [1.0, 1.0], [3.0, 3.0], [1.0, 1.0]]


def test_bad_input_says_so():
    s, _ = example()
    with pytest.raises(RuntimeError, match="coalesce"):
        s.indices()
    with pytest.raises(NotImplementedError, match="to_dense"):
        s.exp()
    with pytest.raises(RuntimeError, match="found index 3"):
        torch.sparse_coo_tensor([[0], [3]], [1.0], (2, 3))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        s @ torch.ones(2, 2)
    with pytest.raises(RuntimeError, match="SparseAdam"):
        table = nn.Embedding(4, 2, sparse=True)
        optimizer = torch.optim.Adam(table.parameters())
        table(torch.tensor([0])).sum().backward()
        optimizer.step()


@pytest.mark.oracle
def test_as_torch_prints_it():
    oracle = pytest.importorskip("torch")
    for change in (lambda s: s, lambda s: s.coalesce(), lambda s: s.to_sparse_csr()):
        assert repr(change(example()[0])) == repr(change(example(oracle)[0]))
