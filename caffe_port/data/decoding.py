"""Decoding and resizing of images: what a user decides, and OpenCV's arithmetic bit for bit."""

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


# OpenCV's arithmetic for decoded images and for resizing, bit for bit.
#
# Pillow's own conversions differ from OpenCV's by one in places, and do not support some kinds of
# images. Everything here was compared with OpenCV's output. Source: OpenCV 4.5 imgcodecs
# utils.cpp; libpng pngrtran.c; libtiff tif_getimage.c, tif_color.c.

Bytes = npt.NDArray[np.uint8]
_Array = npt.NDArray[Any]
_PLAIN = {
    "1",
    "L",
    "LA",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "YCbCr",
}  # same RGB in Pillow
_SIXTEEN = ("I;16", "I;16B", "I;16L", "I;16N")
_ROWS = 256  # converted at a time, to save memory
_FROM_XYZ = ((3.2410, -1.5374, -0.4986), (-0.9692, 1.8760, 0.0416), (0.0556, -0.2040, 1.0570))
_EXTRA_SAMPLES, _UNASSOCIATED = 338, (2,)  # a TIFF's tag for opacity, and its usual value


def is_16_bit(image: Image.Image) -> bool:
    """Whether an image is grey of 16 bits. Pillow opens some of those in a mode of 32 bits."""
    return image.mode in _SIXTEEN or (image.mode == "I" and image.format in ("PNG", "PPM"))


def to_rgb(image: Image.Image) -> Bytes | None:
    """(H, W, 3) red, green, blue of an image that Pillow converts in another way than OpenCV.

    Returns:
        None for all other images: Pillow's conversion to RGB equals OpenCV's.
    Raises:
        ValueError: OpenCV cannot read such an image.
    """
    if is_16_bit(image):
        return np.repeat(high_bytes(image)[:, :, None], 3, axis=2)
    if image.mode == "CMYK":
        return _of_cmyk(image)
    if image.mode == "LAB":
        return _of_lab(np.asarray(image))
    if image.format == "TIFF" and image.mode == "RGBA":
        found: Any = getattr(image, "tag_v2", {})
        if found.get(_EXTRA_SAMPLES) == _UNASSOCIATED:
            return _times_opacity(np.asarray(image))
    if image.mode not in _PLAIN:
        raise ValueError(f"expected 8 or 16 bits a channel, found mode {image.mode}")
    return None


def high_bytes(image: Image.Image) -> Bytes:
    """(H, W), the upper 8 bits of an image for which ``is_16_bit`` holds."""
    return (np.asarray(image).astype(np.int32) >> 8).astype(np.uint8)


def grey_of(rgb: Bytes, format: str | None) -> Bytes:
    """(H, W) grey of (H, W, 3) colours, by the arithmetic of the format's decoder.

    OpenCV reduces a PNG of 16 bits a channel after this, and converts a TIFF's YCbCr by its own
    table; their grey may differ by one here.

    Args:
        rgb: red, green, blue.
        format: Pillow's name of the format.
    """
    if format == "PNG":
        return _weighed(rgb, (9798, 19235, 3735), 15, 0)
    if format == "WEBP":
        return _weighed(rgb, (19595, 38470, 7471), 16, 1 << 15)
    return _weighed(rgb, (4899, 9617, 1868), 14, 1 << 13)


def _weighed(rgb: Bytes, weights: tuple[int, int, int], shift: int, rounding: int) -> Bytes:
    grey = np.empty(rgb.shape[:2], np.uint8)
    for top in range(0, len(rgb), _ROWS):
        rows = rgb[top : top + _ROWS].astype(np.int32)
        grey[top : top + _ROWS] = ((rows @ np.array(weights, np.int32)) + rounding) >> shift
    return grey


