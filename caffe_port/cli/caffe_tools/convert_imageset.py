"""The program ``convert_imageset``: a list of images and class numbers becomes a database.

Source: BVLC/caffe tools/convert_imageset.cpp; io.cpp, ReadImageToDatum.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caffe_port.cli.caffe_tools._program import expect, run
from caffe_port.cli.caffe_tools.compute_image_mean import BACKEND
from caffe_port.cli.gflags import Flag, Flags
from caffe_port.errors import DataError, UsageError
from caffe_port.solver.log import ERROR
from caffe_port.solver.log import log as write

if TYPE_CHECKING:
    from caffe_port.data.image import Line
    from caffe_port.data.pictures import Bytes
    from caffe_port.proto import caffe_pb2

_ABOUT = "convert_imageset [flags] ROOTFOLDER/ LISTFILE DB_NAME"
FLAGS = {
    "gray": Flag(False, "Read the images as grey ones."),
    "shuffle": Flag(False, "Shuffle the list first."),
    "backend": BACKEND,
    "resize_width": Flag(0, "Bring the images to this width; with -resize_height."),
    "resize_height": Flag(0, "Bring the images to this height; with -resize_width."),
    "check_size": Flag(False, "Refuse images of another size than the first."),
    "encoded": Flag(False, "Store the images encoded, as JPEG or PNG."),
    "encode_type": Flag("", "How: 'png' or 'jpg'; by the file's name where it is not given."),
}
_FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "bmp": "BMP"}


def _log(message: str, line: int, severity: int = 0) -> None:
    """Writes a line of the log with the line that it has in Caffe's source; 1 for our own."""
    write(message, severity, place=f"convert_imageset.cpp:{line}")


def _body(flags: Flags, others: list[str]) -> None:
    from caffe_port.data.database import write_database
    from caffe_port.data.image import read_labelled
    from caffe_port.data.rng import CaffeRandom

    expect(others, 3, 3, _ABOUT)
    if flags.encode_type and flags.encode_type not in _FORMATS:
        raise UsageError(f"-encode_type is '{flags.encode_type}'; known are {', '.join(_FORMATS)}")
    root, listed, database = others
    lines = read_labelled(listed)
    if flags.shuffle:
        _log("Shuffling data", 86)
        CaffeRandom().shuffle(lines)
    _log(f"A total of {len(lines)} images.", 89)
    if flags.encode_type and not flags.encoded:
        _log("encode_type specified, assuming encoded=true.", 92)
    count = write_database(database, _records(root, lines, flags), flags.backend)
    _log(f"Processed {count} files.", 153)


def _records(root: str, lines: Sequence[Line], flags: Flags) -> Iterator[tuple[bytes, bytes]]:
    """Keys and Datum messages; images that cannot be read are left out, as upstream does."""
    first: tuple[int, ...] = ()
    done = missed = 0
    for number, line in enumerate(lines):
        try:
            datum, shape = _datum(root, line, flags)
        except DataError as error:
            _log(f"{line.where}: {error}", 1, ERROR)
            missed += 1
            continue
        first = first or shape
        if flags.check_size and shape != first:
            raise DataError(f"{line.where}: {line.image} is {shape}, the first one is {first}")
        yield f"{number:08d}_{line.image}".encode(), datum.SerializeToString()
        done += 1
        if done % 1000 == 0 and number + 1 < len(lines):
            _log(f"Processed {done} files.", 147)
    if missed:
        _log(f"{missed} of {len(lines)} images could not be read and are left out.", 1, ERROR)


def _datum(root: str, line: Line, flags: Flags) -> tuple[caffe_pb2.Datum, tuple[int, ...]]:
    from caffe_port.data.image import read_image
    from caffe_port.proto import caffe_pb2

    size = (flags.resize_height, flags.resize_width)
    path = root + line.image
    image = read_image(path, size if min(size) > 0 else None, not flags.gray)
    # upstream writes the flag even where it is false
    datum = caffe_pb2.Datum(label=line.label, encoded=False)
    kind = flags.encode_type or (Path(path).suffix[1:].lower() if flags.encoded else "")
    if kind:
        datum.encoded = True
        datum.data = _encoded(path, image, kind, min(size) > 0, flags.gray)
    else:
        datum.height, datum.width, datum.channels = image.shape
        datum.data = image.transpose(2, 0, 1).tobytes()
    return datum, image.shape


def _encoded(path: str, image: Bytes, kind: str, resized: bool, gray: bool) -> bytes:
    """The file as it is where nothing changes, else the picture encoded anew."""
    from PIL import Image

    if kind not in _FORMATS:
        raise DataError(f"{path}: no encoding '{kind}'; give -encode_type")
    if not resized and not gray and Path(path).suffix[1:].lower() == kind:
        return Path(path).read_bytes()
    pixels = image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image[:, :, ::-1])
    stream = io.BytesIO()
    options = {"quality": 95} if _FORMATS[kind] == "JPEG" else {}
    Image.fromarray(pixels).save(stream, _FORMATS[kind], **options)
    return stream.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; see ``run`` for the exit status."""
    return run("convert_imageset", _body, FLAGS, _ABOUT, arguments)
