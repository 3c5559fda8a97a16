"""Images and label maps: read safely, and label maps written. Every failure is a DataError."""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from caffe_port.data import decoding
from caffe_port.data.decoding import current, is_sideways, orientation, upright
from caffe_port.data.label_values import Stored, label_values
from caffe_port.errors import DataError, option
from caffe_port.files import atomic_path, read_bytes, reading

if TYPE_CHECKING:
    from PIL import Image

Bytes = npt.NDArray[np.uint8]
PathLike = str | os.PathLike[str]

# What OpenCV, and so Caffe, decodes. One of Pillow's other formats starts a program.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_MOST_SCANS = 20  # of a JPEG of the largest size
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")  # those with a length, and the ends
_MOST_SEGMENTS = 10_000  # of a JPEG
MAX_FILE = 256 * 2**20
# Pillow reads comments byte by byte, however many there are
_PPM_HEAD, _HEAD = re.compile(rb"P.(?:(?:\s|#[^\r\n]*[\r\n])+[^\s#]+){2,3}\s"), 65536

# What Pillow's decoders were seen to raise for a broken file.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def read_rgb(path: PathLike) -> Bytes:
    """An image as red, green, blue, equal to OpenCV's.

    An EXIF orientation is ignored, as OpenCV 2.4 does, unless ``decoding`` sets otherwise.

    Returns:
        (H, W, 3) uint8.
    Raises:
        DataError: missing, broken, too large to be decoded safely, or with values that OpenCV does
            not convert to 8 bits. Of 16 bits a channel the upper 8 are kept.
    """
    return _rgb(path, open_image(path))


def read_bgr(path: PathLike) -> Bytes:
    """As ``read_rgb`` with the channels in OpenCV's order: (H, W, 3) uint8, blue first."""
    return np.ascontiguousarray(read_rgb(path)[:, :, ::-1])


def read_grey(path: PathLike) -> Bytes:
    """An image as (H, W) uint8 grey, equal to OpenCV's; of a JPEG, the stored luminance.

    Raises:
        DataError: as for ``read_rgb``.
    """
    return _grey(path, open_image(path, draft="L"))


def decode_image(content: bytes, where: str, color: bool | None = None) -> Bytes:
    """An encoded image, decoded as OpenCV decodes it.

    Args:
        content: a JPEG, PNG or other file.
        where: its name for errors.
        color: True gives blue, green, red; False one channel of grey; None the channels of the
            file: grey, colours, or colours and opacity.
    Returns:
        (H, W, C) uint8.
    Raises:
        DataError: as for ``read_rgb``.
    """
    image = decoded_image(content, where, "L" if color is False else None)
    if color is None and decoding.is_16_bit(image):
        raise DataError(f"{where}: expected 8 bits a channel, found mode {image.mode}")
    if color is False or (color is None and image.mode in ("1", "L")):
        return _grey(where, image)[:, :, None]
    opacity = None
    if color is None and image.has_transparency_data:
        opacity = _pixels(image.convert("RGBA").getchannel("A"), "L")
    bgr = _rgb(where, image)[:, :, ::-1]
    if opacity is None:
        return np.ascontiguousarray(bgr)
    return np.concatenate([bgr, opacity[:, :, None]], axis=2)


def stored_size(path: PathLike) -> tuple[int, int]:
    """An image's height and width, from its header alone.

    Raises:
        DataError: as for ``read_rgb``, where the header is damaged.
    """
    with _recognised(read_content(path), os.fspath(path)) as image:
        sideways = is_sideways(_applied(image))
        size = image.height, image.width
        return size[::-1] if sideways else size


def exif_orientation(path: PathLike) -> int:
    """The EXIF orientation of an image file, 1 to 8; 1 where there is none.

    Raises:
        DataError: as for ``read_rgb``, of a damaged head.
    """
    with _recognised(read_content(path), os.fspath(path)) as image:
        return orientation(image)


def size_advice(path: PathLike, size: tuple[int, ...]) -> str:
    """For the error of an image whose label map has another size: what EXIF has to do with it.

    Args:
        path: the image.
        size: the label map's height and width.
    Returns:
        A clause that starts with a semicolon; "" where turning the image would not help.
    """
    try:
        found, number = stored_size(path), exif_orientation(path)
    except DataError:
        return ""
    if not is_sideways(number) or found[::-1] != tuple(size):
        return ""
    done, other = ("applied", "ignore") if current().exif == "apply" else ("ignored", "apply")
    with_option = option("exif", other) or "the other choice, which this program does not have"
    return (
        f"; {path} has the EXIF orientation {number}, which is {done}: the sizes agree with "
        f"{with_option}"
    )


