"""A small GPT learns the chorales of J. S. Bach, then continues one that it has not seen.

    python examples/bach_gpt.py --demo              three minutes of training on two cores
    python examples/bach_gpt.py --epochs 100        the larger model, until the validation loss stops falling
    python examples/bach_gpt.py --data FOLDER       learn from a folder of MIDI files instead
    python examples/bach_gpt.py --resume            go on from the last checkpoint

What it writes is in --out: bach.mid (listen to it), pianoroll.png, loss.png, best.pt, last.pt.
The music as tokens: bach/tokens.py; the model: bach/model.py.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from bach.model import GPT
from bach.pictures import loss_curve, piano_roll
from bach.scores import write_midi
from bach.tokens import END, Corpus, decode, read_corpus
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

DEMO = dict(minutes=3.0, width=128, layers=4, heads=4, batch=8, lr=2e-3, warmup=50)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--demo", action="store_true", help="a smaller model, trained for a few minutes")
    add("--data", type=Path, help="a folder of MIDI files (default: the chorales in music21's corpus)")
    add("--out", type=Path, default=Path("runs/bach"), help="where results are written")
    add("--resume", action="store_true", help="go on from OUT/last.pt")
    add("--epochs", type=int, default=60, help="passes over the training pieces")
    add("--steps", type=int, help="optimiser steps, instead of epochs")
    add("--minutes", type=float, help="train for this long, instead of epochs")
    add("--patience", type=int, default=12, help="stop after so many epochs without a better validation loss")
    add("--batch", type=int, default=16)
    add("--accumulate", type=int, default=1, help="batches whose gradients are added before a step")
    add("--lr", type=float, default=3e-4)
    add("--warmup", type=int, default=100, help="steps in which the learning rate rises")
    add("--dropout", type=float, default=0.1)
    add("--context", type=int, default=256)
    add("--width", type=int, default=256)
    add("--layers", type=int, default=5)
    add("--heads", type=int, default=8)
    add("--seed", type=int, default=1685)
    add("--temperature", type=float, default=0.95)
    add("--top-k", type=int, default=0)
    add("--top-p", type=float, default=0.95)
    add("--length", type=int, default=400, help="tokens to generate at most")
    add("--prompt", type=int, default=48, help="tokens given of the chorale that is continued")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    if parser.parse_known_args()[0].demo:
        parser.set_defaults(**DEMO)
    return parser.parse_args()


def split(corpus: Corpus, seed: int) -> tuple[list[int], list[int]]:
    """A tenth of the pieces, at least one, is held out for validation. Works that share tokens stay together."""
    order = torch.randperm(len(corpus.pieces), generator=torch.Generator().manual_seed(seed)).tolist()
    held_out = max(1, len(order) // 10)
    seen = {corpus.pieces[i].tobytes() for i in order[held_out:]}
    return order[held_out:], [i for i in order[:held_out] if corpus.pieces[i].tobytes() not in seen] or order[:1]


def blocks(corpus: Corpus, chosen: list[int], context: int, generator: np.random.Generator | None = None) -> torch.Tensor:
    """The chosen pieces one after the other, cut into rows of context + 1 tokens.

    With a `generator`: in a new order, each transposed at random within the voices' ranges, cut at new places.
    """
    if generator is None:
        pieces = [corpus.pieces[i] for i in chosen]
    else:
        moves = [corpus.vocabulary.transposed(k) for k in range(-6, 6)]
        pieces = []
        for i in generator.permutation(chosen):
            candidates = [move[corpus.pieces[i]] for move in moves]
            candidates = [piece for piece in candidates if piece.min() >= 0]
            pieces.append(candidates[generator.integers(len(candidates))])
    stream = np.concatenate(pieces)
    if generator is not None:
        stream = np.roll(stream, generator.integers(len(stream)))
    rows = (len(stream) - 1) // context
    if rows == 0:
        raise SystemExit(f"expected more than {context} tokens of music; found {len(stream)}. Give a smaller --context.")
    return torch.from_numpy(np.stack([stream[r * context : r * context + context + 1] for r in range(rows)]))


def loss_of(model: GPT, rows: torch.Tensor) -> torch.Tensor:
    logits = model(rows[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


@torch.no_grad()
def validate(model: GPT, rows: torch.Tensor, batch: int) -> float:
    model.eval()
    total = sum(loss_of(model, part) * len(part) for part in rows.split(batch))
    model.train()
    return float(total) / len(rows)


def save(state: dict, path: Path) -> None:
    """Write a checkpoint; one that was there is replaced only when the new one is complete."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


class Progress:
    """How far training is, from 0 to 1, in optimiser steps or, with --minutes, in time; and the learning rate there."""

    def __init__(self, steps: int, minutes: float | None, warmup: int) -> None:
        self.steps, self.seconds, self.warmup = steps, (minutes or 0) * 60, max(1, min(warmup, steps // 5))
        self.done, self.begin, self.before = 0, time.perf_counter(), 0.0

    def elapsed(self) -> float:
        return self.before + time.perf_counter() - self.begin

    def now(self) -> float:
        return min(1.0, self.elapsed() / self.seconds if self.seconds else self.done / self.steps)

    def rate(self, step: int) -> float:
        """The share of --lr: up in a line for `warmup` steps, then down to a twentieth along a cosine."""
        return min(1.0, (step + 1) / self.warmup) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * self.now())))


