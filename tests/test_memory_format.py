"""How tensors lie in memory: memory formats, and the strides of results."""

import copy
import io

import pytest
from tolerance import agree

import antorcha

CASES = {
    "contiguous": lambda t, x: x.contiguous(memory_format=t.channels_last),
    "contiguous_back": lambda t, x: x.contiguous(memory_format=t.channels_last).contiguous(),
    "to": lambda t, x: x.to(memory_format=t.channels_last),
    "to_back": lambda t, x: x.to(memory_format=t.channels_last).to(memory_format=t.contiguous_format),
    "to_dtype": lambda t, x: x.to(t.float64, memory_format=t.channels_last),
    "to_copy": lambda t, x: x.to(t.float32, copy=True, memory_format=t.contiguous_format),
    "double": lambda t, x: x.double(),
    "clone": lambda t, x: x.clone(),
    "clone_last": lambda t, x: x.clone(memory_format=t.channels_last),
    "clone_in_order": lambda t, x: x.clone(memory_format=t.contiguous_format),
    "empty_like": lambda t, x: t.empty_like(x),
    "zeros_like": lambda t, x: t.zeros_like(x, memory_format=t.contiguous_format),
    "full_like": lambda t, x: t.full_like(x, 2.0, memory_format=t.channels_last),
    "randn_like": lambda t, x: t.randn_like(x),
    "randint_like": lambda t, x: t.randint_like(x, 5, memory_format=t.channels_last),
    "empty": lambda t, x: t.empty(x.shape, memory_format=t.channels_last),
    "resize_": lambda t, x: t.empty(0).resize_(x.shape, memory_format=t.channels_last),
    "resize_as_": lambda t, x: t.empty(0).resize_as_(x, memory_format=t.preserve_format),
    "relu": lambda t, x: x.relu(),
    "add": lambda t, x: x + 1,
    "add_in_order": lambda t, x: x + x.contiguous(),
    "add_to_in_order": lambda t, x: x.contiguous() + x,
    "broadcast": lambda t, x: x * t.ones(5),
    "of_rows_and_columns": lambda t, x: x[:, :, :1] * x[:1],
    "where": lambda t, x: t.where(x > 0, x, 0.0),
    "cat": lambda t, x: t.cat([x, x], 1),
    "pad": lambda t, x: t.nn.functional.pad(x, (1, 1, 1, 1)),
    "softmax": lambda t, x: t.softmax(x, -1),
    "log_softmax": lambda t, x: t.log_softmax(x, 1),
    "layer_norm": lambda t, x: t.nn.functional.layer_norm(x, (5,)),
    "masked_fill": lambda t, x: x.masked_fill(x > 0, 1.0),
    "tril": lambda t, x: x.tril(),
    "conv2d": lambda t, x: t.nn.functional.conv2d(x, t.ones(7, 3, 3, 3), padding=1),
    "conv2d_last": lambda t, x: t.nn.functional.conv2d(x, t.ones(7, 3, 3, 3).contiguous(memory_format=t.channels_last)),
    "conv_transpose2d": lambda t, x: t.nn.functional.conv_transpose2d(x, t.ones(3, 7, 3, 3)),
    "max_pool2d": lambda t, x: t.nn.functional.max_pool2d(x, 2),
    "avg_pool2d": lambda t, x: t.nn.functional.avg_pool2d(x, 2),
    "adaptive_avg_pool2d": lambda t, x: t.nn.functional.adaptive_avg_pool2d(x, 2),
    "batch_norm": lambda t, x: t.nn.functional.batch_norm(x, None, None, t.ones(3), t.zeros(3), training=True),
    "group_norm": lambda t, x: t.nn.functional.group_norm(x, 1),
    "instance_norm": lambda t, x: t.nn.functional.instance_norm(x),
    "interpolate": lambda t, x: t.nn.functional.interpolate(x, scale_factor=2, mode="bilinear"),
    "pixel_shuffle": lambda t, x: t.nn.functional.pixel_shuffle(t.cat([x] * 4, 1), 2),
    "sort": lambda t, x: x.sort(0)[0],
    "argsort": lambda t, x: x.argsort(-1),
    "msort": lambda t, x: x.msort(),
    "topk": lambda t, x: x.topk(2, 1)[0],
    "flip": lambda t, x: x.flip(1, 3),
    "fliplr": lambda t, x: x.fliplr(),
    "rot90": lambda t, x: x.rot90(),
    "roll": lambda t, x: x.roll(1, 1),
    "stack": lambda t, x: t.stack([x, x]),
    "stack_of_channels": lambda t, x: t.stack([x, x], 1),
    "stack_last": lambda t, x: t.stack([x[0], x[1]], -1),
    "rows": lambda t, x: x[[1, 0]],
    "channels": lambda t, x: x[:, [2, 0]],
    "places": lambda t, x: x[[1, 0], :, [2, 0]],
    "adjacent_places": lambda t, x: x[:, [[1], [0]], [2, 0]],
    "last": lambda t, x: x[..., [3, 1, 1]],
    "new_and_places": lambda t, x: x[None, [0, 1], None, :, 0],
    "mask": lambda t, x: x[x > 0],
    "mask_of_rows": lambda t, x: x[t.tensor([True, False])],
    "places_out_of_order": lambda t, x: x[t.tensor([[0, 1, 1], [1, 0, 0]]).t()],
    "index_select": lambda t, x: x.index_select(1, t.tensor([2, 0])),
    "gather": lambda t, x: x.gather(1, (x > 0).long()),
    "take_along_dim": lambda t, x: t.take_along_dim(x, x.argsort(1), 1),
    "cumsum": lambda t, x: x.cumsum(1),
    "cummax": lambda t, x: x.cummax(1)[0],
    "grad": lambda t, x: _grad(x, lambda y: (y.contiguous() * y).sum()),
    "grad_of_sum": lambda t, x: _grad(x, lambda y: y.sum()),
}
INPUTS = {
    "rows": lambda x: x,
    "image": lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    "reversed": lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "sliced": lambda x: x.repeat(1, 1, 1, 2)[..., ::2],
    "cropped": lambda x: x.repeat(1, 2, 1, 1).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)[:, :3],
    "expanded": lambda x: x[:, :, :1, :1].expand(2, 3, 4, 5),
}


