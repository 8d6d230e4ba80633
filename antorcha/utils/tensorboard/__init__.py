"""torch.utils.tensorboard: curves, images, histograms and graphs for TensorBoard, whose package writes the files."""

try:
    from tensorboard.summary.writer.record_writer import RecordWriter
except ImportError as error:
    raise ImportError("torch.utils.tensorboard: expected the package tensorboard, which writes the files; it is not installed. "
                      "Install it: pip install tensorboard") from error

from .writer import FileWriter, SummaryWriter

__all__ = ["FileWriter", "RecordWriter", "SummaryWriter"]
