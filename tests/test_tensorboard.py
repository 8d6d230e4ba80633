"""Event files that TensorBoard reads."""

from __future__ import annotations

import io

import numpy as np
import pytest

import antorcha as torch
from antorcha import nn

pytest.importorskip("tensorboard")
pytest.importorskip("PIL")


@pytest.fixture
def written(tmp_path):
    """write(action) -> {tag: the last summary value}, after action(writer)."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    from antorcha.utils.tensorboard import SummaryWriter

    def write(action):
        with SummaryWriter(tmp_path / "log") as writer:
            action(writer)
        events = [event for path in sorted((tmp_path / "log").rglob("*tfevents*")) for event in LegacyEventFileLoader(str(path)).Load()]
        write.graphs = [event.graph_def for event in events if event.graph_def]
        return {value.tag: value for event in events for value in event.summary.value}

    write.folder = tmp_path / "log"
    return write


def picture(value) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)))


def test_scalars(written):
    def action(writer):
        writer.add_scalar("loss", torch.tensor(0.5), 3)
        writer.add_scalar("new", 0.25, new_style=True)
        writer.add_scalars("both", {"train": 1.0, "test": 2.0}, 1)
        with pytest.raises(AssertionError, match="one element"):
            writer.add_scalar("wrong", torch.ones(2))

    values = written(action)
    assert values["loss"].simple_value == 0.5 and list(values["new"].tensor.float_val) == [0.25]
    assert {path.name for path in written.folder.iterdir() if path.is_dir()} == {"both_train", "both_test"}


def test_histogram(written):
    values = written(lambda writer: writer.add_histogram("h", torch.tensor([0.0, 1.0, 1.0, 5.0]), bins=[-2, -1, 0, 1, 2, 4, 6, 8]))
    histogram = values["h"].histo
    assert (histogram.num, histogram.sum, histogram.sum_squares, histogram.min, histogram.max) == (4, 7, 27, 0, 5)
    assert list(histogram.bucket_limit) == [0, 1, 2, 4, 6] and list(histogram.bucket) == [0, 1, 2, 0, 1]


def test_pictures(written):
    image = torch.rand(3, 4, 5)

    def action(writer):
        writer.add_image("one", image)
        writer.add_image("last", image.permute(1, 2, 0), dataformats="HWC")
        writer.add_images("grid", torch.stack([image] * 10))
        writer.add_image("grey", torch.ones(2, 3), dataformats="HW")
        writer.add_image_with_boxes("boxes", torch.zeros(3, 8, 8), torch.tensor([[1, 1, 6, 6]]))
        writer.add_video("video", torch.rand(1, 2, 3, 4, 4))

    values = written(action)
    expected = (image.permute(1, 2, 0) * 255).to(torch.uint8).numpy()
    assert np.array_equal(picture(values["one"]), expected) and np.array_equal(picture(values["last"]), expected)
    assert picture(values["grid"]).shape == (8, 40, 3) and (picture(values["grey"]) == 255).all()
    assert picture(values["boxes"])[1, 3].tolist() == [255, 0, 0] and values["video"].image.height == 4


def test_other_kinds(written):
    def action(writer):
        writer.add_text("words", "**bold**")
        writer.add_audio("sound", torch.linspace(-1, 1, 10), sample_rate=8000)
        writer.add_pr_curve("pr", torch.tensor([0, 1, 1, 0]), torch.tensor([0.1, 0.9, 0.6, 0.7]), num_thresholds=3)
        writer.add_hparams({"lr": 0.1, "name": "a"}, {"accuracy": 0.5}, run_name="run")
        writer.add_mesh("mesh", torch.rand(1, 4, 3))
        writer.add_tensor("tensor", torch.arange(3))
        writer.add_embedding(torch.eye(4), metadata=list("abcd"), label_img=torch.rand(4, 3, 2, 2))

    values = written(action)
    assert values["words/text_summary"].tensor.string_val[0] == b"**bold**" and values["sound"].audio.length_frames == 10
    tp, fp, tn, fn, precision, recall = np.reshape(values["pr"].tensor.float_val, (6, 3))
    assert tp.tolist() == [2, 2, 0] and fp.tolist() == [2, 1, 0] and recall.tolist() == [1, 1, 0]
    assert values["accuracy"].simple_value == 0.5 and "_hparams_/session_start_info" in values
    assert list(values["tensor"].tensor.int64_val) == [0, 1, 2]
    assert (written.folder / "00000/default/metadata.tsv").read_text() == "a\nb\nc\nd\n"
    assert "tensors.tsv" in (written.folder / "projector_config.pbtxt").read_text()


def test_graph(written):
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    written(lambda writer: writer.add_graph(model, torch.rand(2, 3)))
    (serialized,) = written.graphs
    nodes = {node.op: node for node in GraphDef.FromString(serialized).node}
    assert set(nodes) == {"input", "Linear", "ReLU", "output"} and nodes["ReLU"].input[0] == nodes["Linear"].name
    assert [size.size for size in nodes["Linear"].attr["_output_shapes"].list.shape[0].dim] == [2, 4]
