"""Tensors, figures and pictures as the NumPy arrays that summaries are made of."""

from __future__ import annotations

import numpy as np

from ...core.tensor import Tensor

__all__ = ["figure_to_image", "grid", "height_width_channels", "make_np", "png"]


def make_np(x) -> np.ndarray:
    """A tensor, number, array or list as an array of at least one dimension; bfloat16 as float32."""
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        x = (x.float() if x.dtype.numpy is None else x).numpy()
    elif isinstance(x, str):
        raise NotImplementedError(f"Got {type(x)}, but numpy array or torch tensor are expected.")
    return np.atleast_1d(np.asarray(x))


def figure_to_image(figures, close: bool = True) -> np.ndarray:
    """A matplotlib figure drawn, as bytes of shape (3, height, width); a list of them, one dimension more."""
    import matplotlib.pyplot as plt
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if isinstance(figures, (list, tuple)):
        return np.stack([figure_to_image(figure, close) for figure in figures])
    canvas = FigureCanvasAgg(figures)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3]
    if close:
        plt.close(figures)
    return drawn.transpose(2, 0, 1)


def grid(images: np.ndarray, columns: int = 8) -> np.ndarray:
    """Images (N, 1 or 3, H, W) side by side in rows of at most `columns`, as one of shape (3, rows * H, columns * W)."""
    count, channels, height, width = images.shape
    if channels not in (1, 3):
        raise AssertionError(f"expected images of 1 or 3 channels; received {channels}")
    columns = min(count, columns)
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, 3, height, width), images.dtype)
    cells[:count] = images      # one channel is repeated
    return cells.reshape(rows, columns, 3, height, width).transpose(2, 0, 3, 1, 4).reshape(3, rows * height, columns * width)


def height_width_channels(image: np.ndarray, dataformats: str) -> np.ndarray:
    """`image`, whose dimensions are named by letters of "NCHW", as (H, W, C); several (N) become a grid, grey becomes RGB."""
    letters = dataformats.upper()
    if len(set(letters)) != len(letters):
        raise AssertionError(f"You can not use the same dimension shorthand twice. input_format: {dataformats}")
    if image.ndim != len(letters):
        raise AssertionError(f"size of input tensor and input format are different. tensor shape: {image.shape}, "
                             f"input_format: {dataformats}")
    if len(letters) == 4:
        return grid(image.transpose([letters.index(c) for c in "NCHW"])).transpose(1, 2, 0)
    if len(letters) == 3:
        image = image.transpose([letters.index(c) for c in "HWC"])
        return np.repeat(image, 3, 2) if image.shape[2] == 1 else image
    return np.repeat(image.transpose([letters.index(c) for c in "HW"])[..., None], 3, 2)


def as_bytes(image: np.ndarray) -> np.ndarray:
    """Values from 0 to 1 as bytes from 0 to 255; bytes as they are."""
    scale = 1 if image.dtype == np.uint8 else 255
    return (image.astype(np.float32) * scale).clip(0, 255).astype(np.uint8)


def png(image: np.ndarray, rescale: float = 1) -> tuple[bytes, int, int]:
    """A picture (H, W, C) of bytes as a PNG file, with its height and width."""
    import io

    from PIL import Image

    picture = Image.fromarray(image)
    if rescale != 1:
        picture = picture.resize((int(picture.width * rescale), int(picture.height * rescale)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue(), picture.height, picture.width
