"""Writing TensorBoard's event files while a model trains."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.plugins.projector.projector_config_pb2 import EmbeddingInfo, ProjectorConfig
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from . import summary
from ._convert import figure_to_image, grid, make_np, png

__all__ = ["FileWriter", "SummaryWriter"]


class FileWriter:
    """Writes events into a file of `log_dir`, in a thread of its own."""

    def __init__(self, log_dir, max_queue: int = 10, flush_secs: int = 120, filename_suffix: str = ""):
        self.event_writer = EventFileWriter(str(log_dir), max_queue, flush_secs, filename_suffix)

    def get_logdir(self) -> str:
        """The folder."""
        return self.event_writer.get_logdir()

    def add_event(self, event: Event, step=None, walltime: float | None = None) -> None:
        """Write an event, which happened at `step` and `walltime` (now), seconds since 1970."""
        event.wall_time = time.time() if walltime is None else walltime
        if step is not None:
            event.step = int(step)
        self.event_writer.add_event(event)

    def add_summary(self, summary, global_step=None, walltime: float | None = None) -> None:
        """Write a summary."""
        self.add_event(Event(summary=summary), global_step, walltime)

    def add_graph(self, graph_profile, walltime: float | None = None) -> None:
        """Write a graph; the second of a pair, its times, is left out."""
        graph = graph_profile[0] if isinstance(graph_profile, tuple) else graph_profile
        self.add_event(Event(graph_def=graph.SerializeToString()), None, walltime)

    def flush(self) -> None:
        """Wait until all is in the file."""
        self.event_writer.flush()

    def close(self) -> None:
        """Flush and close."""
        self.event_writer.close()

    def reopen(self) -> None:
        """Begin another file in the same folder."""
        self.event_writer = EventFileWriter(self.get_logdir())


def _default_bins() -> list[float]:
    """Limits of histograms, each a tenth further from zero than the one before."""
    positive = [1e-12 * 1.1 ** i for i in range(774)]       # up to 1e20
    return [-limit for limit in reversed(positive)] + [0.0] + positive


class SummaryWriter:
    """Writes what TensorBoard shows into files in `log_dir`: `runs/<date>_<host><comment>` if it is None.

    `purge_step`: steps from here on that an earlier run has written are hidden. `max_queue` events, or `flush_secs`
    seconds, may pass before they are in the file, whose name ends with `filename_suffix`.
    """

    def __init__(self, log_dir=None, comment: str = "", purge_step: int | None = None, max_queue: int = 10, flush_secs: int = 120,
                 filename_suffix: str = ""):
        if not log_dir:
            import socket
            from datetime import datetime

            log_dir = os.path.join("runs", f"{datetime.now():%b%d_%H-%M-%S}_{socket.gethostname()}{comment}")
        self.log_dir, self.purge_step, self.max_queue = log_dir, purge_step, max_queue
        self.flush_secs, self.filename_suffix = flush_secs, filename_suffix
        self.file_writer: FileWriter | None = None
        self.all_writers: dict[str, FileWriter] = {}
        self.default_bins = _default_bins()
        self._projector = ProjectorConfig()
        self._get_file_writer()

    def _get_file_writer(self) -> FileWriter:
        """The writer of `log_dir`, which is opened again after `close`."""
        if self.file_writer is None:
            self.file_writer = FileWriter(self.log_dir, self.max_queue, self.flush_secs, self.filename_suffix)
            self.all_writers = {self.file_writer.get_logdir(): self.file_writer}
            if self.purge_step is not None:
                self.file_writer.add_event(Event(step=self.purge_step, file_version="brain.Event:2"))
                self.file_writer.add_event(Event(step=self.purge_step, session_log=SessionLog(status=SessionLog.START)))
                self.purge_step = None
        return self.file_writer

    def get_logdir(self):
        """The folder of the event files."""
        return self.log_dir

    def _write(self, content, step, walltime) -> None:
        self._get_file_writer().add_summary(content, step, walltime)

    def add_scalar(self, tag: str, scalar_value, global_step=None, walltime=None, new_style: bool = False, double_precision: bool = False):
        """A number, for the curve `tag`."""
        self._write(summary.scalar(tag, scalar_value, new_style=new_style, double_precision=double_precision), global_step, walltime)

    def add_scalars(self, main_tag: str, tag_scalar_dict: dict, global_step=None, walltime=None) -> None:
        """Several numbers, for curves in one chart; each goes to a folder of its own."""
        walltime = time.time() if walltime is None else walltime
        folder = self._get_file_writer().get_logdir()
        for tag, value in tag_scalar_dict.items():
            path = f"{folder}/{main_tag.replace('/', '_')}_{tag}"
            if path not in self.all_writers:
                self.all_writers[path] = FileWriter(path, self.max_queue, self.flush_secs, self.filename_suffix)
            self.all_writers[path].add_summary(summary.scalar(main_tag, value), global_step, walltime)

    def add_tensor(self, tag: str, tensor, global_step=None, walltime=None) -> None:
        """A tensor's values."""
        self._write(summary.tensor_proto(tag, tensor), global_step, walltime)

    def add_histogram(self, tag: str, values, global_step=None, bins="tensorflow", walltime=None, max_bins: int | None = None) -> None:
        """How values are distributed. `bins`: "tensorflow" (tenths, by magnitude), or what `numpy.histogram` takes."""
        limits = self.default_bins if isinstance(bins, str) and bins == "tensorflow" else bins
        self._write(summary.histogram(tag, values, limits, max_bins), global_step, walltime)

    def add_histogram_raw(self, tag: str, min, max, num, sum, sum_squares, bucket_limits, bucket_counts, global_step=None,
                          walltime=None) -> None:
        """A histogram whose numbers are known; a bucket has its upper limit and its count."""
        if len(bucket_limits) != len(bucket_counts):
            raise ValueError("len(bucket_limits) != len(bucket_counts), see the document.")
        self._write(summary.histogram_raw(tag, min, max, num, sum, sum_squares, bucket_limits, bucket_counts), global_step, walltime)

    def add_image(self, tag: str, img_tensor, global_step=None, walltime=None, dataformats: str = "CHW") -> None:
        """A picture, bytes or floats from 0 to 1; `dataformats` names its dimensions ("CHW", "HWC", "HW")."""
        self._write(summary.image(tag, img_tensor, dataformats=dataformats), global_step, walltime)

    def add_images(self, tag: str, img_tensor, global_step=None, walltime=None, dataformats: str = "NCHW") -> None:
        """Several pictures of one size, as a grid; a list of them as they come."""
        if isinstance(img_tensor, list):
            img_tensor = np.stack([make_np(picture) for picture in img_tensor])
            dataformats = dataformats if "N" in dataformats else "N" + dataformats
        self._write(summary.image(tag, img_tensor, dataformats=dataformats), global_step, walltime)

    def add_image_with_boxes(self, tag: str, img_tensor, box_tensor, global_step=None, walltime=None, rescale: float = 1,
                             dataformats: str = "CHW", labels=None) -> None:
        """A picture with rectangles (N, 4: x0, y0, x1, y1) and a label for each."""
        labels = [labels] if isinstance(labels, str) else labels
        if labels is not None and len(labels) != len(box_tensor):
            labels = None
        self._write(summary.image_boxes(tag, img_tensor, box_tensor, rescale, dataformats, labels), global_step, walltime)

    def add_figure(self, tag: str, figure, global_step: int | None = None, close: bool = True, walltime=None) -> None:
        """A matplotlib figure, or a list of them; closed then."""
        dataformats = "NCHW" if isinstance(figure, (list, tuple)) else "CHW"
        self._write(summary.image(tag, figure_to_image(figure, close), dataformats=dataformats), global_step, walltime)

    def add_video(self, tag: str, vid_tensor, global_step=None, fps: float = 4, walltime=None) -> None:
        """Moving pictures (N, T, C, H, W), bytes or floats from 0 to 1."""
        self._write(summary.video(tag, vid_tensor, fps), global_step, walltime)

    def add_audio(self, tag: str, snd_tensor, global_step=None, sample_rate: int = 44100, walltime=None) -> None:
        """Sound: values from -1 to 1, `sample_rate` a second."""
        self._write(summary.audio(tag, snd_tensor, sample_rate), global_step, walltime)

    def add_text(self, tag: str, text_string: str, global_step=None, walltime=None) -> None:
        """Text, in Markdown."""
        self._write(summary.text(tag, text_string), global_step, walltime)

    def add_graph(self, model, input_to_model=None, verbose: bool = False, use_strict_trace: bool = True) -> None:
        """The operations of a module on an input."""
        from ._graph import graph

        found = graph(model, input_to_model)
        if verbose:
            print(found)
        self._get_file_writer().add_graph(found)

    def add_pr_curve(self, tag: str, labels, predictions, global_step=None, num_thresholds: int = 127, weights=None, walltime=None) -> None:
        """Precision against recall, of labels (0 or 1) and predicted probabilities."""
        self._write(summary.pr_curve(tag, labels, predictions, num_thresholds, weights), global_step, walltime)

    def add_pr_curve_raw(self, tag: str, true_positive_counts, false_positive_counts, true_negative_counts, false_negative_counts,
                         precision, recall, global_step=None, num_thresholds: int = 127, weights=None, walltime=None) -> None:
        """The same from counts."""
        self._write(summary.pr_curve_raw(tag, true_positive_counts, false_positive_counts, true_negative_counts, false_negative_counts,
                                         precision, recall, num_thresholds, weights), global_step, walltime)

    def add_custom_scalars_multilinechart(self, tags: list[str], category: str = "default", title: str = "untitled") -> None:
        """A chart with several curves that are written anyway."""
        self._write(summary.custom_scalars({category: {title: ["Multiline", tags]}}), None, None)

    def add_custom_scalars_marginchart(self, tags: list[str], category: str = "default", title: str = "untitled") -> None:
        """A chart of a curve with a band around it: tags of value, lower and upper limit."""
        if len(tags) != 3:
            raise AssertionError(f"expected three tags: value, lower and upper limit; received {len(tags)}")
        self._write(summary.custom_scalars({category: {title: ["Margin", tags]}}), None, None)

    def add_custom_scalars(self, layout: dict) -> None:
        """All such charts: {category: {title: ["Multiline" or "Margin", tags]}}."""
        self._write(summary.custom_scalars(layout), None, None)

    def add_mesh(self, tag: str, vertices, colors=None, faces=None, config_dict=None, global_step=None, walltime=None) -> None:
        """Points in space (B, N, 3), their colours, and triangles of them."""
        self._write(summary.mesh(tag, vertices, colors, faces, config_dict), global_step, walltime)

    def add_hparams(self, hparam_dict: dict, metric_dict: dict, hparam_domain_discrete: dict | None = None, run_name: str | None = None,
                    global_step=None) -> None:
        """A run's hyperparameters beside what came of them, in a folder of its own (`run_name`, the time)."""
        messages = summary.hparams(hparam_dict, metric_dict, hparam_domain_discrete)
        folder = os.path.join(self._get_file_writer().get_logdir(), run_name or str(time.time()))
        with SummaryWriter(log_dir=folder) as writer:
            for message in messages:
                writer._write(message, global_step, None)
            for name, value in metric_dict.items():
                writer.add_scalar(name, value, global_step)

    def add_embedding(self, mat, metadata=None, label_img=None, global_step: int | None = None, tag: str = "default",
                      metadata_header=None) -> None:
        """Points (N, D) for the projector, with a label (or a row of them, named by `metadata_header`) and a picture (C, H, W) for each."""
        points = make_np(mat)
        if points.ndim != 2:
            raise AssertionError("mat should be 2D, where mat.size(0) is the number of data points")
        place = f"{global_step or 0:05d}/{_escaped(tag)}"
        root = Path(self._get_file_writer().get_logdir())
        folder = root / place
        folder.mkdir(parents=True, exist_ok=True)
        info = EmbeddingInfo(tensor_name=f"{tag}:{global_step or 0:05d}", tensor_path=f"{place}/tensors.tsv")
        _write_rows(folder / "tensors.tsv", points.tolist())
        if metadata is not None:
            if len(metadata) != len(points):
                raise AssertionError("#labels should equal with #data points")
            _write_rows(folder / "metadata.tsv", [metadata_header, *metadata] if metadata_header else [[label] for label in metadata])
            info.metadata_path = f"{place}/metadata.tsv"
        if label_img is not None:
            if len(label_img) != len(points):
                raise AssertionError("#images should equal with #data points")
            (folder / "sprite.png").write_bytes(_sprite(make_np(label_img)))
            info.sprite.image_path = f"{place}/sprite.png"
            info.sprite.single_image_dim.extend([label_img.shape[3], label_img.shape[2]])
        self._projector.embeddings.append(info)
        from google.protobuf import text_format

        (root / "projector_config.pbtxt").write_text(text_format.MessageToString(self._projector))

    def flush(self) -> None:
        """Wait until all that was added is in the files."""
        for writer in self.all_writers.values():
            writer.flush()

    def close(self) -> None:
        """Flush and close the files; what is added later goes to a new one."""
        for writer in self.all_writers.values():
            writer.flush()
            writer.close()
        self.file_writer, self.all_writers = None, {}

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(self, exc_type, exc_val, exc_tb) -> None:
        self.close()


def _escaped(tag: str) -> str:
    """The tag as a folder's name."""
    return "".join(c if c.isalnum() or c in "-_." else f"%{ord(c):02x}" for c in tag)


def _write_rows(path: Path, rows) -> None:
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))


def _sprite(images: np.ndarray) -> bytes:
    """All pictures, floats from 0 to 1, in a square of as many rows as columns, as a PNG file."""
    side = int(np.ceil(len(images) ** 0.5))
    rows = grid(images, side)
    square = np.zeros((3, rows.shape[2], rows.shape[2]))
    square[:, :rows.shape[1]] = rows
    return png((square * 255).clip(0, 255).astype(np.uint8).transpose(1, 2, 0))[0]
