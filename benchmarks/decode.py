"""A token at a time from a model of GPT-2's size, written once for antorcha and PyTorch: memory is the bound, for every weight is read.

    python benchmarks/decode.py MODULE [--dtype float32|bfloat16] [--cache grown|kept] [--prompt N] [--tokens N] [--threads N]

prints one line of JSON: milliseconds of a token (least, median), bytes a token must read (weights and cache, on average), the first tokens
and peak memory in MiB. 124 million random weights (Radford et al. 2019: 12 layers of 12 heads, width 768, 50257 words), batch 1. The cache
of keys and values is `grown` by `torch.cat`, or `kept`: memory of the whole context, written in place.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import statistics
import time

VOCABULARY, CONTEXT, WIDTH, LAYERS, HEADS = 50257, 1024, 768, 12, 12
SETTLING = 8        # first tokens that are not counted


def gpt2(torch, kept: bool):
    """The model. Called with tokens [1, length], the place of the first, and a cache of (keys, values) for each layer, which it renews."""
    nn, functional = torch.nn, torch.nn.functional

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

        def forward(self, x, place, cache):
            length = x.shape[1]
            q, k, v = (part.view(1, length, HEADS, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
            if kept:
                for whole, new in zip(cache, (k, v)):
                    whole[:, :, place:place + length] = new
                k, v = (whole[:, :, :place + length] for whole in cache)
            elif cache[0] is not None:
                k, v = cache[:] = [torch.cat(pair, 2) for pair in zip(cache, (k, v))]
            else:
                cache[:] = k, v
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=length > 1)
            return self.out(mixed.transpose(1, 2).reshape(x.shape))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.attention, self.norm2 = nn.LayerNorm(WIDTH), Attention(), nn.LayerNorm(WIDTH)
            self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(approximate="tanh"), nn.Linear(4 * WIDTH, WIDTH))

        def forward(self, x, place, cache):
            x = x + self.attention(self.norm1(x), place, cache)
            return x + self.mlp(self.norm2(x))

    class GPT2(nn.Module):
        def __init__(self):
            super().__init__()
            self.token, self.position = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
            self.blocks, self.norm = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(WIDTH)
            self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
            self.head.weight = self.token.weight

        def forward(self, tokens, place, caches):
            x = self.token(tokens) + self.position(torch.arange(place, place + tokens.shape[1]))
            for block, cache in zip(self.blocks, caches):
                x = block(x, place, cache)
            return self.head(self.norm(x[:, -1]))

    return GPT2()


def caches_of(torch, dtype, kept: bool) -> list[list]:
    def memory():
        return torch.zeros(1, HEADS, CONTEXT, WIDTH // HEADS, dtype=dtype) if kept else None

    return [[memory(), memory()] for _ in range(LAYERS)]


def measure(torch, dtype, kept: bool, prompt: int, count: int) -> dict:
    torch.manual_seed(0)
    model = gpt2(torch, kept).to(dtype).eval()
    caches = caches_of(torch, dtype, kept)
    tokens = torch.randint(0, VOCABULARY, (1, prompt))
    place, found, times = 0, [], []
    with torch.no_grad():
        while len(found) < count:
            begin = time.perf_counter()
            logits = model(tokens, place, caches)
            place += tokens.shape[1]
            found.append(int(logits.argmax(-1)))
            times.append(time.perf_counter() - begin)
            tokens = torch.tensor([found[-1:]])
    size = next(model.parameters()).element_size()
    weights = sum(p.numel() for name, p in model.named_parameters() if "position" not in name)
    cached = 2 * LAYERS * WIDTH * (prompt + (SETTLING + count) // 2)
    settled = [1e3 * t for t in times[SETTLING:]]
    return {"least": min(settled), "median": statistics.median(settled), "bytes": size * (weights + cached), "tokens": found[:6],
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--cache", choices=("grown", "kept"), default="grown")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    torch = importlib.import_module(options.module)
    importlib.import_module(options.module + ".nn")
    torch.set_num_threads(options.threads)
    print(json.dumps(measure(torch, getattr(torch, options.dtype), options.cache == "kept", options.prompt, options.tokens)))


if __name__ == "__main__":
    main()
