"""Images inside reports: drawn at a size fit for a page, encoded as JPEG or PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

Bytes = npt.NDArray[np.uint8]


def scale(size: tuple[int, int], smallest: int, largest: int) -> float:
    """The factor that brings the longer side into a range of pixels."""
    longest = max(size)
    return min(largest / longest, max(1.0, smallest / longest))


def resized(image: Image.Image, factor: float, *, smooth: bool = True) -> Image.Image:
    """The image enlarged or reduced; not ``smooth`` repeats or drops whole pixels."""
    from PIL import Image

    if factor == 1:
        return image
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    method = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return image.resize(size, method)


def encoded(image: Image.Image, format: str = "JPEG") -> bytes:
    """The content of a JPEG or PNG file."""
    stream = io.BytesIO()
    image.save(stream, format=format, quality=88, optimize=True)
    return stream.getvalue()


def photograph(pixels: Bytes, *, smallest: int = 0, largest: int = 360) -> bytes:
    """A JPEG of an image.

    Args:
        pixels: (h, w, 3) uint8 RGB.
        smallest, largest: range of the longer side in pixels.
    """
    from PIL import Image

    image = Image.fromarray(pixels)
    return encoded(resized(image, scale(image.size, smallest, largest)))


def label_map(labels: Bytes, palette: Bytes, *, smallest: int = 0, largest: int = 360) -> bytes:
    """A PNG of a label map in colours.

    Args:
        labels: (h, w) uint8.
        palette: (at least the largest label + 1, 3) uint8 RGB.
        smallest, largest: range of the longer side in pixels.
    """
    from PIL import Image

    image = Image.fromarray(labels)
    image.putpalette(palette.tobytes())
    return encoded(resized(image, scale(image.size, smallest, largest), smooth=False), "PNG")