def read_labels(path: PathLike, colours: Bytes | None = None) -> Bytes:
    """A label map as class indices.

    A palette PNG, as VOC distributes them, is read as its indices. Caffe reads the grey values of
    its colours, which are not labels and give a mean IoU near 0.05: this difference is intended.

    Args:
        path: the file.
        colours: (N, 3) a data set's colours by class, which a palette may have as well as VOC's.
    Returns:
        (H, W) uint8.
    Raises:
        DataError: missing, broken, an image of colours rather than of indices, a palette that
            has these colours at other indices, or a label above 255.
    """
    values = read_label_values(path, colours)
    if values.dtype != np.uint8 and values.max(initial=0) > 255:
        raise DataError(
            f"{path}: label {values.max()} of a 16-bit image; expected labels of 0 to 255. Name "
            f"its data set or map its labels: {option('label_map', 'FILE.json')}"
        )
    return values.astype(np.uint8, copy=False)


def read_label_values(
    path: PathLike, colours: Bytes | None = None, *, check_palette: bool = True
) -> Stored:
    """A label map's numbers as they are stored: (H, W) uint8, or uint16 of a 16-bit image.

    Args:
        colours: see ``read_labels``.
        check_palette: refuse a palette that has VOC's colours or these at other indices.
    Raises:
        DataError: as for ``read_labels``, but for the range.
    """
    palettes = [voc_palette(), *([] if colours is None else [colours])] if check_palette else []
    return label_values(os.fspath(path), open_image(path), palettes)


