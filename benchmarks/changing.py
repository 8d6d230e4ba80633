"""Training steps and generation that depend on their data, so that hardly one records what another did. PyTorch beside it, if installed.

    python -m benchmarks.changing [--steps N] [--engine MODULE] [program ...]

Of each program it prints milliseconds of a step, the mean of each quarter of the run, then the median of the last one, and the last loss.
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


def programs(torch) -> dict[str, Callable]:
    """By name, what makes a function that takes a step and gives a number of it."""
    nn, f = torch.nn, torch.nn.functional

    def trained(parameters, loss_of):
        optimiser = torch.optim.Adam(list(parameters), lr=1e-3)

        def step():
            loss = loss_of()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            return loss.item()
        return step

    def label(classes: int, count: int = 1):
        return torch.tensor([random.randrange(classes) for _ in range(count)])

    def tree():
        """A recursive network over random binary trees: Tai et al., 2015."""
        words, gates, out = nn.Embedding(100, 64), nn.Linear(128, 320), nn.Linear(64, 5)

        def state(node):
            if isinstance(node, int):
                return words(torch.tensor([node])), torch.zeros(1, 64)
            (h, c), (k, d) = state(node[0]), state(node[1])
            i, left, right, o, u = gates(torch.cat([h, k], 1)).chunk(5, 1)
            c = i.sigmoid() * u.tanh() + left.sigmoid() * c + right.sigmoid() * d
            return o.sigmoid() * c.tanh(), c

        def grown(leaves):
            cut = random.randint(1, leaves - 1) if leaves > 1 else 0
            return (grown(cut), grown(leaves - cut)) if cut else random.randrange(100)

        return trained([p for m in (words, gates, out) for p in m.parameters()], lambda: sum(
            [f.cross_entropy(out(state(grown(random.randint(3, 20)))[0]), label(5)) for _ in range(4)]))

    def experts():
        """Tokens to two of eight experts each, as many as are sent to it."""
        into, gate, out = nn.Linear(32, 64), nn.Linear(64, 8), nn.Linear(64, 10)
        several = nn.ModuleList([nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64)) for _ in range(8)])
        x, y = torch.randn(256, 32), torch.randint(0, 10, (256,))

        def loss():
            chosen = torch.randint(0, 256, (64,))
            z = into(x[chosen])
            weights, which = gate(z).softmax(-1).topk(2, -1)
            total = torch.zeros_like(z)
            for number, expert in enumerate(several):
                row, column = (which == number).nonzero(as_tuple=True)
                if len(row):
                    total = total.index_add(0, row, expert(z[row]) * weights[row, column].unsqueeze(1))
            return f.cross_entropy(out(z + total), y[chosen])
        return trained([p for m in (into, gate, several, out) for p in m.parameters()], loss)

    def depth():
        """Layers of a transformer left out by chance: Fan et al., 2019."""
        layers = nn.ModuleList([nn.TransformerEncoderLayer(64, 4, 128, 0.0, batch_first=True) for _ in range(8)])
        out, x, y = nn.Linear(64, 10), torch.randn(16, 20, 64), torch.randint(0, 10, (16,))

        def loss():
            z = x
            for layer in layers:
                z = layer(z) if random.random() > 0.3 else z
            return f.cross_entropy(out(z.mean(1)), y)
        return trained([*layers.parameters(), *out.parameters()], loss)

    def graphs():
        """A graph network, each graph of another size."""
        first, second, out = nn.Linear(16, 64), nn.Linear(64, 64), nn.Linear(64, 3)

        def loss():
            nodes = random.randint(10, 80)
            edges = random.randint(nodes, 4 * nodes)
            source, target, x = torch.randint(0, nodes, (edges,)), torch.randint(0, nodes, (edges,)), torch.randn(nodes, 16)
            degree = torch.zeros(nodes).index_add(0, target, torch.ones(edges)).clamp(min=1)
            for layer in (first, second):
                h = layer(x)
                x = f.relu(torch.zeros(nodes, 64).index_add(0, target, h[source]) / degree[:, None] + h)
            return f.cross_entropy(out(x.mean(0, keepdim=True)), label(3))
        return trained([p for m in (first, second, out) for p in m.parameters()], loss)

    def images():
        """Batches of images of any size."""
        model = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32),
                              nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))

        def loss():
            x = torch.rand(random.randint(2, 8), 3, random.randint(20, 64), random.randint(20, 64))
            return f.cross_entropy(model(x), label(10, len(x)))
        return trained(model.parameters(), loss)

    def sentences():
        """A padded transformer, any number of sentences of any length."""
        layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, 0.0, batch_first=True), 3)
        words, out = nn.Embedding(100, 64), nn.Linear(64, 5)

        def loss():
            count, longest = random.randint(2, 16), random.randint(5, 50)
            lengths = torch.tensor([random.randint(2, longest) for _ in range(count)])[:, None]
            hidden = torch.arange(longest)[None] >= lengths
            y = layers(words(torch.randint(1, 100, (count, longest))), src_key_padding_mask=hidden)
            return f.cross_entropy(out((y * ~hidden[..., None]).sum(1) / lengths), label(5, count))
        return trained([p for m in (layers, words, out) for p in m.parameters()], loss)

    def chain():
        """A conditional random field's forward sum, step by step: Lafferty et al., 2001."""
        moves, scores = nn.Parameter(torch.randn(8, 8)), nn.Linear(16, 8)

        def loss():
            s = scores(torch.randn(random.randint(5, 30), 16))
            y = label(8, len(s))
            total = s[0]
            for score in s[1:]:
                total = torch.logsumexp(total[:, None] + moves, 0) + score
            return total.logsumexp(0) - s[torch.arange(len(s)), y].sum() - moves[y[:-1], y[1:]].sum()
        return trained([moves, *scores.parameters()], loss)

    def translation():
        """A decoder with attention told its own words or the right ones, by chance: Bahdanau et al., 2015."""
        source, target, out = nn.Embedding(50, 32), nn.Embedding(50, 32), nn.Linear(32, 50)
        reader, writer = nn.GRU(32, 32, batch_first=True), nn.GRU(64, 32, batch_first=True)
        query, key, value = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 1)

        def loss():
            x, y = (torch.randint(0, 50, (4, random.randint(3, 12))) for _ in range(2))
            read, state = reader(source(x))
            word, found = torch.zeros(4, 1, dtype=torch.long), []
            for place in range(y.shape[1]):
                scores = value((query(state.permute(1, 0, 2)) + key(read)).tanh()).squeeze(2).unsqueeze(1)
                z, state = writer(torch.cat([target(word), torch.bmm(scores.softmax(-1), read)], 2), state)
                found.append(out(z))
                word = y[:, place:place + 1] if random.random() < 0.5 else found[-1].argmax(-1)
            return f.cross_entropy(torch.cat(found, 1).flatten(0, 1), y.flatten())
        return trained([p for m in (source, target, out, reader, writer, query, key, value) for p in m.parameters()], loss)

    def generation():
        """Twenty words from a prompt of any length, all of it read again for each."""
        layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, 0.0, batch_first=True), 3)
        words, out = nn.Embedding(100, 64), nn.Linear(64, 100)

        def step():
            x = torch.randint(0, 100, (1, random.randint(3, 12)))
            with torch.no_grad():
                for _ in range(20):
                    later = torch.triu(torch.ones(x.shape[1], x.shape[1]), 1).bool()
                    x = torch.cat([x, out(layers(words(x), later)[:, -1]).argmax(-1, keepdim=True)], 1)
            return float(x[0, -1].item())
        return step

    def regions():
        """Boxes proposed by one head, told apart by another that looks at what lies within: Ren et al., 2015, in small."""
        body = nn.Sequential(*[part for i, o in ((3, 16), (16, 32), (32, 64)) for part in (nn.Conv2d(i, o, 3, 2, 1), nn.ReLU())])
        likely, hidden, out = nn.Conv2d(64, 3, 3, 1, 1), nn.Linear(64 * 16, 128), nn.Linear(128, 5)

        def overlap(a, b):
            sides = (torch.min(a[:, None, 2:], b[None, :, 2:]) - torch.max(a[:, None, :2], b[None, :, :2])).clamp(min=0)
            areas = [(x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b)]
            common = sides[..., 0] * sides[..., 1]
            return common / (areas[0][:, None] + areas[1][None] - common + 1e-6)

        def kept(boxes, scores):
            order, found = scores.argsort(descending=True), []
            while len(order) and len(found) < 8:
                found.append(int(order[0]))
                order = order[1:][overlap(boxes[order[:1]], boxes[order[1:]])[0] <= 0.6]
            return boxes[torch.tensor(found)]

        def loss():
            height, width = random.choice([96, 112, 128, 144]), random.choice([96, 112, 128, 160])
            count = random.randint(1, 7)
            centre, half = torch.rand(count, 2) * torch.tensor([float(width), float(height)]), torch.rand(count, 2) * 15 + 4
            right, classes = torch.cat([centre - half, centre + half], 1), torch.randint(1, 5, (count,))
            features = body(torch.rand(1, 3, height, width))
            rows, columns = features.shape[2:]
            places = torch.stack(torch.meshgrid(torch.arange(columns) * 8.0, torch.arange(rows) * 8.0, indexing="xy"), -1).view(-1, 1, 2)
            sizes = torch.tensor([8.0, 16.0, 24.0]).view(1, 3, 1)
            anchors = torch.cat([places - sizes, places + sizes], -1).view(-1, 4)
            scores = likely(features).permute(0, 2, 3, 1).reshape(-1)
            best = overlap(anchors, right).max(1)[0]
            some = torch.cat([(best > 0.4).nonzero()[:, 0], (best < 0.2).nonzero()[:16, 0]])
            total = f.binary_cross_entropy_with_logits(scores[some], (best[some] > 0.4).float())
            with torch.no_grad():
                top = scores.topk(40)[1]
                boxes = torch.cat([kept(anchors[top], scores[top]), right])
            parts = []
            for box in boxes:
                x, y, z, w = [max(int(side) // 8, 0) for side in box]
                x, y = min(x, columns - 1), min(y, rows - 1)
                parts.append(f.adaptive_max_pool2d(features[:, :, y:max(w, y + 1), x:max(z, x + 1)], 4))
            share, which = overlap(boxes, right).max(1)
            wanted = torch.where(share > 0.5, classes[which], torch.zeros_like(which))
            return total + f.cross_entropy(out(hidden(torch.cat(parts).flatten(1)).relu()), wanted)
        return trained([p for m in (body, likely, hidden, out) for p in m.parameters()], loss)

    return {make.__name__: make for make in
            (tree, experts, depth, graphs, images, sentences, chain, translation, generation, regions)}


def measure(engine: str, names: list[str], steps: int) -> None:
    torch = importlib.import_module(engine)
    importlib.import_module(f"{engine}.nn")
    torch.set_num_threads(2)
    for name, make in programs(torch).items():
        if names and name not in names:
            continue
        torch.manual_seed(0)
        random.seed(0)
        step, times, number = make(), [], 0.0
        for _ in range(steps):
            start = time.perf_counter()
            number = step()
            times.append(1e3 * (time.perf_counter() - start))
        quarter = steps // 4
        means = "".join([f"{statistics.mean(times[k * quarter:(k + 1) * quarter]):9.1f}" for k in range(4)])
        print(f"{name:12}{engine:10}{means}   median {statistics.median(times[-quarter:]):7.1f}   {number:.5f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="*")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--engine")
    options = parser.parse_args()
    if options.steps < 4:
        parser.error(f"--steps: expected at least 4; received {options.steps}")
    if options.engine:
        measure(options.engine, options.program, options.steps)
        return
    import antorcha

    for name in options.program or programs(antorcha):
        for engine in ("antorcha", "torch"):
            subprocess.run([sys.executable, "-m", "benchmarks.changing", "--engine", engine, "--steps", str(options.steps), name],
                           check=engine == "antorcha", stderr=subprocess.DEVNULL if engine == "torch" else None)


if __name__ == "__main__":
    main()
