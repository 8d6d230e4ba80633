"""save and load: what goes in comes out, files are PyTorch's, and bad files raise and do nothing."""

from __future__ import annotations

import io
import os
import pickle
import stat
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import antorcha as torch
from antorcha import serialization
from antorcha.io.archive import ArchiveError, ArchiveReader, ArchiveWriter
from antorcha.nn.parameter import Parameter

DTYPES = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float32, torch.float64]


def saved(obj, **options) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(obj, file, **options)
    file.seek(0)
    return file


def roundtrip(obj, **options):
    return torch.load(saved(obj), **options)


def same(a, b) -> bool:
    return a.dtype is b.dtype and a.shape == b.shape and a.tolist() == b.tolist()


# what goes in comes out


@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(dtype, weights_only):
    x = torch.tensor([[0, 1, 1], [1, 0, 0]]).to(dtype)
    assert same(roundtrip(x, weights_only=weights_only), x)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (2, 3, 4)])
def test_shapes(shape):
    x = torch.zeros(shape) + 2
    assert same(roundtrip(x), x)


def test_views_share_their_storage_again():
    x = torch.arange(12.0).reshape(3, 4)
    back = roundtrip({"whole": x, "row": x[1], "turned": x.t(), "every other": x[:, ::2]})
    assert same(back["turned"], x.t()) and back["turned"].stride() == (1, 4)
    assert same(back["every other"], x[:, ::2])
    back["row"].fill_(7.0)
    assert back["whole"][1].tolist() == [7.0] * 4 and back["turned"][0].tolist() == [0.0, 7.0, 8.0]


def test_expanded():
    x = torch.tensor([1.0, 2.0]).expand(3, 2)
    back = roundtrip(x)
    assert same(back, x) and back.stride() == (0, 1)


def test_requires_grad_and_parameters():
    x = torch.ones(2, requires_grad=True)
    p, frozen = Parameter(torch.ones(3)), Parameter(torch.ones(3), requires_grad=False)
    p.note = "kept"
    back = roundtrip([x, p, frozen, (x * 2)])
    assert back[0].requires_grad and back[0].is_leaf
    assert type(back[1]) is Parameter and back[1].requires_grad and back[1].note == "kept"
    assert type(back[2]) is Parameter and not back[2].requires_grad
    assert back[3].requires_grad and back[3].is_leaf and back[3].tolist() == [2.0, 2.0]


def test_containers_and_values():
    obj = {
        "list": [1, -1, 2**40, -(2**70), 1.5, float("inf"), True, None, "text", "é", b"bytes"],
        "long": list(range(1000)), "nested": {"a": [{"b": (1, (2,))}]}, ("tuple", 1): OrderedDict([("z", 1), ("a", 2)]),
        "set": {1, 2}, "frozen": frozenset({3}), "complex": 1 + 2j, "bytearray": bytearray(b"ab"), "counter": Counter("aab"),
        "dtype": torch.float32, "device": torch.device("cpu"), "size": torch.Size([2, 3]), 5: "int key",
    }
    for protocol in (2, 3, 4, 5):
        back = torch.load(saved(obj, pickle_protocol=protocol))
        assert back == obj
        assert type(back[("tuple", 1)]) is OrderedDict and list(back[("tuple", 1)]) == ["z", "a"]
        assert back["dtype"] is torch.float32 and type(back["size"]) is torch.Size


def test_recursive_and_repeated_objects():
    inner = [1]
    outer = [inner, inner]
    outer.append(outer)
    back = roundtrip(outer)
    assert back[0] is back[1] and back[2] is back


def test_ordered_dict_keeps_its_attributes():
    state = OrderedDict(weight=torch.ones(1))
    state._metadata = {"": {"version": 1}}
    assert roundtrip(state)._metadata == {"": {"version": 1}}


def test_pending_values_are_computed():
    x = torch.ones(4)
    assert roundtrip({"y": x * 3 + 1})["y"].tolist() == [4.0] * 4


def test_loaded_tensors_are_ordinary():
    x = roundtrip(torch.ones(3))
    x.add_(1)
    assert (x * 2).sum().item() == 12.0


def test_paths_mmap_and_pathlike(tmp_path):
    path = tmp_path / "model.pt"
    x = torch.arange(1000.0)
    torch.save({"x": x}, path)
    with zipfile.ZipFile(path) as archive:
        assert "model/data.pkl" in archive.namelist() and archive.testzip() is None
    for mmap in (False, True):
        back = torch.load(str(path), mmap=mmap)["x"]
        assert same(back, x)
        back.add_(1)  # never reaches the file
    assert same(torch.load(path)["x"], x)
    with open(path, "rb") as file:
        assert same(torch.load(file)["x"], x)