def train(model: GPT, corpus: Corpus, options: argparse.Namespace) -> dict:
    """Train until the steps, the time or the patience run out; returns the history of losses."""
    chosen, held_out = split(corpus, options.seed)
    valid = blocks(corpus, held_out, options.context).to(options.device)
    size = options.batch * options.accumulate
    tokens = sum(len(corpus.pieces[i]) for i in chosen)
    steps = options.steps or options.epochs * max(1, tokens // options.context // size)
    progress = Progress(steps, None if options.steps else options.minutes, options.warmup)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, progress.rate)
    history: dict = {"train": [], "valid": []}
    epoch, best, waited = 0, math.inf, 0
    if options.resume:
        checkpoint = torch.load(options.out / "last.pt")
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        schedule.load_state_dict(checkpoint["schedule"])
        torch.set_rng_state(checkpoint["random"])
        progress.done, progress.before = checkpoint["done"], checkpoint["elapsed"]
        epoch, best, waited, history = (checkpoint[name] for name in ("epoch", "best", "waited", "history"))
    print(f"{len(chosen)} pieces to learn from, {len(held_out)} held out; {sum(p.numel() for p in model.parameters()):,} "
          f"parameters; {options.minutes if progress.seconds else steps} {'minutes' if progress.seconds else 'steps'}, "
          f"{size * options.context:,} tokens a step")

    model.train()
    bar = tqdm(total=1.0, bar_format="{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}", dynamic_ncols=True)
    while progress.now() < 1 and waited < options.patience:
        epoch += 1
        rows = blocks(corpus, chosen, options.context, np.random.default_rng(options.seed + epoch)).to(options.device)
        loader = DataLoader(TensorDataset(rows), min(options.batch, len(rows)), shuffle=True, drop_last=True)
        pending, first, begin, speed = [], len(history["train"]), time.perf_counter(), 0.0
        for (part,) in loader:
            loss = loss_of(model, part)
            (loss / options.accumulate).backward()
            pending.append(loss.detach())
            if len(pending) < options.accumulate:
                continue
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            history["train"].append(sum(pending).item() / len(pending))
            pending = []
            progress.done += 1
            speed = (len(history["train"]) - first) * size * options.context / (time.perf_counter() - begin)
            bar.set_postfix_str(f"step {progress.done}, loss {history['train'][-1]:.3f}, {speed:,.0f} tokens/s", refresh=False)
            bar.update(progress.now() - bar.n)
            if progress.now() >= 1:
                break
        current = validate(model, valid, options.batch)
        history["valid"].append((progress.done, current))
        waited = 0 if current < best else waited + 1
        best = min(best, current)
        recent = history["train"][first:] or [math.nan]
        bar.write(f"epoch {epoch:3d}  step {progress.done:5d}  train {sum(recent) / len(recent):.4f}  valid {current:.4f}  "
                  f"{speed:,.0f} tokens/s")
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(),
                 "random": torch.get_rng_state(), "epoch": epoch, "done": progress.done, "elapsed": progress.elapsed(),
                 "best": best, "waited": waited, "history": history}
        save(state, options.out / "last.pt")
        if waited == 0:
            save({"model": state["model"], "valid": current, "step": progress.done}, options.out / "best.pt")
    bar.close()
    print(f"trained for {progress.elapsed():.0f} s, {progress.elapsed() / max(1, progress.done) * 1e3:.0f} ms a step; "
          f"best validation loss {best:.4f}")
    return history


def main() -> None:
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    corpus = read_corpus(options.data, options.out / f"tokens-{options.data.name if options.data else 'chorales'}.npz")
    model = GPT(len(corpus.vocabulary.tokens), options.context, options.width, options.layers, options.heads, options.dropout)
    model.to(options.device)
    history = train(model, corpus, options)
    model.load_state_dict(torch.load(options.out / "best.pt")["model"])

    chosen = split(corpus, options.seed)[1][0]
    prompt = corpus.pieces[chosen][: options.prompt]
    torch.manual_seed(options.seed)
    begin = time.perf_counter()
    numbers = model.generate(torch.from_numpy(prompt)[None].to(options.device), options.length, options.temperature, options.top_k,
                             options.top_p, end=corpus.vocabulary.numbers[END])[0].tolist()
    print(f"continued {corpus.names[chosen]} by {len(numbers) - len(prompt)} tokens in {time.perf_counter() - begin:.1f} s")
    score = decode(corpus.vocabulary.decode(numbers), corpus.names[chosen])
    given = decode(corpus.vocabulary.decode(prompt.tolist())).notes

    write_midi(score, options.out / "bach.mid")
    piano_roll(score, options.out / "pianoroll.png", max(note.start for note in given), f"{score.name}, continued by the model")
    loss_curve(history, options.out / "loss.png", "What the model learns of Bach")
    for name, what in (("bach.mid", "the music"), ("pianoroll.png", "its piano roll"), ("loss.png", "the loss curves")):
        print(f"{what:16s} {options.out / name}")


if __name__ == "__main__":
    main()
