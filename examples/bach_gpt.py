"""A small GPT learns the chorales of J. S. Bach, then continues one that it has not seen.

    python examples/bach_gpt.py --demo              about four minutes of training on two cores
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

DEMO = dict(minutes=3.5, width=128, layers=4, heads=4, batch=8, lr=2e-3, warmup=50)


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
    add("--length", type=int, default=500, help="tokens to generate at most")
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


def seconds_per_step(model: GPT, rows: torch.Tensor, trials: int = 6) -> float:
    """The median time of a forward and backward pass, after a first one that may have to compile."""
    times = []
    for _ in range(trials + 2):
        begin = time.perf_counter()
        loss_of(model, rows).backward()
        sum(p.grad.sum() for p in model.parameters()).item()
        model.zero_grad()
        times.append(time.perf_counter() - begin)
    return sorted(times[2:])[trials // 2]


def save(state: dict, path: Path) -> None:
    """Write a checkpoint; one that was there is replaced only when the new one is complete."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def train(model: GPT, corpus: Corpus, options: argparse.Namespace) -> dict:
    """Train until the steps, the time or the patience run out; returns the history of losses."""
    chosen, held_out = split(corpus, options.seed)
    valid = blocks(corpus, held_out, options.context).to(options.device)
    first = blocks(corpus, chosen, options.context, np.random.default_rng(options.seed)).to(options.device)
    per_epoch = max(1, len(first) // (options.batch * options.accumulate))
    steps = options.steps or options.epochs * per_epoch
    if options.minutes and not options.steps:
        steps = max(1, int(options.minutes * 57 / seconds_per_step(model, first[: options.batch]) / options.accumulate))
        torch.manual_seed(options.seed)
    checkpoint = torch.load(options.out / "last.pt") if options.resume else None
    if checkpoint:
        steps = checkpoint["steps"]

    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, betas=(0.9, 0.95), weight_decay=0.01)
    warmup = max(1, min(options.warmup, steps // 5))
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, milestones=[warmup], schedulers=[
        torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=warmup),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, steps - warmup), eta_min=options.lr / 20),
    ])
    history: dict = {"train": [], "valid": []}
    epoch, done, best, waited = 0, 0, math.inf, 0
    if checkpoint:
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        schedule.load_state_dict(checkpoint["schedule"])
        torch.set_rng_state(checkpoint["random"])
        epoch, done, best, waited = (checkpoint[name] for name in ("epoch", "done", "best", "waited"))
        history = checkpoint["history"]
    print(f"{len(chosen)} pieces to learn from, {len(held_out)} held out; {sum(p.numel() for p in model.parameters()):,} "
          f"parameters; {steps:,} steps of {options.batch * options.accumulate * options.context:,} tokens")

    begin = time.perf_counter()
    bar = tqdm(total=steps, initial=done, unit=" steps", smoothing=0.1, dynamic_ncols=True)
    while done < steps and waited < options.patience:
        epoch += 1
        rows = blocks(corpus, chosen, options.context, np.random.default_rng(options.seed + epoch)).to(options.device)
        losses = []
        for number, (part,) in enumerate(DataLoader(TensorDataset(rows), options.batch, shuffle=True, drop_last=len(rows) > options.batch)):
            loss = loss_of(model, part)
            (loss / options.accumulate).backward()
            losses.append(loss.detach())
            if (number + 1) % options.accumulate:
                continue
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            done += 1
            history["train"].append(sum(losses[-options.accumulate :]).item() / options.accumulate)
            speed = options.batch * options.accumulate * options.context * bar.n / max(1e-9, time.perf_counter() - begin)
            bar.set_postfix_str(f"loss {history['train'][-1]:.3f}, {speed:,.0f} tokens/s", refresh=False)
            bar.update()
            late = options.minutes and time.perf_counter() - begin > options.minutes * 60
            if late or done >= steps:
                break
        current = validate(model, valid, options.batch)
        history["valid"].append((done, current))
        waited = 0 if current < best else waited + 1
        recent = history["train"][-len(losses) // options.accumulate :] or [math.nan]
        bar.write(f"epoch {epoch:3d}  step {done:5d}  train {sum(recent) / len(recent):.4f}  valid {current:.4f}")
        best = min(best, current)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(),
                 "random": torch.get_rng_state(), "epoch": epoch, "done": done, "best": best, "waited": waited,
                 "steps": steps, "history": history}
        save(state, options.out / "last.pt")
        if waited == 0:
            save({"model": state["model"], "valid": current, "step": done}, options.out / "best.pt")
        if late:
            break
    bar.close()
    seconds = time.perf_counter() - begin
    print(f"trained for {seconds:.0f} s, {seconds / max(1, done) * 1e3:.0f} ms a step; best validation loss {best:.4f}")
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
