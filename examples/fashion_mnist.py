"""Fashion-MNIST: 70,000 pictures of clothes, 28 x 28 pixels, in ten classes (Xiao, Rasul, Vollgraf 2017, MIT licence).

    train = FashionMNIST("data", train=True, download=True)
    image, label = train[0]            # a float32 tensor (28, 28) with values from 0 to 1, and an int below 10

Plain PyTorch. The data are four files in the idx format, in `root`, `root/FashionMNIST/raw` or below, as they are or
with gzip.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import struct
import urllib.error
import urllib.request
import zlib
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]

MIRRORS = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)

# The md5 sums of the files' contents without gzip: compressors differ, the data must not.
CHECKSUMS = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}


class FashionMNIST(Dataset):
    """The 60,000 training samples, or with `train=False` the 10,000 test samples.

    `transform` and `target_transform` are applied to the image and the label. `download` fetches files that are missing
    into `root`, going on where an earlier download was interrupted.
    """

    classes = CLASSES

    def __init__(self, root, train: bool = True, transform=None, target_transform=None, download: bool = False):
        self.transform, self.target_transform = transform, target_transform
        prefix = "train" if train else "t10k"
        images = load_idx(Path(root), f"{prefix}-images-idx3-ubyte", download)
        labels = load_idx(Path(root), f"{prefix}-labels-idx1-ubyte", download)
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise ValueError(f"{root}: expected as many labels as images; received {labels.shape} and {images.shape}")
        self.data = torch.from_numpy(images).float() / 255
        self.targets = torch.from_numpy(labels).long()
        self._labels = labels.tolist()

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int):
        image, label = self.data[index], self._labels[index]
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            label = self.target_transform(label)
        return image, label


def load_idx(root: Path, name: str, download: bool = False) -> np.ndarray:
    """The array in the file `name` below `root`, checked against its sum."""
    path = find(root, name)
    if path is None and download:
        path = fetch(root, name)
    if path is None:
        raise FileNotFoundError(how_to_provide(root, name, "Or pass download=True."))
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: expected a gzip file; received a damaged one ({error}). "
                         "Delete it and download it again") from error
    if hashlib.md5(data).hexdigest() != CHECKSUMS[name]:
        raise ValueError(f"{path}: the checksum is wrong: the file is damaged or another data set. "
                         "Delete it and download it again")
    return parse_idx(data, str(path))


def parse_idx(data: bytes, name: str = "data") -> np.ndarray:
    """The array in idx data: two zero bytes, the type (8: unsigned byte), the number of dimensions, each size as a big-endian
    32-bit integer, and the elements, the last dimension first to vary."""
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError(f"{name}: expected an idx file of unsigned bytes; received the start {data[:4]!r}")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise ValueError(f"{name}: the idx file is cut short")
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    if len(data) - start != int(np.prod(shape, dtype=object)):
        raise ValueError(f"{name}: expected {shape} bytes; received {len(data) - start}: the idx file is cut short or damaged")
    return np.frombuffer(bytearray(data), np.uint8, offset=start).reshape(shape)


def find(root: Path, name: str) -> Path | None:
    """The file where it usually lies, compressed or not."""
    for folder in (root, root / "FashionMNIST" / "raw", root / "fashion-mnist"):
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    return None


def fetch(root: Path, name: str) -> Path:
    """Download `name` into `root` from the first address that answers."""
    root.mkdir(parents=True, exist_ok=True)
    target = root / f"{name}.gz"
    partial = root / f"{name}.gz.part"
    reasons = []
    for mirror in MIRRORS:
        try:
            download(mirror + target.name, partial)
            content = gzip.decompress(partial.read_bytes())
            if hashlib.md5(content).hexdigest() == CHECKSUMS[name]:
                os.replace(partial, target)
                return target
            reason = "the checksum is wrong"
            partial.unlink()  # not to be continued from
        except (gzip.BadGzipFile, zlib.error) as error:
            reason = str(error)
            partial.unlink()
        except (OSError, EOFError) as error:  # what has come so far stays, for the next attempt
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        reasons.append(f"{mirror}: {reason}")
    raise RuntimeError(how_to_provide(root, name, "Tried:\n  " + "\n  ".join(reasons)))


def download(url: str, partial: Path) -> None:
    """Append to `partial` what is missing of `url`."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            resumed = have and answer.status == 206
            with open(partial, "ab" if resumed else "wb") as file:
                shutil.copyfileobj(answer, file, 1 << 16)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing is missing
            raise


def how_to_provide(root: Path, name: str, more: str) -> str:
    files = "\n  ".join(f"{file}.gz" for file in CHECKSUMS)
    return (f"Fashion-MNIST: the file {name}(.gz) is not in {root.absolute()}. Put these four files there (from "
            f"{MIRRORS[0]}, or from Debian's package dataset-fashion-mnist):\n  {files}\n{more}")
