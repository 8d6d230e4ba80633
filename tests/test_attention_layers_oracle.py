"""nn.MultiheadAttention and the layers of transformers beside PyTorch's: results, weights and gradients over their options."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tolerance import agree

import antorcha

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.oracle

LENGTH, SOURCE, BATCH, HEADS, WIDTH = 5, 7, 3, 2, 8


def twins(name: str, *arguments, **options):
    """The same layer of both packages, with the same random parameters."""
    ours, theirs = getattr(antorcha.nn, name)(*arguments, **options), getattr(torch.nn, name)(*arguments, **options)
    rng = np.random.default_rng(0)
    state = {key: rng.standard_normal(tuple(value.shape)).astype(np.float32) * 0.3 for key, value in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(state)
    for package, layer in ((antorcha, ours), (torch, theirs)):
        layer.load_state_dict({key: package.tensor(value) for key, value in state.items()})
    return ours, theirs


def run(package, layer, inputs, options: dict):
    """What the layer returns, and the gradients of its inputs and parameters; an array is a tensor, the same array the same tensor."""
    leaves = {id(x): package.tensor(x, requires_grad=True) for x in inputs}
    given = {key: package.tensor(value) if isinstance(value, np.ndarray) else value for key, value in options.items()}
    out = layer(*[leaves[id(x)] for x in inputs], **given)
    out = list(out) if isinstance(out, tuple) else [out]
    sum((x * package.cos(package.arange(x.numel(), dtype=package.float32)).view(x.shape)).sum() for x in out if x is not None).backward()
    gradients = [x.grad for x in (*leaves.values(), *layer.parameters())]
    return out, gradients


def beside(layers, inputs, **options):
    ours, theirs = (run(package, layer, inputs, options) for package, layer in zip((antorcha, torch), layers))
    for found, expected in zip(ours[0] + ours[1], theirs[0] + theirs[1], strict=True):
        assert (found is None) == (expected is None)
        if expected is not None:
            agree(found, expected.detach().numpy())


def masks(rng, kind: str, rows: int, columns: int, *batch: int):
    if kind == "bool":
        mask = rng.random((*batch, rows, columns)) < 0.3
        mask[..., 0] = False        # no row without a key
        return mask
    return rng.standard_normal((*batch, rows, columns)).astype(np.float32)


@pytest.mark.parametrize("batch_first, bias, bias_kv, zero", itertools.product([False, True], repeat=4))
@pytest.mark.parametrize("same", ["self", "key is value", "widths of their own", "no batch"])
def test_attention(batch_first, bias, bias_kv, zero, same):
    rng = np.random.default_rng(1)
    widths = (WIDTH, 6, 10) if same == "widths of their own" else (WIDTH,) * 3
    layers = twins("MultiheadAttention", WIDTH, HEADS, bias=bias, add_bias_kv=bias_kv, add_zero_attn=zero, batch_first=batch_first,
                   kdim=widths[1], vdim=widths[2])

    def array(length, width):
        shape = (length, width) if same == "no batch" else (BATCH, length, width) if batch_first else (length, BATCH, width)
        return rng.standard_normal(shape).astype(np.float32)

    query = array(LENGTH, WIDTH)
    key = query if same == "self" else array(SOURCE, widths[1])
    value = key if same in ("self", "key is value") else array(SOURCE, widths[2])
    source = LENGTH if same == "self" else SOURCE
    beside(layers, (query, key, value))
    beside(layers, (query, key, value), need_weights=False)
    beside(layers, (query, key, value), average_attn_weights=False)
    kinds = ("bool", "float32")
    for kind, weights in itertools.product(kinds, (False, True)):
        padding = masks(rng, kind, BATCH, source) if same != "no batch" else masks(rng, kind, 1, source)[0]
        beside(layers, (query, key, value), need_weights=weights, key_padding_mask=padding)
        beside(layers, (query, key, value), need_weights=weights, attn_mask=masks(rng, kind, LENGTH, source))
        beside(layers, (query, key, value), need_weights=weights, key_padding_mask=padding, attn_mask=masks(
            rng, kind, LENGTH, source, *((HEADS,) if same == "no batch" else (BATCH * HEADS,))))
    if same == "self":
        causal = np.triu(np.ones((LENGTH, LENGTH), bool), 1)
        for weights in (False, True):
            beside(layers, (query, key, value), need_weights=weights, attn_mask=causal, is_causal=True)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first, batch_first, bias", itertools.product([False, True], repeat=3))
@pytest.mark.parametrize("training", [True, False])
def test_layers_of_transformers(activation, norm_first, batch_first, bias, training):
    rng = np.random.default_rng(2)
    options = dict(dim_feedforward=12, dropout=0.0, activation=activation, norm_first=norm_first, batch_first=batch_first, bias=bias)

    def array(length):
        return rng.standard_normal((BATCH, length, WIDTH) if batch_first else (length, BATCH, WIDTH)).astype(np.float32)

    source, target = array(SOURCE), array(LENGTH)
    causal = np.triu(np.full((LENGTH, LENGTH), -np.inf, np.float32), 1)
    padding, target_padding = masks(rng, "bool", BATCH, SOURCE), np.zeros((BATCH, LENGTH), bool)
    target_padding[1, -1] = True

    encoder = twins("TransformerEncoderLayer", WIDTH, HEADS, **options)
    decoder = twins("TransformerDecoderLayer", WIDTH, HEADS, **options)
    for layer in (*encoder, *decoder):
        layer.train(training)
    beside(encoder, (source,))
    beside(encoder, (source,), src_key_padding_mask=padding)
    beside(encoder, (target,), src_mask=causal, is_causal=True)
    beside(decoder, (target, source))
    beside(decoder, (target, source), tgt_mask=causal, tgt_is_causal=True, memory_key_padding_mask=padding)
    beside(decoder, (target, source), memory_mask=masks(rng, "bool", LENGTH, SOURCE), tgt_key_padding_mask=target_padding)

    whole = twins("Transformer", WIDTH, HEADS, 2, 2, **options)
    for layer in whole:
        layer.train(training)
    beside(whole, (source, target), tgt_mask=causal, src_key_padding_mask=padding, memory_key_padding_mask=padding)
