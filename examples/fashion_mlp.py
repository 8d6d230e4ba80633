"""Which piece of clothing is this? An MLP [300, 100, 10] on Fashion-MNIST, with early stopping.

    python examples/fashion_mlp.py                       downloads 30 MB into data/ the first time
    python examples/fashion_mlp.py --data FOLDER         reads the four idx files of a folder

Reaches a test accuracy of about 0.88.
"""

from __future__ import annotations

import argparse
import copy
import time

import torch
from fashion_mnist import FashionMNIST
from torch import nn
from torch.utils.data import DataLoader, Subset, random_split


class MLP(nn.Module):
    """Pictures of 28 x 28 pixels to the logits of ten classes."""

    def __init__(self, sizes: tuple[int, ...] = (784, 300, 100, 10)) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in zip(sizes, sizes[1:]):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])  # no ReLU after the last

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.layers(pictures)


@torch.no_grad()
def evaluate(model: MLP, loader: DataLoader, criterion: nn.Module) -> tuple[float, float]:
    """The mean loss and the accuracy over the loader's samples."""
    model.eval()
    loss, correct, count = 0.0, 0, 0
    for pictures, labels in loader:
        logits = model(pictures)
        loss += criterion(logits, labels).item() * len(labels)
        correct += (logits.argmax(dim=1) == labels).sum().item()
        count += len(labels)
    return loss / count, correct / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a folder with the data set's four files")
    parser.add_argument("--epochs", type=int, default=30, help="at most so many")
    parser.add_argument("--patience", type=int, default=5, help="epochs to wait for a better validation loss")
    parser.add_argument("--rows", type=int, default=60_000, help="training pictures to use, one tenth of them for validation")
    parser.add_argument("--workers", type=int, default=2, help="processes that load data")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    train, test = (FashionMNIST(options.data or "data", train=t, download=options.data is None) for t in (True, False))
    chosen = Subset(train, range(min(options.rows, len(train))))
    held_out = max(1, len(chosen) // 10)
    fit, valid = random_split(chosen, [len(chosen) - held_out, held_out])
    loader = DataLoader(fit, batch_size=32, shuffle=True, num_workers=options.workers, persistent_workers=options.workers > 0)
    valid_loader, test_loader = DataLoader(valid, batch_size=1000), DataLoader(test, batch_size=1000)

    model = MLP()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    best, best_state, waited = float("inf"), copy.deepcopy(model.state_dict()), 0
    for epoch in range(1, options.epochs + 1):
        begin, total = time.perf_counter(), torch.zeros(())
        model.train()
        for pictures, labels in loader:
            loss = criterion(model(pictures), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        train_loss = total.item() / len(loader)
        seconds = time.perf_counter() - begin
        valid_loss, accuracy = evaluate(model, valid_loader, criterion)
        print(f"epoch {epoch:3d}  train loss {train_loss:.4f}  valid loss {valid_loss:.4f}  valid accuracy {accuracy:.4f}  "
              f"{seconds:.1f} s", flush=True)
        if valid_loss < best:
            best, best_state, waited = valid_loss, copy.deepcopy(model.state_dict()), 0
        else:
            waited += 1
            if waited == options.patience:
                print(f"no better for {waited} epochs: stopping")
                break
    model.load_state_dict(best_state)
    _, accuracy = evaluate(model, test_loader, criterion)
    print(f"test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
