"""One function for each kind of thing that TensorBoard shows: they return its `Summary` message."""

from __future__ import annotations

import io
import json
import wave

import numpy as np
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.pr_curve.plugin_data_pb2 import PrCurvePluginData
from tensorboard.plugins.text.plugin_data_pb2 import TextPluginData

from ._convert import as_bytes, height_width_channels, make_np, png

__all__ = ["audio", "custom_scalars", "histogram", "histogram_raw", "hparams", "image", "image_boxes", "mesh", "pr_curve", "pr_curve_raw",
           "scalar", "tensor_proto", "text", "video"]


def _one(tag: str, **content) -> Summary:
    return Summary(value=[Summary.Value(tag=tag, **content)])


def _metadata(plugin: str, content: bytes = b"") -> SummaryMetadata:
    return SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin, content=content))


def _floats(array: np.ndarray) -> TensorProto:
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in array.shape])
    return TensorProto(dtype="DT_FLOAT", float_val=array.reshape(-1).tolist(), tensor_shape=shape)


def scalar(name: str, tensor, collections=None, new_style: bool = False, double_precision: bool = False) -> Summary:
    """One number: as a simple value, or (`new_style`) as a tensor."""
    value = make_np(tensor).squeeze()
    if value.ndim:
        raise AssertionError(f"Tensor should contain one element (0 dimensions). Was given size: {value.size} and {value.ndim} dimensions.")
    if not new_style:
        return _one(name, simple_value=float(value))
    proto = TensorProto(double_val=[float(value)], dtype="DT_DOUBLE") if double_precision else TensorProto(
        float_val=[float(value)], dtype="DT_FLOAT")
    return _one(name, tensor=proto, metadata=_metadata("scalars"))


def tensor_proto(tag: str, tensor) -> Summary:
    """A tensor of real numbers, of any shape."""
    kinds = {"e": ("DT_HALF", "half_val"), "f": ("DT_FLOAT", "float_val"), "d": ("DT_DOUBLE", "double_val"),
             "b": ("DT_INT8", "int_val"), "h": ("DT_INT16", "int_val"), "i": ("DT_INT32", "int_val"), "l": ("DT_INT64", "int64_val")}
    array = tensor.detach().cpu().numpy()
    if array.dtype.char not in kinds:
        raise ValueError(f"add_tensor: expected real numbers; received {tensor.dtype}.")
    dtype, field = kinds[array.dtype.char]
    values = array.view(np.uint16) if field == "half_val" else array
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in array.shape])
    content = {field: values.reshape(-1).tolist()}
    return _one(tag, tensor=TensorProto(dtype=dtype, tensor_shape=shape, **content), metadata=_metadata("tensor"))


def histogram_raw(name: str, min, max, num, sum, sum_squares, bucket_limits, bucket_counts) -> Summary:
    """A histogram whose numbers are known."""
    return _one(name, histo=HistogramProto(min=min, max=max, num=num, sum=sum, sum_squares=sum_squares, bucket_limit=bucket_limits,
                                           bucket=bucket_counts))


def histogram(name: str, values, bins, max_bins: int | None = None) -> Summary:
    """How often values lie between the limits `bins` (or what NumPy makes of it). Empty buckets at both ends are left out but for one."""
    values = make_np(values).astype(float).reshape(-1)
    if not values.size:
        raise ValueError("The input has no element.")
    counts, limits = np.histogram(values, bins=bins)
    if max_bins is not None and len(counts) > max_bins:
        together = len(counts) // max_bins
        counts = np.add.reduceat(counts, np.arange(0, len(counts), together))
        limits = np.append(limits[:-1:together], limits[-1])
    filled = np.flatnonzero(counts)
    first, last = (filled[0], filled[-1]) if filled.size else (0, 0)
    counts = np.append(counts[first - 1] if first else 0, counts[first:last + 1])
    limits = limits[first:last + 2]
    return histogram_raw(name, values.min(), values.max(), len(values), values.sum(), values.dot(values), limits.tolist(), counts.tolist())


def image(tag: str, tensor, rescale: float = 1, dataformats: str = "NCHW") -> Summary:
    """A picture: bytes, or floats from 0 to 1."""
    picture = as_bytes(height_width_channels(make_np(tensor), dataformats))
    file, height, width = png(picture, rescale)
    return _one(tag, image=Summary.Image(height=height, width=width, colorspace=picture.shape[2], encoded_image_string=file))