def test_storages_are_aligned():
    file = saved([torch.ones(n) for n in range(1, 20)])
    for info in zipfile.ZipFile(file).infolist():
        file.seek(info.header_offset + 26)
        name, extra = np.frombuffer(file.read(4), "<u2")
        assert (info.header_offset + 30 + int(name) + int(extra)) % 64 == 0


def test_file_at_an_offset():
    file = io.BytesIO()
    file.write(b"before")
    torch.save(torch.ones(2), file)
    file.seek(6)
    assert torch.load(file).tolist() == [1.0, 1.0]


def test_map_location():
    data = saved(torch.ones(2)).getvalue().replace(b"\x03\x00\x00\x00cpu", b"\x03\x00\x00\x00gpu")
    data = rewritten(data, lambda record: record)  # checksums
    with pytest.raises(RuntimeError, match="map_location='cpu'"):
        torch.load(io.BytesIO(data))
    for location in ("cpu", torch.device("cpu"), {"gpu": "cpu"}, lambda storage, where: storage,
                     lambda storage, where: storage.cpu()):
        assert torch.load(io.BytesIO(data), map_location=location).tolist() == [1.0, 1.0]
    with pytest.raises(TypeError, match="map_location"):
        torch.load(io.BytesIO(data), map_location=3)


def rewritten(data: bytes, change, skip: str | None = None) -> bytes:
    """The archive with its pickle changed, or a record left out, and right checksums."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            if skip is not None and info.filename.endswith(skip):
                continue
            start = info.header_offset + 30 + len(info.filename.encode())
            extra = int.from_bytes(data[start - len(info.filename.encode()) - 2 : start - len(info.filename.encode())], "little")
            content = data[start + extra : start + extra + info.file_size]
            new.writestr(info.filename, change(content) if info.filename.endswith("data.pkl") else content)
    return out.getvalue()


# an interrupted save


class Interrupting:
    def __reduce__(self):
        raise KeyboardInterrupt


def test_failed_save_leaves_the_file(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    torch.save({"x": 1}, path)
    with pytest.raises(KeyboardInterrupt):
        torch.save({"x": Interrupting()}, path)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        torch.save({"x": lambda: 0}, path)

    def fail(self, name, data):
        raise OSError("No space left on device")

    monkeypatch.setattr(ArchiveWriter, "record", fail)
    with pytest.raises(OSError, match="No space"):
        torch.save({"x": 2}, path)
    monkeypatch.undo()
    assert torch.load(path) == {"x": 1}
    assert os.listdir(tmp_path) == ["model.pt"]


def test_save_keeps_mode_and_follows_links(tmp_path):
    path, link = tmp_path / "model.pt", tmp_path / "latest.pt"
    torch.save(1, path)
    path.chmod(0o640)
    link.symlink_to(path)
    torch.save(2, link)
    assert link.is_symlink() and torch.load(path) == 2 and stat.S_IMODE(path.stat().st_mode) == 0o640


def test_save_arguments(tmp_path):
    with pytest.raises(RuntimeError, match="does not exist"):
        torch.save(1, tmp_path / "none" / "model.pt")
    with pytest.raises(IsADirectoryError, match="directory"):
        torch.save(1, tmp_path)
    with pytest.raises(AttributeError, match="write"):
        torch.save(1, 5)
    with pytest.raises(ValueError, match="pickle_protocol"):
        torch.save(1, io.BytesIO(), pickle_protocol=1)
    torch.save(1, os.devnull)


# hostile files


class Evil:
    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("obj", [
    Evil(os.system, "touch HACKED"), Evil(eval, "1"), Evil(getattr, [], "append"), Evil(open, "HACKED", "w"),
    Evil(__import__, "os"), [Evil(exec, "1")], {"a": Evil(os.system, "touch HACKED")},
], ids=["system", "eval", "getattr", "open", "import", "in a list", "in a dict"])
def test_hostile_pickles_execute_nothing(obj, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = saved(obj)
    with pytest.raises(pickle.UnpicklingError, match=r"weights_only=False.*add_safe_globals"):
        torch.load(file)
    assert os.listdir(tmp_path) == []


GLOBAL_TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize("pickled, message", [
    (b"cos\nsystem\n(S'x'\ntR.", "os.system"),
    (GLOBAL_TENSOR + b"}S'__code__'\nK\x01sb.", "state"),                # set an attribute of a function
    (b"ctorch\nTensor\n}S'__init__'\nK\x01sb.", "state"),                 # or of a class
    (b"ctorch.nn.parameter\nParameter\n}S'__init__'\nK\x01sb.", "state"),
    (b"ctorch\nTensor\n(tR.", "allowed function"),
    (b"c__builtin__\nbytearray\n(J\xff\xff\xff\x7ftR.", "bytearray"),     # a size, not bytes
    (b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.", "latin1"),
    (GLOBAL_TENSOR + b"(K\x01K\x02K\x03K\x04K\x05K\x06tR.", "storage"),
    (b"]]a0", "damaged"), (b".", "damaged"), (b"(.", "damaged"), (b"h\x05.", "damaged"), (b"\x8b\xff\xff\xff\x7f.", "cut short"),
    (b"\x80\x09N.", "protocol"), (b"X\xff\xff\xff\xffab.", "cut short"), (b"(K\x01d.", "key without"),
    (b"]K\x01K\x02s.", "expected dict"),
    (b"}]K\x01s.", "unhashable"), (b"itypes\nFunctionType\n.", "operation"), (b"\x82\x01.", "operation"),
], ids=range(20))
def test_crafted_pickles(pickled, message):
    data = rewritten(saved(1).getvalue(), lambda old: pickled)
    with pytest.raises(pickle.UnpicklingError, match=message):
        torch.load(io.BytesIO(data))
    assert not hasattr(torch.Tensor, "__code__")


class Point:
    def __init__(self, x):
        self.x = x


def test_safe_globals():
    file = saved([Point(3)])
    assert torch.serialization.get_unsafe_globals_in_checkpoint(file) == [f"{__name__}.Point"]
    with pytest.raises(pickle.UnpicklingError, match="Point"):
        torch.load(saved([Point(3)]))
    with serialization.safe_globals([Point]):
        assert serialization.get_safe_globals() == [Point]
        assert torch.load(saved([Point(3)]))[0].x == 3
        assert serialization.get_unsafe_globals_in_checkpoint(file) == []
    assert serialization.get_safe_globals() == []
    serialization.add_safe_globals([(Point, f"{__name__}.Point")])
    assert torch.load(saved(Point(4), pickle_protocol=4)).x == 4
    serialization.clear_safe_globals()
    assert torch.load(saved([Point(3)]), weights_only=False)[0].x == 3


def test_numpy_needs_trust():
    file = saved({"a": np.arange(3)})
    with pytest.raises(pickle.UnpicklingError, match="numpy"):
        torch.load(file)
    file.seek(0)
    assert torch.load(file, weights_only=False)["a"].tolist() == [0, 1, 2]


# damaged files

STATE = {"w": Parameter(torch.arange(40.0).reshape(5, 8)), "b": torch.zeros(3, dtype=torch.bool), "step": 3}


def test_truncated_files():
    data = saved(STATE).getvalue()
    for length in (0, 1, 3, 4, 30, len(data) // 2, len(data) - 1):
        with pytest.raises((ArchiveError, EOFError, pickle.UnpicklingError)):
            torch.load(io.BytesIO(data[:length]))


@pytest.mark.parametrize("missing", ["data.pkl", "data/0", "data/1"])
def test_missing_records(missing):
    with pytest.raises(ArchiveError, match=missing):
        torch.load(io.BytesIO(rewritten(saved(STATE).getvalue(), lambda record: record, skip="/" + missing)))


@pytest.mark.parametrize("change, message", [
    (lambda p: p.replace(b"K\x28t", b"K\x29t"), "160 bytes|164 bytes"),              # elements of a storage
    (lambda p: p.replace(b"K\x05K\x08\x86", b"K\x06K\x08\x86"), "inside a storage"),  # rows
    (lambda p: p.replace(b"K\x08K\x01\x86", b"K\x09K\x01\x86"), "inside a storage"),  # stride
    (lambda p: p.replace(b"QK\x00", b"QK\x01", 1), "inside a storage"),               # offset
    (lambda p: p.replace(b"QK\x00", b"QN", 1), "non-negative"),
    (lambda p: p.replace(b"FloatStorage", b"BadStorage!!"), "BadStorage"),
])
def test_inconsistent_records(change, message):
    data = saved(STATE).getvalue()
    assert data != rewritten(data, change)
    with pytest.raises((ArchiveError, pickle.UnpicklingError, NotImplementedError), match=message):
        torch.load(io.BytesIO(rewritten(data, change)))


def test_checksums():
    data = bytearray(saved({"w": torch.full((64,), 3.0)}).getvalue())
    at = data.index(np.full(64, 3.0, np.float32).tobytes())
    data[at + 5] ^= 1
    with pytest.raises(ArchiveError, match="checksum"):
        torch.load(io.BytesIO(bytes(data)))
    serialization.set_crc32_options(False)
    try:
        torch.load(io.BytesIO(bytes(data)))
    finally:
        serialization.set_crc32_options(True)


def test_other_files():
    with pytest.raises(ArchiveError, match="another kind"):
        torch.load(io.BytesIO(b"\x89PNG\r\n\x1a\n" + bytes(100)))
    with pytest.raises(EOFError, match="empty"):
        torch.load(io.BytesIO())
    with pytest.raises(ArchiveError, match="none"):
        torch.load(io.BytesIO(pickle.dumps({"a": 1})))
    other = io.BytesIO()
    zipfile.ZipFile(other, "w").writestr("a.txt", "b")
    other.seek(0)
    with pytest.raises(ArchiveError, match="data.pkl"):
        torch.load(other)
    with pytest.raises(FileNotFoundError):
        torch.load("/nonexistent/model.pt")
    with pytest.raises(ValueError, match="mmap"):
        torch.load(saved(1), mmap=True)
    with pytest.raises(AttributeError, match="seek"):
        torch.load(5)


_WHOLE = saved(STATE).getvalue()


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, len(_WHOLE) - 1), st.integers(1, 255)), min_size=1, max_size=4), st.booleans())
@example([(len(_WHOLE) - 4, 1)], True)      # the table of contents is said to lie beyond the end, so records lie before the beginning
def test_flipped_bytes_never_crash(flips, checksums):
    data = bytearray(_WHOLE)
    for at, mask in flips:
        data[at] ^= mask
    serialization.set_crc32_options(checksums)
    try:
        back = torch.load(io.BytesIO(bytes(data)))
    except (RuntimeError, pickle.UnpicklingError, EOFError):
        return
    finally:
        serialization.set_crc32_options(True)
    for value in back.values() if isinstance(back, dict) else []:
        if isinstance(value, torch.Tensor):
            value.tolist()


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6))
def test_changed_pickles_never_crash(changes):
    def change(old: bytes) -> bytes:
        new = bytearray(old)
        for at, value in changes:
            new[at % len(new)] = value
        return bytes(new)

    try:
        torch.load(io.BytesIO(rewritten(_WHOLE, change)))
    except (RuntimeError, pickle.UnpicklingError):
        pass


# the container


def test_archive_beyond_four_gigabytes(monkeypatch):
    from antorcha.io import archive

    monkeypatch.setattr(archive, "_LIMIT", 1000)  # as if it were 4 GiB: the 64-bit extension from here on
    out = io.BytesIO()
    writer = ArchiveWriter(out.write, "archive")
    records = {"data.pkl": b"pickle", "data/0": bytes(range(256)) * 8, "data/1": b"after"}
    for name, content in records.items():
        writer.record(name, content)
    writer.close()
    reader = ArchiveReader(out)
    assert {name: reader.read(name) for name in reader.names()} == records
    assert zipfile.ZipFile(out).testzip() is None


# plain pickle


def test_plain_pickle_of_tensors():
    x = torch.arange(6.0).reshape(2, 3)
    p = Parameter(torch.ones(2))
    for protocol in (2, 4, 5):
        back, turned, parameter = pickle.loads(pickle.dumps((x, x.t(), p), protocol))
        assert same(back, x) and same(turned, x.t()) and type(parameter) is Parameter


def test_another_modules_pickler_is_asked():
    cloudpickle = pytest.importorskip("cloudpickle")
    factor = 3
    buffer = io.BytesIO()
    torch.save({"f": lambda x: x * factor, "t": torch.ones(2)}, buffer, pickle_module=cloudpickle)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    assert loaded["f"](loaded["t"]).tolist() == [3, 3]


@pytest.mark.parametrize("kind", [RuntimeError, pickle.UnpicklingError])
def test_what_is_no_checkpoint_is_an_error_of_either_class(kind):
    with pytest.raises(kind):
        torch.load(io.BytesIO(pickle.dumps([1, 2])))
