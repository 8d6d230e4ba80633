"""A decoder-only transformer (Radford et al. 2019): pre-norm, learned positions, output weights tied to the embedding."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """Causal self-attention, then a two-layer perceptron; each reads a normalised copy and adds to what it was given."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        shape = (batch, length, self.heads, width // self.heads)
        q, k, v = (t.view(shape).transpose(1, 2) for t in self.qkv(self.norm1(x)).split(width, dim=2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.drop(self.out(mixed.transpose(1, 2).reshape(batch, length, width)))
        return x + self.drop(self.down(F.gelu(self.up(self.norm2(x)))))


class GPT(nn.Module):
    """Token numbers of shape (batch, length) to the next token's logits, (batch, length, tokens)."""

    def __init__(self, tokens: int, context: int, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.context = context
        self.token, self.position = nn.Embedding(tokens, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList([Block(width, heads, dropout) for _ in range(layers)])
        self.norm, self.head, self.drop = nn.LayerNorm(width), nn.Linear(width, tokens, bias=False), nn.Dropout(dropout)
        self.apply(self._initialise)
        for block in self.blocks:  # so that the sum over all layers starts with the variance of one
            nn.init.normal_(block.out.weight, std=0.02 / (2 * layers) ** 0.5)
            nn.init.normal_(block.down.weight, std=0.02 / (2 * layers) ** 0.5)
        self.head.weight = self.token.weight

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(numbers.shape[1], device=numbers.device)
        x = self.drop(self.token(numbers) + self.position(positions))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    @torch.no_grad()
    def generate(self, numbers: torch.Tensor, length: int, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0,
                 end: int | None = None) -> torch.Tensor:
        """Continue `numbers`, of shape (1, any), by at most `length` tokens, up to and with the token `end`."""
        self.eval()
        for _ in range(length):
            logits = self(numbers[:, -self.context:])[:, -1]
            following = sample(logits, temperature, top_k, top_p)
            numbers = torch.cat([numbers, following], dim=1)
            if end is not None and following.item() == end:
                break
        return numbers


def sample(logits: torch.Tensor, temperature: float, top_k: int, top_p: float) -> torch.Tensor:
    """Draw from logits of shape (batch, tokens) a token each, (batch, 1), leaving out what is unlikely.

    `top_k` keeps the k likeliest (0: all); `top_p` the likeliest that together have that probability, at least one
    (Holtzman et al. 2020).
    """
    logits = logits / max(temperature, 1e-6)
    if top_k:
        weakest = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < weakest, float("-inf"))
    if top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)  # the probability of all likelier tokens
        ordered = ordered.masked_fill(before > top_p, float("-inf"))
        logits = torch.full_like(logits, float("-inf")).scatter(1, order, ordered)
    return torch.multinomial(logits.softmax(-1), num_samples=1)
