"""Reading photographs and label maps, and writing label maps, with every failure a DataError."""

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

from caffe_port.data import opencv
from caffe_port.errors import DataError
from caffe_port.files import atomic_path, read_bytes, reading

if TYPE_CHECKING:
    from PIL import Image

Bytes = npt.NDArray[np.uint8]
PathLike = str | os.PathLike[str]

# What OpenCV, and so Caffe, decodes; of Pillow's other formats one even starts a program.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 24_200_000  # 6016 x 4016, a large photograph: 200 MB while it is decoded
MAX_SCANNED = 20 * MAX_PIXELS  # of a JPEG, in all its scans
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")  # those with a length, and the ends
_MOST_SEGMENTS = 10_000  # of a JPEG
MAX_FILE = 256 * 2**20
# Pillow reads comments byte by byte, for as long as there are any
_PPM_HEAD = re.compile(rb"P.(?:(?:\s|#[^\r\n]*[\r\n])+[^\s#]+){2,3}\s")
_HEAD = 65536
_TOO_LARGE = f"too large to be decoded safely: expected at most {MAX_PIXELS:,} pixels"

# What Pillow's decoders let out for a broken file, by experience: not only OSError.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def read_rgb(path: PathLike) -> Bytes:
    """A photograph as red, green, blue, as OpenCV makes them; an EXIF orientation is ignored.

    Returns:
        (H, W, 3) uint8.
    Raises:
        DataError: missing, broken, too large to be decoded safely, or of numbers that OpenCV does
            not make 8 bits of. Of 16 bits a channel it keeps the upper 8.
    """
    return _rgb(path, open_picture(path))


def read_bgr(path: PathLike) -> Bytes:
    """As ``read_rgb`` with the channels in OpenCV's order: (H, W, 3) uint8, blue first."""
    return np.ascontiguousarray(read_rgb(path)[:, :, ::-1])


def read_grey(path: PathLike) -> Bytes:
    """A photograph as (H, W) uint8 grey, as OpenCV makes it; of a JPEG, the stored luminance.

    Raises:
        DataError: as for ``read_rgb``.
    """
    return _grey(path, open_picture(path, draft="L"))


def decode_picture(content: bytes, where: str, color: bool | None = None) -> Bytes:
    """An encoded picture as OpenCV decodes it.

    Args:
        content: a JPEG, PNG or other file.
        where: names it in errors.
        color: True makes blue, green, red; False one channel of grey; None keeps what the file
            has, which may be grey, colours, or colours and their opacity.
    Returns:
        (H, W, C) uint8.
    Raises:
        DataError: as for ``read_rgb``.
    """
    picture = _decoded(content, where, "L" if color is False else None)
    if color is None and opencv.is_16_bit(picture):
        raise DataError(f"{where}: expected 8 bits a channel, found mode {picture.mode}")
    if color is False or (color is None and picture.mode in ("1", "L")):
        return _grey(where, picture)[:, :, None]
    opacity = None
    if color is None and picture.has_transparency_data:
        opacity = _pixels(picture.convert("RGBA").getchannel("A"), "L")
    bgr = _rgb(where, picture)[:, :, ::-1]
    if opacity is None:
        return np.ascontiguousarray(bgr)
    return np.concatenate([bgr, opacity[:, :, None]], axis=2)


def picture_size(path: PathLike) -> tuple[int, int]:
    """A picture's height and width, by its head alone.

    Raises:
        DataError: as for ``read_rgb``, of a damaged head.
    """
    with _recognised(read_content(path), os.fspath(path)) as picture:
        return picture.height, picture.width


def read_labels(path: PathLike) -> Bytes:
    """A label map as class indices.

    A palette PNG, as VOC distributes them, is read as its indices. Caffe reads it as the grey
    values of its colours, which turns the labels into nonsense and is a known cause of a mean
    IoU near 0.05: this difference is on purpose.

    Returns:
        (H, W) uint8.
    Raises:
        DataError: missing, broken, or a picture of colours rather than of indices.
    """
    with open_picture(path) as picture:
        if picture.mode not in ("P", "L"):
            raise DataError(
                f"{path}: a label map must be a palette or an 8-bit grey picture of class "
                f"indices, found mode {picture.mode}; convert its colours to indices first"
            )
        return _pixels(picture, picture.mode)


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


def write_labels(path: PathLike, labels: Bytes, *, note: str = "", palette: bool = True) -> None:
    """Writes a label map as a palette PNG in the VOC colours, whole or not at all.

    Args:
        path: the file; its folder is made.
        labels: (H, W) uint8.
        note: kept in the PNG's "Comment"; ``read_note`` gives it back.
        palette: False writes a grey PNG of the indices, as Caffe reads them.
    """
    from PIL import Image, PngImagePlugin

    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise DataError(f"{path}: labels must be (H, W) uint8, got {labels.shape} {labels.dtype}")
    picture = Image.fromarray(labels)
    if palette:
        picture.putpalette(voc_palette().tobytes())
    information = PngImagePlugin.PngInfo()
    if note:
        information.add_text("Comment", note)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True, pnginfo=information)