def _grad(x, loss):
    x = x.detach().clone().requires_grad_()
    loss(x).backward()
    return x.grad


def _strides(x):
    """The strides that tell where elements are."""
    return [s for s, n in zip(x.stride(), x.shape) if n != 1]


@pytest.mark.oracle
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("name", CASES)
def test_results_lie_as_in_pytorch(name, kind):
    torch = pytest.importorskip("torch")
    values = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    ours, theirs = (CASES[name](t, INPUTS[kind](x)) for t, x in ((antorcha, antorcha.from_numpy(values.numpy())), (torch, values)))
    assert tuple(ours.shape) == tuple(theirs.shape)
    assert _strides(ours) == _strides(theirs)
    assert [ours.is_contiguous(memory_format=getattr(antorcha, f)) for f in ("contiguous_format", "channels_last")] == [
        theirs.is_contiguous(memory_format=getattr(torch, f)) for f in ("contiguous_format", "channels_last")]
    if not name.startswith(("empty", "resize", "rand")) and kind != "expanded":      # there norms are rounding errors
        agree(torch.from_numpy(ours.detach().numpy().copy()), theirs)


def test_channels_last_is_real():
    torch = antorcha
    x = torch.arange(120.0).reshape(2, 3, 4, 5)
    y = x.to(memory_format=torch.channels_last)
    assert y.stride() == (60, 1, 15, 3) and y.shape == x.shape
    assert y.is_contiguous(memory_format=torch.channels_last) and not y.is_contiguous()
    assert not x.is_contiguous(memory_format=torch.channels_last)
    assert y.tolist() == x.tolist()
    assert y.as_strided((120,), (1,)).tolist() == x.permute(0, 2, 3, 1).flatten().tolist()
    assert y.to(memory_format=torch.channels_last) is y and y.contiguous(memory_format=torch.channels_last) is y
    assert (y + 1).stride() == y.stride() == copy.deepcopy(y).stride() == torch.empty_like(y).stride()
    file = io.BytesIO()
    torch.save(y, file)
    file.seek(0)
    assert torch.load(file).stride() == y.stride()
    volume = torch.ones(2, 3, 4, 5, 6).contiguous(memory_format=torch.channels_last_3d)
    assert volume.stride() == (360, 1, 90, 18, 3) and volume.is_contiguous(memory_format=torch.channels_last_3d)


def test_a_network_in_channels_last():
    torch = antorcha
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    assert last[0].weight.stride() == (27, 1, 9, 3) and last[1].weight.stride() == (1,)
    x = torch.randn(2, 3, 8, 8)
    for _ in range(6):          # the fourth call, and the fourth backward pass, are written out
        y, z = plain(x), last(x.to(memory_format=torch.channels_last))
        assert z.is_contiguous(memory_format=torch.channels_last) and y.is_contiguous()
        agree(y, z)
        y.square().sum().backward()
        z.square().sum().backward()
        assert last[0].weight.grad.stride() == last[0].weight.stride()
        agree(plain[0].weight.grad, last[0].weight.grad)


def test_wrong_formats_are_refused():
    torch = antorcha
    with pytest.raises(RuntimeError, match=r"expected a tensor of 4 dimensions; received shape \[2, 3\]"):
        torch.ones(2, 3).contiguous(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match="required rank 5"):
        torch.empty(2, 3, memory_format=torch.channels_last_3d)
    with pytest.raises(RuntimeError, match="unsupported memory format"):
        torch.ones(2, 3).t().contiguous(memory_format=torch.preserve_format)
    with pytest.raises(TypeError, match="memory_format"):
        torch.zeros(2, 3, memory_format=torch.contiguous_format)


def test_results_that_pytorch_lays_out_in_order_can_be_viewed():
    torch = antorcha
    x = torch.randn(4, 3).t()
    for f in (lambda x: x.softmax(0), lambda x: x.log_softmax(-1), lambda x: torch.nn.functional.layer_norm(x, (4,)),
              lambda x: x.masked_fill(x > 0, 0.0), torch.tril):
        assert f(x).view(-1).shape == (12,)


def test_what_moves_elements_keeps_their_order_in_memory():
    torch = antorcha
    x = torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1)
    assert x.stride() == x.flip(0).stride() == x.sort(1)[0].stride() == x.sort(1)[1].stride() == (1, 12, 4)
    assert x[:, torch.tensor([1, 1])].stride() == (1, 4, 8) and x[torch.tensor([2, 0])].is_contiguous()
    assert x.flip(0).tolist() == x.contiguous().flip(0).tolist() and x.sort(2, descending=True)[0].tolist() == x.contiguous().sort(
        2, descending=True)[0].tolist()
    image = torch.arange(120.0).reshape(2, 3, 4, 5).to(memory_format=torch.channels_last)
    pair = torch.stack([image, image + 1])
    assert pair[0].is_contiguous(memory_format=torch.channels_last) and pair[1].tolist() == (image + 1).tolist()
    y = image.clone().requires_grad_()
    torch.stack([y, y[[1, 0]].flip(2)], 1).sort(0)[0].sum().backward()
    assert y.grad.tolist() == torch.full_like(y, 2.0).tolist()
