"""flex_attention: scores changed and left out by functions."""

from __future__ import annotations

import pytest
from tolerance import agree

import antorcha as torch
from antorcha.nn import functional as F
from antorcha.nn.attention import flex_attention as flex


def tensors(heads=3, length=20, keys=20, size=8):
    return tuple(torch.randn(2, h, n, size, requires_grad=True) for h, n in ((3, length), (heads, keys), (heads, keys)))


def causal(b, h, q, kv):
    return q >= kv


def test_it_is_attention():
    q, k, v = tensors()
    agree(flex.flex_attention(q, k, v), F.scaled_dot_product_attention(q, k, v))
    mask = flex.create_block_mask(causal, None, None, 20, 20, BLOCK_SIZE=8)
    got = flex.flex_attention(q, k, v, block_mask=mask)
    want = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    agree(got, want)
    grads = [torch.autograd.grad(x.sin().sum(), (q, k, v)) for x in (got, want)]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*grads))
    assert mask.to_dense()[0, 0].tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]] and mask.shape == (1, 1, 20, 20)
    assert mask.kv_num_blocks[0, 0].tolist() == [1, 1, 3] and mask.full_kv_num_blocks[0, 0].tolist() == [0, 1, 0]
    assert round(mask.sparsity(), 2) == 33.33


def test_scores_are_changed_with_captured_tensors():
    q, k, v = tensors()
    bias = torch.randn(3, 40, requires_grad=True)

    def relative(score, b, h, i, j):
        return score + bias[h, i - j + 20]
    index = torch.arange(20).unsqueeze(1) - torch.arange(20) + 20
    got, lse = flex.flex_attention(q, k, v, score_mod=relative, return_lse=True)
    scores = q @ k.transpose(-2, -1) / 8**0.5 + bias[:, index]
    agree(got, scores.softmax(-1) @ v)
    agree(lse, scores.logsumexp(-1))
    (a,), (b,) = (torch.autograd.grad(x.sum(), (bias,)) for x in (got, scores.softmax(-1) @ v))
    agree(a, b)


def test_documents_groups_and_rows_without_keys():
    q, k, v = tensors(heads=1)
    document = torch.arange(20) // 7

    def same(b, h, i, j):
        return (document[i] == document[j]) & (i != 19)
    mask = flex.create_block_mask(flex.and_masks(same, causal), 2, None, 20, 20, BLOCK_SIZE=(4, 8))
    out, aux = flex.flex_attention(q, k, v, block_mask=mask, enable_gqa=True, return_aux=flex.AuxRequest(lse=True, max_scores=True))
    assert (out[:, :, 19] == 0).all() and torch.isneginf(aux.lse[:, :, 19]).all() and aux.max_scores.shape == (2, 3, 20)
    kept = (document.unsqueeze(1) == document) & torch.ones(20, 20).tril().bool()
    want = F.scaled_dot_product_attention(q, k.expand(2, 3, 20, 8), v.expand(2, 3, 20, 8), attn_mask=kept)
    agree(out[:, :, :19], want[:, :, :19])
    with pytest.raises(ValueError, match="num_heads"):
        flex.flex_attention(q, k, v)
    assert mask[0:1].shape == (1, 1, 20, 20)


@pytest.mark.oracle
def test_blocks_are_pytorchs():
    oracle = pytest.importorskip("torch")
    from torch.nn.attention import flex_attention as theirs

    def window(b, h, i, j):
        return (i - j < 100 + 50 * h) & (i >= j)
    a = flex.create_block_mask(window, 1, 2, 300, 260)
    b = theirs.create_block_mask(window, 1, 2, 300, 260, device="cpu")
    assert str(a.shape) == str(b.shape)
    for name in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks", "full_q_num_blocks"):
        assert getattr(a, name).tolist() == getattr(b, name).tolist()
    q = oracle.randn(1, 2, 300, 8)
    k, v = oracle.randn(1, 2, 260, 8), oracle.randn(1, 2, 260, 8)
    want = theirs.flex_attention(q, k, v, block_mask=b)
    got = flex.flex_attention(*(torch.from_numpy(x.numpy()) for x in (q, k, v)), block_mask=a)
    agree(oracle.from_numpy(got.numpy()), want)