def voc_palette() -> Bytes:
    """The VOC colours: bit k of an index sets bit 7 - k // 3 of channel k % 3.

    Returns:
        (256, 3) uint8, red, green, blue.
    Source: the VOC development kit, VOClabelcolormap.
    """
    palette = np.zeros((256, 3), np.uint8)
    index = np.arange(256)
    for bit in range(8):
        palette[:, bit % 3] |= (((index >> bit) & 1) << (7 - bit // 3)).astype(np.uint8)
    return palette


def write_labels(
    path: PathLike, labels: Bytes, *, note: str = "", palette: bool = True,
    colours: Bytes | None = None, durable: bool = True,
) -> None:  # fmt: skip
    """Writes a label map as a palette PNG in the VOC colours, whole or not at all.

    Args:
        path: the file; its folder is created.
        labels: (H, W) uint8.
        note: stored in the PNG's "Comment", see ``read_note``.
        palette: False writes a grey PNG of the indices, as Caffe reads them.
        colours: (256, 3) uint8 red, green, blue, in place of VOC's.
        durable: as for ``atomic_path``.
    """
    from PIL import Image, PngImagePlugin

    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise DataError(f"{path}: labels must be (H, W) uint8, got {labels.shape} {labels.dtype}")
    image = Image.fromarray(labels)
    if palette:
        image.putpalette((voc_palette() if colours is None else colours).tobytes())
    information = PngImagePlugin.PngInfo()
    if note:
        information.add_text("Comment", note)
    with atomic_path(path, durable=durable) as temporary:
        # of runs of equal labels alone: a twentieth of the time, and files a quarter larger
        image.save(temporary, format="PNG", compress_type=zlib.Z_RLE, pnginfo=information)


def read_note(path: PathLike) -> str | None:
    """The note that ``write_labels`` stored; None for a file that is missing or broken."""
    image = open_written(path)
    return None if image is None else note_of(image)


def open_written(path: PathLike) -> Image.Image | None:
    """The decoded file of ``write_labels``; None for one that is missing or broken."""
    try:
        return open_image(path) if Path(path).is_file() else None
    except DataError:
        return None


def note_of(image: Image.Image) -> str:
    """The note in an image of ``open_written``; "" for none."""
    note = image.info.get("Comment", "")
    return note if isinstance(note, str) else ""


def open_image(path: PathLike | IO[bytes], *, draft: str | None = None) -> Image.Image:
    """Reads and decodes the whole image, so that no later step can fail.

    Args:
        path: a path, or an open binary file.
        draft: the mode that a JPEG's decoder should give, where it can.
    Raises:
        DataError: missing, broken or too large.
    """
    if isinstance(path, str | os.PathLike):
        return decoded_image(read_content(path), os.fspath(path), draft)
    return decoded_image(_rest(path), str(getattr(path, "name", type(path).__name__)), draft)


def _rest(stream: IO[bytes]) -> bytes:
    try:
        content = stream.read(MAX_FILE + 1)
    except (AttributeError, OSError, ValueError) as error:
        raise DataError(f"{stream!r}: cannot be read: {error}") from error
    if not isinstance(content, bytes | bytearray):
        raise DataError(f"{stream!r}: returns text; expected a file that is open in binary mode")
    if len(content) > MAX_FILE:
        raise DataError(f"{stream!r}: over {MAX_FILE} bytes")
    return bytes(content)


def read_content(path: PathLike) -> bytes:
    """The bytes of an image file.

    Raises:
        ReadError: it cannot be read.
    """
    with reading(path):
        return read_bytes(path, MAX_FILE)


def decoded_image(content: bytes, where: str, draft: str | None = None) -> Image.Image:
    """``open_image`` of a file's bytes; ``where`` names them in errors."""
    image = _recognised(content, where)
    try:
        with _quietly():
            if draft is not None:
                image.draft(draft, image.size)
            image.load()
    except _BROKEN as error:
        raise DataError(f"{where}: not an image that can be decoded: {error}") from error
    return image


def _recognised(content: bytes, where: str) -> Image.Image:
    """An image whose header is read, if it is small enough to be decoded."""
    from PIL import Image

    if content.startswith(b"P") and not _PPM_HEAD.match(content[:_HEAD]):
        raise DataError(f"{where}: no header of a PPM image in its first {_HEAD} bytes")
    try:
        with _quietly():
            image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise DataError(f"{where}: {_too_large()} ({error})") from error
    except _BROKEN as error:
        why = str(error).partition(" <")[0]  # without the address of the BytesIO
        raise DataError(f"{where}: not an image that can be decoded: {why}") from error
    if image.width * image.height > current().max_pixels:
        raise DataError(f"{where}: {_too_large()}, found {image.width} x {image.height}")
    if image.format == "JPEG":
        _check_scans(content, image.width * image.height, where)
    return image


def _too_large() -> str:
    advice = option("max_pixels", "N")
    return f"too large to be decoded safely: expected at most {current().max_pixels:,} pixels" + (
        f" (set by {advice})" if advice else ""
    )


def _check_scans(content: bytes, pixels: int, where: str) -> None:
    """Refuses a JPEG with too many scans: each may touch every pixel, and some ten are usual."""
    scans = content.count(_SCAN)
    most = _MOST_SCANS * current().max_pixels
    if scans * pixels > most and _scans(content) * pixels > most:
        raise DataError(f"{where}: {scans} scans of {pixels} pixels, expected some 10 scans")


def _scans(content: bytes) -> int:
    """The number of a JPEG's scans, without those in its metadata or after its end (a video)."""
    scans, at = 0, 2
    for _ in range(_MOST_SEGMENTS):
        found = _MARKER.search(content, at)
        if found is None or found[0] == _END:
            return scans
        scans += found[0] == _SCAN
        at = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    return content.count(_SCAN)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silences Pillow's warnings of broken metadata (EXIF), which is not needed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _pixels(image: Image.Image, mode: str) -> Bytes:
    """The pixels in a mode of 8 bits a channel; (H, W) or (H, W, C). The image is closed.

    Read strip by strip, because Pillow makes several copies.
    """
    if image.mode != mode:
        converted = image.convert(mode)
        image.close()
        image = converted
    width, height, bands = *image.size, len(image.getbands())
    pixels = np.empty((height, width) if bands == 1 else (height, width, bands), np.uint8)
    rows = max(1, 2**20 // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    image.close()
    return pixels


def _applied(image: Image.Image) -> int:
    """The EXIF orientation that is applied to an image."""
    return orientation(image) if current().exif == "apply" else 1


def _rgb(where: PathLike, image: Image.Image) -> Bytes:
    """Red, green, blue, equal to OpenCV's. The image is closed."""
    turned = _applied(image)
    try:
        found = decoding.to_rgb(image)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    if found is None:
        found = _pixels(image, "RGB")
    image.close()
    return found if turned == 1 else upright(found, turned)


def _grey(where: PathLike, image: Image.Image) -> Bytes:
    """Grey, equal to OpenCV's. The image is closed."""
    turned = _applied(image)
    if image.mode in ("1", "L"):
        found = _pixels(image, "L")
    elif decoding.is_16_bit(image):
        found = decoding.high_bytes(image)
    else:
        return decoding.grey_of(_rgb(where, image), image.format)
    return found if turned == 1 else upright(found, turned)