def image_boxes(tag: str, tensor, boxes, rescale: float = 1, dataformats: str = "CHW", labels=None) -> Summary:
    """A picture with rectangles (x0, y0, x1, y1) in pixels, and a label at each."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(as_bytes(height_width_channels(make_np(tensor), dataformats)))
    pen = ImageDraw.Draw(picture)
    for i, box in enumerate(make_np(boxes).reshape(-1, 4)):
        corners = [float(x) for x in box]
        pen.rectangle(corners, outline="red", width=2)
        if labels is not None:
            pen.text((corners[0] + 3, corners[1] + 1), str(labels[i]), fill="red")
    file, height, width = png(np.asarray(picture), rescale)
    return _one(tag, image=Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=file))


def video(tag: str, tensor, fps: float = 4) -> Summary:
    """Moving pictures (N, T, C, H, W), bytes or floats from 0 to 1, as a GIF; several side by side."""
    from PIL import Image

    frames = as_bytes(make_np(tensor)).swapaxes(0, 1)
    pictures = [Image.fromarray(height_width_channels(frame, "NCHW")) for frame in frames]
    file = io.BytesIO()
    pictures[0].save(file, format="GIF", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0)
    return _one(tag, image=Summary.Image(height=pictures[0].height, width=pictures[0].width, colorspace=3,
                                         encoded_image_string=file.getvalue()))


def audio(tag: str, tensor, sample_rate: int = 44100) -> Summary:
    """Sound on one channel, values from -1 to 1, as a WAV file of 16 bits."""
    samples = make_np(tensor).reshape(-1).clip(-1, 1)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(sample_rate)
        out.writeframes((samples * np.iinfo(np.int16).max).astype("<i2").tobytes())
    return _one(tag, audio=Summary.Audio(sample_rate=sample_rate, num_channels=1, length_frames=len(samples),
                                         encoded_audio_string=file.getvalue(), content_type="audio/wav"))


def text(tag: str, text: str) -> Summary:
    """Text, in Markdown."""
    proto = TensorProto(dtype="DT_STRING", string_val=[text.encode()], tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]))
    return _one(tag + "/text_summary", tensor=proto, metadata=_metadata("text", TextPluginData(version=0).SerializeToString()))


def pr_curve_raw(tag: str, tp, fp, tn, fn, precision, recall, num_thresholds: int = 127, weights=None) -> Summary:
    """Precision and recall at each threshold, with the counts that they come from. The format takes 127 thresholds at most."""
    rows = np.stack([make_np(row) for row in (tp, fp, tn, fn, precision, recall)])
    content = PrCurvePluginData(version=0, num_thresholds=min(num_thresholds, 127)).SerializeToString()
    return _one(tag, tensor=_floats(rows), metadata=_metadata("pr_curves", content))


def pr_curve(tag: str, labels, predictions, num_thresholds: int = 127, weights=None) -> Summary:
    """The same from labels, 0 or 1, and predicted probabilities."""
    num_thresholds = min(num_thresholds, 127)
    labels, predictions = make_np(labels).astype(float), make_np(predictions)
    bucket = np.floor(predictions * (num_thresholds - 1)).astype(int)
    weights = 1.0 if weights is None else weights

    def at_or_above(weight) -> np.ndarray:
        counts, _ = np.histogram(bucket, bins=num_thresholds, range=(0, num_thresholds - 1), weights=weight * weights)
        return counts[::-1].cumsum()[::-1]

    tp, fp = at_or_above(labels), at_or_above(1 - labels)
    precision = tp / np.maximum(1e-7, tp + fp)
    recall = tp / np.maximum(1e-7, tp[0])
    return pr_curve_raw(tag, tp, fp, fp[0] - fp, tp[0] - tp, precision, recall, num_thresholds)


def mesh(tag: str, vertices, colors=None, faces=None, config_dict=None) -> Summary:
    """Points (B, N, 3), their colours (B, N, 3) from 0 to 255, and triangles (B, M, 3) of their numbers."""
    from tensorboard.plugins.mesh import metadata
    from tensorboard.plugins.mesh.plugin_data_pb2 import MeshPluginData as Kind

    given = [(make_np(x), kind) for x, kind in ((vertices, Kind.VERTEX), (faces, Kind.FACE), (colors, Kind.COLOR)) if x is not None]
    components = metadata.get_components_bitmask([kind for _, kind in given])
    config = json.dumps(config_dict or {}, sort_keys=True)
    return Summary(value=[
        Summary.Value(tag=metadata.get_instance_name(tag, kind), tensor=_floats(array), metadata=metadata.create_summary_metadata(
            tag, None, kind, components, array.shape, None, json_config=config)) for array, kind in given])


def custom_scalars(layout: dict) -> Summary:
    """The charts of the dashboard "custom scalars": {category: {chart: ("Multiline" or "Margin", tags)}}."""
    def chart(title: str, kind: str, tags):
        if kind == "Margin":
            series = layout_pb2.MarginChartContent.Series(value=tags[0], lower=tags[1], upper=tags[2])
            return layout_pb2.Chart(title=title, margin=layout_pb2.MarginChartContent(series=[series]))
        return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=tags))

    categories = [layout_pb2.Category(title=name, chart=[chart(title, *what) for title, what in charts.items()])
                  for name, charts in layout.items()]
    content = layout_pb2.Layout(category=categories).SerializeToString()
    proto = TensorProto(dtype="DT_STRING", string_val=[content], tensor_shape=TensorShapeProto())
    return _one("custom_scalars__config__", tensor=proto, metadata=_metadata("custom_scalars"))


def hparams(hparam_dict: dict, metric_dict: dict, hparam_domain_discrete: dict | None = None) -> tuple[Summary, Summary, Summary]:
    """A run's hyperparameters (numbers, strings, truth values) and the names of its metrics: experiment, start and end of its session."""
    from google.protobuf import struct_pb2
    from tensorboard.plugins.hparams import api_pb2 as api
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

    domains = _checked_hparams(hparam_dict, metric_dict, hparam_domain_discrete)
    start, infos = SessionStartInfo(), []
    for name, value in hparam_dict.items():
        if value is None:
            continue
        field, kind, value = _hparam(value)
        setattr(start.hparams[name], field, value)
        domain = struct_pb2.ListValue(values=[struct_pb2.Value(**{field: choice}) for choice in domains[name]]) if name in domains else None
        infos.append(api.HParamInfo(name=name, type=api.DataType.Value(kind), domain_discrete=domain))
    experiment = api.Experiment(hparam_infos=infos, metric_infos=[api.MetricInfo(name=api.MetricName(tag=name)) for name in metric_dict])
    end = SessionEndInfo(status=api.Status.Value("STATUS_SUCCESS"))

    def summary(tag: str, **content) -> Summary:
        data = HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content)
        return _one(tag, metadata=_metadata(metadata.PLUGIN_NAME, data.SerializeToString()))

    return (summary(metadata.EXPERIMENT_TAG, experiment=experiment), summary(metadata.SESSION_START_INFO_TAG, session_start_info=start),
            summary(metadata.SESSION_END_INFO_TAG, session_end_info=end))


def _checked_hparams(hparam_dict, metric_dict, domains) -> dict:
    for name, given in (("hparam_dict", hparam_dict), ("metric_dict", metric_dict), ("hparam_domain_discrete", domains or {})):
        if not isinstance(given, dict):
            raise TypeError(f"add_hparams: expected {name} to be a dict; received {type(given).__name__}.")
    for name, choices in (domains or {}).items():
        if name not in hparam_dict or not isinstance(choices, list) or not all(isinstance(c, type(hparam_dict[name])) for c in choices):
            raise TypeError(f"parameter: hparam_domain_discrete[{name}] should be a list of same type as hparam_dict[{name}].")
    return domains or {}


def _hparam(value) -> tuple[str, str, object]:
    """The message's field, the type's name and the value."""
    if isinstance(value, str):
        return "string_value", "DATA_TYPE_STRING", value
    if isinstance(value, (int, float)):
        return "number_value", "DATA_TYPE_FLOAT64", value
    if hasattr(value, "detach") or isinstance(value, np.generic):
        return "number_value", "DATA_TYPE_FLOAT64", float(make_np(value)[0])
    raise ValueError(f"value should be one of int, float, str, bool, or torch.Tensor; received {type(value).__name__}")