def _of_cmyk(image: Image.Image) -> Bytes:
    """Multiplies by black, which each decoder does in its own way."""
    values = np.asarray(image).astype(np.int32)
    inks, light = values[:, :, :3], 255 - values[:, :, 3:]
    if image.format == "TIFF":
        return (light * (255 - inks) // 255).astype(np.uint8)
    return (light - (inks * light >> 8)).astype(np.uint8)


def _times_opacity(rgba: _Array) -> Bytes:
    opacity = rgba[:, :, 3:].astype(np.int32)
    return ((rgba[:, :, :3] * opacity + 127) // 255).astype(np.uint8)


def _of_lab(lab: _Array) -> Bytes:
    """CIE L*a*b* over D50 to sRGB, by libtiff's table of 1501 brightnesses."""
    f = np.float32
    lightness = lab[:, :, 0].astype(f) * f(100) / f(255)
    a, b = (lab[:, :, i].astype(np.int8).astype(f) for i in (1, 2))
    dark = lightness < f(8.856)
    root = np.where(
        dark, f(7.787) * (lightness / f(903.292)) + f(16) / f(116), (lightness + f(16)) / f(116)
    )
    y = np.where(dark, lightness * f(100) / f(903.292), f(100) * root * root * root)
    white = (f(96.425), f(100), f(82.468))
    total = white[0] + white[1] + white[2]
    at = (white[0] / total, white[1] / total)  # as the file's tag has it
    x = _cubed(a / f(500) + root, f(at[0] / at[1] * f(100)))
    z = _cubed(root - b / f(200), f((f(1) - at[0] - at[1]) / at[1] * f(100)))
    table = np.rint(255 * np.linspace(0, 1, 1501) ** (1 / 2.4))
    channels = []
    for wx, wy, wz in _FROM_XYZ:
        light = np.maximum(x * f(wx) + y * f(wy) + z * f(wz), f(1)) - f(1)
        channels.append(table[np.minimum((light / f(99 / 1500)).astype(np.int32), 1500)])
    return np.stack(channels, axis=2).astype(np.uint8)


def _cubed(value: _Array, white: np.float32) -> _Array:
    f = np.float32
    near_black = white * (value - f(0.13793)) / f(7.787)
    return np.where(value < f(0.2069), near_black, white * value * value * value)


Taps = npt.NDArray[np.intp]


def resize_linear(image: Bytes, height: int, width: int) -> Bytes:
    """Bilinear resizing in fixed point: pixel centres at half integers, weights of 11 bits.

    Args:
        image: (H, W) or (H, W, C) uint8.
        height, width: new size, at least 1.
    Returns:
        (height, width[, C]) uint8.
    Source: OpenCV 2.4-3, resize with INTER_LINEAR on CV_8U (HResizeLinear, VResizeLinear).
    """
    if image.shape[:2] == (height, width):
        return image.copy()
    left, right, across = _linear_taps(image.shape[1], width)
    top, bottom, down = _linear_taps(image.shape[0], height)
    source = image.reshape(image.shape[0], image.shape[1], -1).astype(np.int32)
    rows = source[:, left] * across[0][:, None] + source[:, right] * across[1][:, None]
    # OpenCV drops four bits before each product to stay within 32 bits. Each half is cut on
    # its own, so beyond an edge the two weights still give separate terms.
    upper = ((rows[top] >> 4) * down[0][:, None, None]) >> 16
    lower = ((rows[bottom] >> 4) * down[1][:, None, None]) >> 16
    levels: Bytes = np.clip((upper + lower + 2) >> 2, 0, 255).astype(np.uint8)
    return levels.reshape((height, width, *image.shape[2:]))


def resize_nearest(image: Bytes, height: int, width: int) -> Bytes:
    """Nearest-neighbour resizing, rounding down, for label maps.

    Args and returns: as ``resize_linear``.
    Source: OpenCV, resize with INTER_NEAREST.
    """
    rows = _nearest_taps(image.shape[0], height)
    columns = _nearest_taps(image.shape[1], width)
    return np.ascontiguousarray(image[rows][:, columns])


def _linear_taps(size: int, wanted: int) -> tuple[Taps, Taps, npt.NDArray[np.int32]]:
    """Both source positions of every output position, and their integer weights (2, wanted)."""
    position = ((np.arange(wanted) + 0.5) * _step(size, wanted) - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.intp)
    fraction = position - first.astype(np.float32)
    weights = np.stack([1 - fraction, fraction]) * np.float32(2048)
    low, high = np.clip(first, 0, size - 1), np.clip(first + 1, 0, size - 1)
    return low, high, np.rint(weights).astype(np.int32)


def _nearest_taps(size: int, wanted: int) -> Taps:
    nearest: Taps = np.floor(np.arange(wanted) * _step(size, wanted)).astype(np.intp)
    return nearest.clip(0, size - 1)


def _step(size: int, wanted: int) -> float:
    """Source pixels per output pixel, rounded twice as OpenCV does."""
    return 1.0 / (wanted / size)