def read_note(path: PathLike) -> str | None:
    """The note ``write_labels`` left in a file; None when there is no such file or it is broken."""
    if not Path(path).is_file():
        return None
    try:
        with open_picture(path) as picture:
            note = picture.info.get("Comment", "")
    except DataError:
        return None
    return note if isinstance(note, str) else ""


def open_picture(path: PathLike | IO[bytes], *, draft: str | None = None) -> Image.Image:
    """Reads and decodes the whole image, so that nothing can fail later.

    Args:
        path: a path, or an open binary file.
        draft: the mode that a JPEG decodes to by itself, where it can.
    Raises:
        DataError: missing, broken or too large.
    """
    if isinstance(path, str | os.PathLike):
        return _decoded(read_content(path), os.fspath(path), draft)
    return _decoded(_rest(path), str(getattr(path, "name", type(path).__name__)), draft)


def _rest(stream: IO[bytes]) -> bytes:
    """What an open file holds from where it is."""
    try:
        content = stream.read(MAX_FILE + 1)
    except (AttributeError, OSError, ValueError) as error:
        raise DataError(f"{stream!r}: cannot be read: {error}") from error
    if not isinstance(content, bytes | bytearray):
        raise DataError(f"{stream!r}: gives text; expected a file that is open in binary mode")
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


def _decoded(content: bytes, where: str, draft: str | None = None) -> Image.Image:
    picture = _recognised(content, where)
    try:
        with _quietly():
            if draft is not None:
                picture.draft(draft, picture.size)
            picture.load()
    except _BROKEN as error:
        raise DataError(f"{where}: not a picture that can be decoded: {error}") from error
    return picture


def _recognised(content: bytes, where: str) -> Image.Image:
    """A picture of which the head is read, if that is small enough to be decoded."""
    from PIL import Image

    if content.startswith(b"P") and not _PPM_HEAD.match(content[:_HEAD]):
        raise DataError(f"{where}: no head of a PPM picture in its first {_HEAD} bytes")
    try:
        with _quietly():
            picture = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise DataError(f"{where}: {_TOO_LARGE} ({error})") from error
    except _BROKEN as error:
        raise DataError(f"{where}: not a picture that can be decoded: {error}") from error
    if picture.width * picture.height > MAX_PIXELS:
        raise DataError(f"{where}: {_TOO_LARGE}, found {picture.width} x {picture.height}")
    if picture.format == "JPEG":
        _check_scans(content, picture.width * picture.height, where)
    return picture


def _check_scans(content: bytes, pixels: int, where: str) -> None:
    """A progressive JPEG has some ten scans, each of which may touch every pixel."""
    scans = content.count(_SCAN)
    if scans * pixels > MAX_SCANNED and _scans(content) * pixels > MAX_SCANNED:
        raise DataError(f"{where}: {scans} scans of {pixels} pixels, expected some 10 scans")


def _scans(content: bytes) -> int:
    """A JPEG's scans, without what its notes hold or, as a phone's film, follows its end."""
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
    """Pillow warns of broken notes (EXIF), which are not needed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _pixels(picture: Image.Image, mode: str) -> Bytes:
    """The pixels in a mode of 8 bits a channel; (H, W) or (H, W, C). The picture is closed.

    Strip by strip, because Pillow copies what it gives away more than once.
    """
    if picture.mode != mode:
        converted = picture.convert(mode)
        picture.close()
        picture = converted
    width, height, bands = *picture.size, len(picture.getbands())
    pixels = np.empty((height, width) if bands == 1 else (height, width, bands), np.uint8)
    rows = max(1, 2**20 // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(picture.crop((0, top, width, bottom)))
    picture.close()
    return pixels


def _rgb(where: PathLike, picture: Image.Image) -> Bytes:
    """Red, green, blue as OpenCV makes them. The picture is closed."""
    try:
        found = opencv.to_rgb(picture)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    if found is None:
        return _pixels(picture, "RGB")
    picture.close()
    return found


def _grey(where: PathLike, picture: Image.Image) -> Bytes:
    """Grey as OpenCV makes it. The picture is closed."""
    if picture.mode in ("1", "L"):
        return _pixels(picture, "L")
    if opencv.is_16_bit(picture):
        return opencv.high_bytes(picture)
    format = picture.format
    return opencv.grey_of(_rgb(where, picture), format)
