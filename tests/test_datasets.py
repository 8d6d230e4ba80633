"""The Fashion-MNIST of the examples: reading, checking, and fetching from a server that breaks off."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import importlib.util
import os
import struct
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import antorcha

EXAMPLE = Path(__file__).parents[1] / "examples" / "fashion_mnist.py"


@pytest.fixture
def module(monkeypatch):
    """The example's module, with antorcha for `torch` and sums of a small data set made here."""
    monkeypatch.setitem(sys.modules, "torch", antorcha)
    monkeypatch.setitem(sys.modules, "torch.utils", antorcha.utils)
    monkeypatch.setitem(sys.modules, "torch.utils.data", antorcha.utils.data)
    spec = importlib.util.spec_from_file_location("fashion_mnist_example", EXAMPLE)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    monkeypatch.setattr(loaded, "CHECKSUMS", {name: hashlib.md5(content).hexdigest() for name, content in FILES.items()})
    return loaded


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


IMAGES = (np.arange(3 * 28 * 28) % 256).astype(np.uint8).reshape(3, 28, 28)
LABELS = np.array([9, 0, 3], np.uint8)
FILES = {"train-images-idx3-ubyte": idx(IMAGES), "train-labels-idx1-ubyte": idx(LABELS),
         "t10k-images-idx3-ubyte": idx(IMAGES[:2]), "t10k-labels-idx1-ubyte": idx(LABELS[:2])}


@pytest.mark.parametrize("folder, packed", [(".", True), (".", False), ("FashionMNIST/raw", True)])
def test_reading(module, tmp_path, folder, packed):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        (tmp_path / folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
    train = module.FashionMNIST(tmp_path, train=True, target_transform=lambda label: label + 100)
    image, label = train[2]
    assert len(train) == 3 and label == 103 and image.dtype is antorcha.float32
    assert np.allclose(image.tolist(), IMAGES[2] / np.float32(255))
    test = module.FashionMNIST(tmp_path, train=False, transform=lambda image: image.flatten())
    assert len(test) == 2 and test[0][0].shape == (784,) and test.targets.tolist() == [9, 0]
    batch, labels = next(iter(antorcha.utils.data.DataLoader(train, 3)))
    assert batch.shape == (3, 28, 28) and labels.tolist() == [109, 100, 103]


def test_missing_and_damaged_files(module, tmp_path):
    with pytest.raises(FileNotFoundError, match="(?s)Put these four files there.*train-labels.*download=True"):
        module.FashionMNIST(tmp_path)
    for name, content in FILES.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="damaged"):
        module.FashionMNIST(tmp_path)
    path.write_bytes(gzip.compress(FILES["train-images-idx3-ubyte"][:-1] + b"x"))
    with pytest.raises(ValueError, match="checksum"):
        module.FashionMNIST(tmp_path)


@pytest.mark.parametrize("data, message", [
    (b"", "idx file"), (b"\0\0\x0d\1\0\0\0\1" + bytes(4), "unsigned bytes"), (b"\0\0\x08\3\0\0", "cut short"),
    (b"\0\0\x08\1\0\0\0\5abc", "received 3"), (b"\0\0\x08\2\xff\xff\xff\xff\xff\xff\xff\xff", "damaged"),
])
def test_bad_idx(module, data, message):
    with pytest.raises(ValueError, match=message):
        module.parse_idx(data)


class Server(http.server.BaseHTTPRequestHandler):
    """Serves FILES with gzip; breaks off the first answer in the middle."""

    broken = False
    requests: list = []

    def do_GET(self):
        name = os.path.basename(self.path)
        content = gzip.compress(FILES[name.removesuffix(".gz")], mtime=0)
        wanted = self.headers.get("Range")
        Server.requests.append((name, wanted))
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if Server.broken:
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_download_goes_on_where_it_broke_off(module, tmp_path, monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(module, "MIRRORS", (f"http://127.0.0.1:{server.server_port}/",))
    monkeypatch.setenv("no_proxy", "*")
    try:
        Server.broken = True
        with pytest.raises(RuntimeError, match="(?s)Put these four files there.*Tried"):
            module.FashionMNIST(tmp_path, download=True)
        assert [path.name for path in tmp_path.iterdir()] == ["train-images-idx3-ubyte.gz.part"]
        Server.broken = False
        assert len(module.FashionMNIST(tmp_path, download=True)) == 3
        resumed = [wanted for name, wanted in Server.requests if name.startswith("train-images")]
        assert resumed[0] is None and resumed[-1].startswith("bytes=")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]
        count = len(Server.requests)
        module.FashionMNIST(tmp_path, download=True)
        assert len(Server.requests) == count
    finally:
        server.shutdown()
        server.server_close()
