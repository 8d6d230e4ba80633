"""The examples, small: each runs on antorcha unchanged, and prints the losses that PyTorch prints."""

from __future__ import annotations

import gzip
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


SMALL_FASHION = f"""
import hashlib, gzip, pathlib, sys
sys.path.insert(0, {str(EXAMPLES)!r})
import fashion_mnist, fashion_mlp
files = pathlib.Path(__file__).parent.glob("*.gz")
fashion_mnist.CHECKSUMS = {{f.stem: hashlib.md5(gzip.decompress(f.read_bytes())).hexdigest() for f in files}}
if __name__ == "__main__":
    fashion_mlp.main()
"""


def run(on: str, example: str | Path, *arguments) -> str:
    """The output of an example on "antorcha" or "torch"."""
    prefix = [sys.executable, "-m", "antorcha", "run"] if on == "antorcha" else [sys.executable]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run([*prefix, str(EXAMPLES / example), *map(str, arguments)], capture_output=True, text=True, timeout=500,
                          env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder in Fashion-MNIST's format with few, easy pictures: a class is where the bright row is."""
    folder = tmp_path_factory.mktemp("fashion")
    random = np.random.default_rng(0)
    for name, count in (("train", 640), ("t10k", 200)):
        labels = random.integers(0, 10, count, dtype=np.uint8)
        images = random.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        images[np.arange(count), labels * 2 + 4] = 255
        with gzip.open(folder / f"{name}-images-idx3-ubyte.gz", "wb") as file:
            file.write(struct.pack(">4I", 2051, count, 28, 28) + images.tobytes())
        with gzip.open(folder / f"{name}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(struct.pack(">2I", 2049, count) + labels.tobytes())
    (folder / "small_fashion.py").write_text(SMALL_FASHION)
    return folder


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """A folder with a few short MIDI pieces in two voices."""
    mido = pytest.importorskip("mido")
    folder = tmp_path_factory.mktemp("music")
    for piece in range(6):
        midi = mido.MidiFile(ticks_per_beat=480)
        for voice, base in enumerate((72, 48)):
            track = mido.MidiTrack()
            midi.tracks.append(track)
            for i in range(40):
                pitch = base + (i * (voice + 2) + piece) % 12
                track.append(mido.Message("note_on", note=pitch, velocity=64, time=0))
                track.append(mido.Message("note_off", note=pitch, time=240 * (1 + (i + voice) % 2)))
        midi.save(folder / f"{piece}.mid")
    return folder


def bach(music, out):
    return ("bach_gpt.py", "--data", music, "--out", out, "--width", 32, "--heads", 2, "--layers", 2, "--context", 32,
            "--batch", 4, "--accumulate", 2, "--length", 40, "--dropout", 0.0, "--lr", 1e-3)


def losses(output: str) -> list[float]:
    return [float(value) for value in re.findall(r"(?:loss|train|valid)\s+([0-9.]+)", output)]


def test_tensors_and_autograd():
    output = run("antorcha", "tensors_and_autograd.py")
    for expected in ("tensor([12.])", "tensor([24.])", "Trying to backward through the graph a second time", "product: True",
                     "tensor([-1.1258, -1.1524, -0.2506])", "same again: True", "in no_grad: False"):
        assert expected in output


def test_sine():
    output = run("antorcha", "sine.py", "--steps", 300)
    assert len(output.splitlines()) == 5
    assert losses(output)[0] == pytest.approx(losses(output)[1], rel=1e-4)


def test_mlp_regression():
    found = losses(run("antorcha", "mlp_regression.py", "--rows", 5000, "--steps", 5))
    assert len(found) == 5 and found[-1] < found[0]


def test_fashion_mlp(pictures):
    output = run("antorcha", pictures / "small_fashion.py", "--data", pictures, "--epochs", 4)
    assert float(re.findall(r"test accuracy ([0-9.]+)", output)[0]) > 0.9


def test_bach_gpt(music, tmp_path):
    pytest.importorskip("tqdm")
    pytest.importorskip("matplotlib")
    output = run("antorcha", *bach(music, tmp_path), "--steps", 40)
    assert losses(output)[-1] < losses(output)[0]
    for name in ("bach.mid", "pianoroll.png", "loss.png", "last.pt", "best.pt"):
        assert (tmp_path / name).stat().st_size > 0
    again = run("antorcha", *bach(music, tmp_path), "--steps", 60, "--resume")
    assert "step    60" in again
    assert not list(tmp_path.glob("*.partial"))


def test_scores_survive_the_way_through_tokens_and_midi(tmp_path, monkeypatch):
    pytest.importorskip("mido")
    pytest.importorskip("tqdm")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from bach.scores import Note, Score, read_midi, write_midi
    from bach.tokens import Vocabulary, decode, encode

    notes = [Note(0, 4, 0, 72), Note(4, 8, 0, 74), Note(0, 8, 1, 60), Note(12, 16, 0, 71), Note(8, 32, 1, 55)]
    score = Score("two voices", notes, [0, 16, 32], {12})
    tokens = encode(score)
    assert tokens == "start bar16 S72 A60 at4 S74 at8 A55 S- at12 fermata S71 bar16 S- end".split()
    told = decode(tokens)
    assert (sorted(told.notes), told.bars, told.fermatas) == (sorted(notes), [0, 16, 32], {12})
    write_midi(told, tmp_path / "a.mid")
    assert sorted(read_midi(tmp_path / "a.mid").notes) == sorted(notes)
    vocabulary = Vocabulary.of([tokens])
    up = vocabulary.transposed(1)
    assert vocabulary.tokens[up[vocabulary.numbers["S72"]]] == "S73" and up[vocabulary.numbers["S74"]] == -1


@pytest.mark.oracle
@pytest.mark.parametrize("example", ["sine", "mlp_regression", "fashion_mlp", "bach_gpt"])
def test_losses_are_pytorchs(example, pictures, music, tmp_path):
    pytest.importorskip("torch")
    command = {
        "sine": ("sine.py", "--steps", 200),
        "mlp_regression": ("mlp_regression.py", "--rows", 5000, "--steps", 5),
        "fashion_mlp": (pictures / "small_fashion.py", "--data", pictures, "--epochs", 2),
        "bach_gpt": (*bach(music, tmp_path), "--steps", 12),
    }[example]
    ours, theirs = losses(run("antorcha", *command)), losses(run("torch", *command))
    assert ours == pytest.approx(theirs, rel=2e-3, abs=2e-4)
