"""Writing where elements share memory, with each other or with what is read."""

import pytest

import antorcha as torch

F = torch.nn.functional
REFUSED = {
    "add_": lambda x: x.add_(1),
    "+=": lambda x: x.__iadd__(1),
    "relu_": lambda x: x.relu_(),
    "relu": lambda x: F.relu(x, inplace=True),
    "dropout": lambda x: F.dropout(x, 0.5, True, True),
    "copy_": lambda x: x.copy_(torch.ones(2, 3)),
    "[:] =": lambda x: x.__setitem__(slice(None), torch.ones(2, 3)),
    "fill_ with a tensor": lambda x: x.fill_(torch.tensor(2.0)),
    "normal_": lambda x: x.normal_(),
    "random_": lambda x: x.random_(),
    "bernoulli_": lambda x: x.bernoulli_(0.5),
    "clamp_": lambda x: x.clamp_(0, 1),
    "cumsum_": lambda x: x.cumsum_(0),
    "addmm_": lambda x: x.addmm_(torch.ones(2, 4), torch.ones(4, 3)),
    "index_add_": lambda x: x.index_add_(0, torch.tensor([0, 1]), torch.ones(2, 3)),
    "index_copy_": lambda x: x.index_copy_(0, torch.tensor([0, 1]), torch.ones(2, 3)),
    "scatter_": lambda x: x.scatter_(0, torch.zeros(2, 3, dtype=torch.int64), 1.0),
    "scatter_add_": lambda x: x.scatter_add_(0, torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3)),
    "scatter_reduce_": lambda x: x.scatter_reduce_(0, torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3), "amax"),
    "masked_scatter_": lambda x: x.masked_scatter_(x > 0, torch.ones(6)),
    "put_": lambda x: x.put_(torch.tensor([0]), torch.ones(1)),
    "_foreach_add_": lambda x: torch._foreach_add_([x], 1),
    "out=": lambda x: torch.add(torch.ones(2, 3), 1, out=x),
}
ALLOWED = {
    "fill_": lambda x: x.fill_(2),
    "zero_": lambda x: x.zero_(),
    "masked_fill_": lambda x: x.masked_fill_(x > 0, 2.0),
    "index_fill_": lambda x: x.index_fill_(0, torch.tensor([0]), 2.0),
    "index_put_": lambda x: x.index_put_((torch.tensor([0]),), torch.ones(3)),
    "[0] =": lambda x: x.__setitem__(0, torch.ones(3)),
    "[mask] =": lambda x: x.__setitem__(x > 0, 1.0),
    "tril_": lambda x: x.tril_(),
    "apply_": lambda x: x.apply_(lambda v: v),
}
PARTLY = {
    "add_": lambda b: b[1:].add_(b[:-1]),
    "-=": lambda b: b[1:].__isub__(b[:-1]),
    "copy_": lambda b: b[1:].copy_(b[:-1]),
    "[1:] =": lambda b: b.__setitem__(slice(1, None), b[:-1]),
    "lerp_": lambda b: b[1:].lerp_(b[:-1], 0.5),
    "addcmul_": lambda b: b[1:].addcmul_(b[:-1], b[:-1]),
    "mul, out=": lambda b: torch.mul(b[1:], 2, out=b[:-1]),
    "a row": lambda b: b.view(3, 3).add_(b[:3]),
    "a transpose": lambda b: b.view(3, 3).mul_(b.view(3, 3).t()),
    "index_add_": lambda b: b.index_add_(0, torch.arange(9), b),
    "index_copy_": lambda b: b.index_copy_(0, torch.tensor([0, 1]), b[1:3]),
    "scatter_": lambda b: b.scatter_(0, torch.tensor([0, 1]), b),
    "[indices] =": lambda b: b.__setitem__(torch.tensor([0, 1]), b[1:3]),
    "put_": lambda b: b.put_(torch.tensor([0, 1]), b[1:3]),
    "gather, out=": lambda b: torch.gather(b, 0, torch.arange(9), out=b),
    "masked_select, out=": lambda b: torch.masked_select(b, b > 3, out=b),
    "kthvalue, out=": lambda b: torch.kthvalue(b, 2, out=(b, torch.tensor(0))),
}
APART = {
    "itself": (lambda b: b[:].add_(b), [0.0, 2, 4, 6, 8, 10, 12, 14, 16]),
    "other elements": (lambda b: b[:4].add_(b[4:8]), [4.0, 6, 8, 10, 4, 5, 6, 7, 8]),
    "in turn": (lambda b: b[:8:2].add_(b[1::2]), [1.0, 1, 5, 3, 9, 5, 13, 7, 8]),
    "one element": (lambda b: b.index_fill_(0, torch.tensor([0]), b[1]), [1.0, 1, 2, 3, 4, 5, 6, 7, 8]),
    "+= of a slice": (lambda b: exec("b[1:3] += 1", {"b": b}), [0.0, 2, 3, 3, 4, 5, 6, 7, 8]),
    "out=": (lambda b: torch.mul(b, 2, out=b), [0.0, 2, 4, 6, 8, 10, 12, 14, 16]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_expanded_tensor_is_not_written(name):
    x = torch.ones(3).expand(2, 3)
    with pytest.raises(RuntimeError, match=r"more than one element of the written-to tensor refers to a single memory location"):
        REFUSED[name](x)
    assert x.tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize("name", ALLOWED)
def test_one_value_may_be_written_to_an_expanded_tensor(name):
    x = torch.ones(3).expand(2, 3)
    ALLOWED[name](x)
    assert x[0].tolist() == x[1].tolist()


@pytest.mark.parametrize("name", PARTLY)
def test_what_is_read_must_not_lie_partly_where_is_written(name):
    b = torch.arange(9.0)
    with pytest.raises(RuntimeError, match="refer to a single memory location"):
        PARTLY[name](b)
    assert b.tolist() == list(range(9))


@pytest.mark.parametrize("name", APART)
def test_what_is_read_may_lie_where_is_written_or_elsewhere(name):
    b = torch.arange(9.0)
    function, expected = APART[name]
    function(b)
    assert b.tolist() == expected


@pytest.mark.oracle
@pytest.mark.parametrize("group", ["REFUSED", "ALLOWED", "PARTLY", "APART"])
def test_pytorch_refuses_the_same(group, monkeypatch):
    theirs = pytest.importorskip("torch")
    monkeypatch.setitem(globals(), "torch", theirs)
    monkeypatch.setitem(globals(), "F", theirs.nn.functional)
    for name, case in globals()[group].items():
        t = theirs.ones(3).expand(2, 3) if group in ("REFUSED", "ALLOWED") else theirs.arange(9.0)
        if group in ("REFUSED", "PARTLY"):
            with pytest.raises(RuntimeError, match="single memory location"):
                case(t)
        else:
            (case[0] if group == "APART" else case)(t)
            assert group != "APART" or t.tolist() == case[1], name
