"""Points on a picture, and pictures as files' bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from caffe_port.unravel.heatmap import Bytes

if TYPE_CHECKING:
    from PIL import Image

YELLOW = (255, 225, 0)
DARK = (20, 20, 20)
SMALLEST, LARGEST = 320, 640  # pixels of a drawn picture's longer side


def enlargement(size: tuple[int, int]) -> float:
    """By how much a picture of that height and width is drawn larger (or smaller)."""
    longest = max(size)
    return min(LARGEST / longest, max(1.0, SMALLEST / longest))


def resized(picture: Bytes, factor: float) -> Image.Image:
    """The picture, smoothly enlarged."""
    from PIL import Image

    image = Image.fromarray(picture)
    if factor == 1:
        return image
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Image.Resampling.BICUBIC)


def with_points(
    picture: Bytes, places: npt.NDArray[np.floating], *, radius: float = 2.5
) -> Image.Image:
    """The picture with a dot at every place; dimmed a little, so that the dots stand out.

    Args:
        picture: (h, w, 3) uint8 RGB.
        places: (P, 2) y, x in the picture; those outside of it are left out.
        radius: of a dot, in pixels of the result.
    """
    from PIL import ImageDraw

    factor = enlargement((picture.shape[0], picture.shape[1]))
    image = resized((picture * 0.75).astype(np.uint8), factor)
    draw = ImageDraw.Draw(image)
    inside = (places >= -0.5).all(1) & (places < np.array(picture.shape[:2]) - 0.5).all(1)
    for y, x in (places[inside] + 0.5) * factor:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), YELLOW, DARK)
    return image


def encoded(image: Image.Image, format: str = "JPEG") -> bytes:
    """A JPEG or PNG file's bytes."""
    stream = io.BytesIO()
    image.save(stream, format=format, quality=88, optimize=True)
    return stream.getvalue()
