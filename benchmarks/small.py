"""Loops of small operations, as exercises and evaluation code have them: most of their time is not spent computing. PyTorch beside it, if
installed.

    python -m benchmarks.small [--engine MODULE] [program ...]

Of each program it prints the milliseconds of a call, the first quartile and the median of as many as go into a second.
"""

from __future__ import annotations

import argparse
import importlib
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

SECONDS = 1.0


def programs(torch) -> dict[str, Callable]:
    nn, f = torch.nn, torch.nn.functional
    data = importlib.import_module(f"{torch.__name__}.utils.data")
    x, y = torch.randn(1024, 64), torch.randint(0, 10, (1024,))
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    adam = torch.optim.Adam(model.parameters())
    policy = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))
    images = np.random.default_rng(0).integers(0, 255, (512, 28, 28), dtype=np.uint8)
    words, recurrent, out = nn.Embedding(50, 16), nn.LSTM(16, 32, batch_first=True), nn.Linear(32, 50)

    class Images(data.Dataset):
        def __len__(self):
            return len(images)

        def __getitem__(self, i):
            one = (torch.from_numpy(images[i]).unsqueeze(0).float().div(255) - 0.13) / 0.31
            return torch.flip(one, [2]) if random.random() < 0.5 else one, i % 10

    def batches():
        for start in range(0, 1024, 32):
            yield x[start:start + 32], y[start:start + 32]

    def elements():
        """Numbers taken out of a tensor one by one."""
        t = torch.arange(100.0)
        return sum([float(v) for v in t]) + sum([t[i].item() for i in range(100)])

    def filling():
        """A tensor filled element by element, another row by row."""
        t, rows = torch.zeros(100), torch.zeros(50, 8)
        for i in range(100):
            t[i] = float(i)
        for i in range(50):
            rows[i] = x[i, :8]
        return (t.sum() + rows.sum()).item()

    def confusion():
        """A confusion matrix, counted pair by pair."""
        counts = torch.zeros(10, 10, dtype=torch.long)
        for true, guess in zip(y[:200], y[100:300]):
            counts[true, guess] += 1
        return counts.trace().item()

    def table():
        """Q-learning in a table: Watkins, 1989."""
        values, state = torch.zeros(16, 4), 0
        for _ in range(100):
            action = int(values[state].argmax()) if random.random() > 0.1 else random.randrange(4)
            new = (5 * state + 3 * action + 1) % 16
            values[state, action] += 0.1 * ((new == 15) + 0.9 * values[new].max() - values[state, action])
            state = new
        return values.sum().item()

    def acting():
        """A policy asked for an action at each step, and its gradient at the end: Williams, 1992."""
        chances, state = [], np.ones(4, np.float32)
        for _ in range(50):
            choice = torch.distributions.Categorical(f.softmax(policy(torch.tensor(state)), -1))
            action = choice.sample()
            chances.append(choice.log_prob(action))
            state = np.roll(state, 1) * (0.5 + action.item())
        torch.stack(chances).sum().backward()
        return float(state[0])

    def training():
        """An epoch of steps with small batches, whose losses are added up."""
        total = 0.0
        for a, b in batches():
            loss = f.cross_entropy(model(a), b)
            adam.zero_grad()
            loss.backward()
            adam.step()
            total += loss.item()
        return total

    def by_hand():
        """Gradient descent without an optimiser."""
        for a, b in batches():
            loss = f.cross_entropy(model(a), b)
            loss.backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.01 * p.grad
                    p.grad = None
        return loss.item()

    def evaluation():
        """Accuracy and loss, batch by batch."""
        right, total = 0, 0.0
        with torch.no_grad():
            for a, b in batches():
                scores = model(a)
                right += (scores.argmax(1) == b).sum().item()
                total += f.cross_entropy(scores, b).item()
        return right + total

    def loading():
        """Images made into tensors one by one, every other one flipped by chance."""
        return sum([a.shape[0] for a, _ in data.DataLoader(Images(), batch_size=64)])

    def rows():
        """Batches of a dataset of tensors."""
        return sum([len(b) for _, b in data.DataLoader(data.TensorDataset(x, y), batch_size=64, shuffle=True)])

    def clusters():
        """Lloyd's algorithm."""
        centres = x[:8].clone()
        for _ in range(10):
            nearest = torch.cdist(x, centres).argmin(1)
            centres = torch.stack([x[nearest == k].mean(0) for k in range(8)])
        return centres.sum().item()

    def beams():
        """Beam search."""
        scores, total = torch.randn(4, 100), torch.zeros(4)
        for _ in range(15):
            total, place = (f.log_softmax(scores, -1) + total[:, None]).view(-1).topk(4)
            scores = scores[place // 100] * 0.9 + 0.1
        return total.sum().item()

    def letters():
        """Text drawn letter by letter from a recurrent network."""
        state, letter, found = None, torch.tensor([[3]]), 0
        with torch.no_grad():
            for _ in range(30):
                read, state = recurrent(words(letter), state)
                letter = torch.multinomial(f.softmax(out(read[:, -1]) / 0.8, -1), 1)
                found += letter.item()
        return found

    def padding():
        """Sequences of any lengths padded to one."""
        several = [torch.randint(0, 50, (random.randint(3, 20),)) for _ in range(32)]
        return nn.utils.rnn.pad_sequence(several, True).sum().item()

    def orthogonal():
        """Gram and Schmidt's way."""
        found: list = []
        for i in range(12):
            v = x[:12, i].clone()
            for u in found:
                v = v - (u @ x[:12, i]) * u
            found.append(v / v.norm())
        return torch.stack(found).sum().item()

    def sliding():
        """A correlation in two dimensions, window by window."""
        kernel, found = x[:3, :3], torch.zeros(10, 10)
        for i in range(10):
            for j in range(10):
                found[i, j] = (x[i:i + 3, j:j + 3] * kernel).sum()
        return found.sum().item()

    return {make.__name__: make for make in
            (elements, filling, confusion, table, acting, training, by_hand, evaluation, loading, rows, clusters, beams, letters, padding,
             orthogonal, sliding)}


def measure(engine: str, names: list[str]) -> None:
    torch = importlib.import_module(engine)
    torch.set_num_threads(2)
    for name, call in programs(torch).items():
        if names and name not in names:
            continue
        torch.manual_seed(0)
        random.seed(0)
        for _ in range(8):
            call()
        times: list[float] = []
        while len(times) < 8 or sum(times) < 1e3 * SECONDS:
            start = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - start))
        print(f"{name:12}{engine:10}{statistics.quantiles(times)[0]:9.3f}   median {statistics.median(times):9.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="*")
    parser.add_argument("--engine")
    options = parser.parse_args()
    if options.engine:
        measure(options.engine, options.program)
        return
    import antorcha

    for name in options.program or programs(antorcha):
        for engine in ("antorcha", "torch"):
            subprocess.run([sys.executable, "-W", "ignore", "-m", "benchmarks.small", "--engine", engine, name],
                           check=engine == "antorcha", stderr=subprocess.DEVNULL if engine == "torch" else None)


if __name__ == "__main__":
    main()
