"""The losses of the Fashion-MNIST and the Bach example on antorcha and on PyTorch, from the same seed, in one picture.

    python benchmarks/loss_curves.py --torch PYTHON [--data FOLDER] [--logs FOLDER] [--out PICTURE]

PYTHON is the interpreter of an environment that has PyTorch and what the examples need; FOLDER holds the files of Fashion-MNIST.
Each run takes minutes; one whose log is there already is not repeated.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
LINE = re.compile(r"epoch +(\d+) .*?train (?:loss )?([\d.]+)  valid (?:loss )?([\d.]+)")
BACH = [
    "--steps",
    "300",
    "--width",
    "128",
    "--layers",
    "4",
    "--heads",
    "4",
    "--batch",
    "8",
    "--lr",
    "2e-3",
    "--warmup",
    "50",
    "--length",
    "50",
]


def run(command: list[str], log: Path) -> list[tuple[int, float, float]]:
    """(epoch, training loss, validation loss) that the command prints; kept in `log`."""
    if not log.exists():
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        log.write_text(done.stdout + done.stderr)
    return [(int(e), float(t), float(v)) for e, t, v in LINE.findall(log.read_text())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", required=True, metavar="PYTHON")
    parser.add_argument("--data", metavar="FOLDER")
    parser.add_argument("--logs", type=Path, default=Path("runs/curves"), metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=Path("docs/loss_curves.png"), metavar="PICTURE")
    options = parser.parse_args()
    options.logs.mkdir(parents=True, exist_ok=True)

    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    fashion = [str(EXAMPLES / "fashion_mlp.py"), *(["--data", options.data] if options.data else [])]
    bach = [str(EXAMPLES / "bach_gpt.py"), *BACH]
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
    for axis, title, script in ((axes[0], "Fashion-MNIST perceptron", fashion), (axes[1], "Bach GPT", bach)):
        for engine, launch, width, style in (
            ("PyTorch", [options.torch], 5, "-"),
            ("antorcha", [sys.executable, "-m", "antorcha", "run"], 1.5, "--"),
        ):
            name = f"{Path(script[0]).stem}-{engine.lower()}"
            extra = ["--out", str(options.logs / name)] if script is bach else []
            rows = run([*launch, *script, *extra], options.logs / f"{name}.txt")
            for losses, label, colour in (
                ((t for _, t, _ in rows), "training", "#c0504d"),
                ((v for _, _, v in rows), "validation", "#1f4e79"),
            ):
                axis.plot([e for e, _, _ in rows], list(losses), style, lw=width, color=colour, alpha=0.35 if width > 2 else 1.0,
                          label=f"{label}, {engine}")
        axis.set(title=title, xlabel="epoch", ylabel="loss")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(options.out, dpi=110)
    print(options.out)


if __name__ == "__main__":
    main()
