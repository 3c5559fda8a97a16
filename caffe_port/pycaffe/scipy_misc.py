"""The image functions that SciPy removed in 1.3; ``caffe-port modernize`` inserts these.

    from caffe_port.pycaffe.scipy_misc import imread, imresize, imsave

Source: SciPy 1.0's documentation of scipy.misc.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

_Array: TypeAlias = npt.NDArray[Any]
_File: TypeAlias = str | os.PathLike[str] | BinaryIO
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST, "lanczos": Image.Resampling.LANCZOS,
    "bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC,
    "cubic": Image.Resampling.BICUBIC,
}  # fmt: skip


def bytescale(
    data: _Array,
    cmin: float | None = None,
    cmax: float | None = None,
    high: int = 255,
    low: int = 0,
) -> npt.NDArray[np.uint8]:
    """Scales values from cmin..cmax to bytes low..high; bytes do not change.

    Args:
        data: of any shape.
        cmin, cmax: the smallest and largest value of the data by default.
    Raises:
        ValueError: the bounds are not in order, or outside of a byte.
    """
    if data.dtype == np.uint8:
        return data
    if not 0 <= low <= high <= 255:
        raise ValueError(f"low {low} and high {high}; expected 0 <= low <= high <= 255")
    least = float(data.min()) if cmin is None else cmin
    largest = float(data.max()) if cmax is None else cmax
    if largest < least:
        raise ValueError(f"cmax {largest} is below cmin {least}")
    span = (largest - least) or 1.0
    scaled = (data - least) * (float(high - low) / span) + low
    return (scaled.clip(low, high) + 0.5).astype(np.uint8)


def toimage(
    arr: npt.ArrayLike, high: int = 255, low: int = 0, cmin: float | None = None,
    cmax: float | None = None, mode: str | None = None, channel_axis: int | None = None,
) -> Image.Image:  # fmt: skip
    """Converts an array to a Pillow image, with values scaled by ``bytescale`` unless mode is F.

    Args:
        arr: (H, W), or with an axis of 3 or 4 channels anywhere.
        mode: 'F' keeps the numbers; by default L, RGB or RGBA.
        channel_axis: the axis of the channels; by default the first one of size 3 or 4.
    Raises:
        ValueError: an array of another shape.
    """
    data = np.asarray(arr)
    if data.ndim == 2:
        if mode == "F":
            return Image.fromarray(data.astype(np.float32))
        image = Image.fromarray(bytescale(data, cmin, cmax, high, low))
        return image if mode in (None, "L", "P") else image.convert(mode)
    if data.ndim != 3 or not {3, 4} & set(data.shape):
        raise ValueError(f"an array of shape {data.shape}; expected (H, W), or 3 or 4 channels")
    if channel_axis is None:
        channel_axis = data.shape.index(3 if 3 in data.shape else 4)
    pixels = np.ascontiguousarray(
        np.moveaxis(bytescale(data, cmin, cmax, high, low), channel_axis, 2)
    )
    image = Image.fromarray(pixels)
    return image if mode in (None, image.mode) else image.convert(mode)


def fromimage(im: Image.Image, flatten: bool = False, mode: str | None = None) -> _Array:
    """Converts an image to an array: float32 with ``flatten``, otherwise of the mode's type."""
    if mode is not None and mode != im.mode:
        im = im.convert(mode)
    elif im.mode == "P":
        im = im.convert("RGBA" if "transparency" in im.info else "RGB")
    if flatten:
        im = im.convert("F")
    elif im.mode == "1":
        im = im.convert("L")
    return np.array(im)


def imread(name: _File, flatten: bool = False, mode: str | None = None) -> _Array:
    """Reads an image file: (H, W) or (H, W, C)."""
    with Image.open(name) as image:
        return fromimage(image, flatten=flatten, mode=mode)


def imsave(name: _File, arr: npt.ArrayLike, format: str | None = None) -> None:
    """Writes an array as an image file, scaled as by ``toimage``."""
    toimage(arr, channel_axis=2 if np.ndim(arr) == 3 else None).save(name, format=format)


def imresize(
    arr: npt.ArrayLike, size: float | tuple[float, ...], interp: str = "bilinear",
    mode: str | None = None,
) -> _Array:  # fmt: skip
    """Resizes an array as an image; values are scaled to bytes first, unless mode is 'F'.

    Args:
        arr: (H, W) or (H, W, C).
        size: an integer is in percent, a float is a factor, a pair is (height, width).
        interp: 'nearest', 'lanczos', 'bilinear', 'bicubic' or 'cubic'.
    """
    image = toimage(arr, mode=mode)
    if isinstance(size, int | np.integer):
        factor = float(size) / 100.0
        wanted = (int(image.size[0] * factor), int(image.size[1] * factor))
    elif isinstance(size, float | np.floating):
        wanted = (int(image.size[0] * size), int(image.size[1] * size))
    else:
        wanted = (int(size[1]), int(size[0]))
    return fromimage(image.resize(wanted, resample=_RESAMPLING[interp]))


def imrotate(arr: npt.ArrayLike, angle: float, interp: str = "bilinear") -> _Array:
    """Rotates counter-clockwise by degrees about the centre; the shape does not change."""
    return fromimage(toimage(arr).rotate(angle, resample=_RESAMPLING[interp]))
