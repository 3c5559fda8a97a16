"""What a user decides about decoding photographs: EXIF orientation and the largest size."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from caffe_port.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 24_200_000  # 6016 x 4016, a large photograph: 200 MB while it is decoded
Exif = Literal["ignore", "apply"]
_ORIENTATION = 0x0112  # the EXIF tag
_SIDEWAYS = range(5, 9)  # orientations that exchange height and width


@dataclass(frozen=True)
class Decoding:
    """How photographs are decoded.

    Args:
        exif: "ignore" the EXIF orientation, as OpenCV 2.4 and Caffe built with it do, or "apply"
            it, as ``cv::imread`` does since OpenCV 3.1 and ``cv::imdecode`` since 3.3.
        max_pixels: a larger image is refused.
    Raises:
        UsageError: ``max_pixels`` is below 1.
    """

    exif: Exif = "ignore"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.max_pixels < 1:
            raise UsageError(f"max_pixels must be at least 1, got {self.max_pixels}")


_current = [Decoding()]


def current() -> Decoding:
    """The settings that hold now, in every thread."""
    return _current[-1]


@contextlib.contextmanager
def decoding(exif: Exif = "ignore", max_pixels: int = MAX_PIXELS) -> Iterator[None]:
    """Sets how photographs are decoded inside the block, in every thread of the process.

    Args:
        exif, max_pixels: see ``Decoding``.
    Raises:
        UsageError: ``max_pixels`` is below 1.
    Examples:
        >>> from caffe_port.data.decoding import current, decoding
        >>> with decoding(exif="apply"):
        ...     current().exif
        'apply'
    """
    from PIL import Image

    settings, pillows = Decoding(exif, max_pixels), Image.MAX_IMAGE_PIXELS
    _current.append(settings)
    # Pillow has a limit of its own, above ours by default
    Image.MAX_IMAGE_PIXELS = None if pillows is None else max(pillows, max_pixels)
    try:
        yield
    finally:
        _current.remove(settings)
        Image.MAX_IMAGE_PIXELS = pillows


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, where the file states none or a wrong one.

    A TIFF's is 1: libtiff and Pillow apply it whenever they decode one.
    """
    if image.format == "TIFF":
        return 1
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow lets out errors of many types for damaged EXIF data
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def is_sideways(number: int) -> bool:
    """Whether an EXIF orientation exchanges height and width."""
    return number in _SIDEWAYS


def upright(pixels: npt.NDArray[Any], number: int) -> npt.NDArray[Any]:
    """Turns and mirrors pixels as an EXIF orientation says.

    Args:
        pixels: (H, W) or (H, W, C).
        number: 1 to 8.
    Returns:
        The same type, (W, H[, C]) for orientations 5 to 8.
    Source: CIPA DC-008 (EXIF 2.3), tag 0x0112; OpenCV loadsave.cpp, ExifTransform.
    """
    if is_sideways(number):
        pixels = pixels.swapaxes(0, 1)
    if number in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if number in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
