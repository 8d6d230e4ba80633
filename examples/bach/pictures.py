"""The two pictures that bach_gpt.py draws, as PNG files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .scores import STEPS_PER_QUARTER, Score

INK, PAPER = "#30343b", "#ffffff"
VOICE_COLOURS = ["#c8553d", "#e0a030", "#4f8a5b", "#34568b", "#7d5a94", "#7a7a7a", "#2a9d9d", "#b05a7a"]
VOICE_NAMES = ["soprano", "alto", "tenor", "bass", "fifth voice", "sixth voice", "seventh voice", "eighth voice"]


def _figure(width: float, height: float) -> tuple[Figure, object]:
    figure = Figure(figsize=(width, height), dpi=130, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=INK)
    return figure, axes


def piano_roll(score: Score, path: Path, given: int, title: str) -> None:
    """Draw the score: time to the right in quarter notes, pitch upwards; what was `given` (steps) on a grey ground."""
    end = score.bars[-1] / STEPS_PER_QUARTER
    figure, axes = _figure(max(9, min(24, end / 5)), 4.8)
    axes.axvspan(0, given / STEPS_PER_QUARTER, color="#e9ebee", zorder=0)
    for bar in score.bars:
        axes.axvline(bar / STEPS_PER_QUARTER, color="#d4d7dc", linewidth=0.6, zorder=1)
    for voice in sorted({note.voice for note in score.notes}):
        notes = [note for note in score.notes if note.voice == voice]
        axes.barh([n.pitch for n in notes], [(n.end - n.start) / STEPS_PER_QUARTER - 0.08 for n in notes],
                  left=[n.start / STEPS_PER_QUARTER for n in notes], height=0.85, color=VOICE_COLOURS[voice],
                  label=VOICE_NAMES[voice], zorder=3)
    top = max((note.pitch for note in score.notes), default=72) + 1.6
    axes.plot([at / STEPS_PER_QUARTER + 0.5 for at in sorted(score.fermatas)], [top] * len(score.fermatas),
              linestyle="", marker="$\\frown$", markersize=9, color=INK, zorder=3)
    octaves = range(36, 97, 12)
    axes.set_yticks([p for p in octaves], [f"C{p // 12 - 1}" for p in octaves])
    for pitch in octaves:
        axes.axhline(pitch, color="#eceef1", linewidth=0.6, zorder=1)
    lowest = min((note.pitch for note in score.notes), default=48)
    axes.set(xlim=(0, end), ylim=(lowest - 2, top + 1.5), xlabel="quarter notes", title=title)
    axes.title.set_color(INK)
    figure.legend(loc="outside lower center", ncols=8, frameon=False, fontsize=9)
    figure.savefig(path)


def loss_curve(history: dict[str, list], path: Path, title: str) -> None:
    """Draw the loss of every step, its running mean, and the validation loss of every epoch."""
    figure, axes = _figure(7.5, 4.2)
    losses, steps = history["train"], range(1, len(history["train"]) + 1)
    axes.plot(steps, losses, color="#c9d3e0", linewidth=0.7, zorder=1, label="training")
    smooth, mean = [], losses[0]
    for step, loss in enumerate(losses):
        mean += (loss - mean) * max(0.05, 1 / (step + 1))
        smooth.append(mean)
    axes.plot(steps, smooth, color="#34568b", linewidth=1.6, label="its running mean", zorder=2)
    axes.plot([s for s, _ in history["valid"]], [v for _, v in history["valid"]], color="#c8553d", marker="o", markersize=3.5,
              linewidth=1.4, label="validation", zorder=3)
    axes.set(xlabel="step", ylabel="loss (nats per token)", title=title, xlim=(0, len(losses) + 1))
    axes.grid(color="#eceef1", linewidth=0.6)
    axes.legend(frameon=False)
    figure.savefig(path)
