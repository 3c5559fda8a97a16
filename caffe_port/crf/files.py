"""The files of DeepLab's separate CRF programs: probabilities, scores and label maps.

A .bin file starts with int32 rows, columns and channels, all little-endian. Probabilities follow as
float32, (channel, column, row) from the slowest to the fastest index; labels as int16 (column,
row), with one channel. Source: DeepLab's densecrf programs, util.h and refine_pascal.
"""

from __future__ import annotations

import math
import os
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from caffe_port.errors import DataError, FormatError
from caffe_port.files import open_regular, reading, write_bytes

PathLike = str | os.PathLike[str]
MAT_SUFFIX = "_blob_0.mat"
_HEADER = 12  # bytes


def read_bin(path: PathLike) -> NDArray[np.float32] | NDArray[np.int16]:
    """Probabilities (C, H, W) float32 or labels (H, W) int16, whichever the file's length fits.

    Raises:
        ReadError: the file cannot be read.
        FormatError: its length fits neither.
    """
    with reading(path), open_regular(path) as stream:
        return _read_bin(path, stream)


def _read_bin(path: PathLike, stream: BinaryIO) -> NDArray[np.float32] | NDArray[np.int16]:
    size, content = os.fstat(stream.fileno()).st_size, stream.read(_HEADER)
    if size < _HEADER:
        raise FormatError(f"{size} bytes; a .bin file has a header of 12", path=path)
    rows, columns, channels = (int(n) for n in np.frombuffer(content, "<i4", 3))
    if min(rows, columns, channels) < 1:
        message = f"the header says {rows} rows, {columns} columns, {channels} channels"
        raise FormatError(message, path=path, offset=0)
    number, body = math.prod((rows, columns, channels)), size - _HEADER
    if body == 4 * number:
        planes = np.frombuffer(stream.read(), "<f4").reshape(channels, columns, rows)
        return np.ascontiguousarray(planes.transpose(0, 2, 1), dtype=np.float32)
    if channels == 1 and body == 2 * number:
        labels = np.frombuffer(stream.read(), "<i2").reshape(columns, rows)
        return np.ascontiguousarray(labels.T, dtype=np.int16)
    message = f"{body} bytes follow a header that says {rows} x {columns} x {channels}; expected "
    message += f"{4 * number} (float32)" + (f" or {2 * number} (int16)" if channels == 1 else "")
    raise FormatError(message, path=path, offset=_HEADER)


def write_bin(path: PathLike, values: NDArray[np.float32] | NDArray[np.integer]) -> None:
    """Writes probabilities (C, H, W) as float32, or labels (H, W) as int16, whole or not at all.

    Raises:
        DataError: a label does not fit int16.
    """
    labels = values.ndim == 2
    if labels and not -(2**15) <= values.min() <= values.max() < 2**15:
        raise DataError(
            f"{os.fspath(path)}: labels {values.min()} to {values.max()}; a .bin file holds at "
            "most 32767"
        )
    planes = values[None] if labels else values
    header = np.array([*planes.shape[1:], planes.shape[0]], "<i4")
    body = planes.transpose(0, 2, 1).astype("<i2" if labels else "<f4")
    write_bytes(path, header.tobytes() + body.tobytes())


def read_scores(path: PathLike) -> NDArray[np.float32]:
    """Scores (C, H, W) of a .mat file, as Caffe's MatWrite layer writes them.

    Raises:
        ReadError, FormatError: as ``caffe_port.data.mat.read_mat``, or it has more than one image.
    """
    from caffe_port.data.mat import read_mat

    blob = read_mat(path)
    if len(blob) != 1:
        raise FormatError(f"scores of {len(blob)} images; expected one", path=path)
    scores: NDArray[np.float32] = blob[0]
    return scores


def write_scores(path: PathLike, scores: NDArray[np.float32]) -> None:
    """Writes scores (C, H, W) as Caffe's MatWrite layer does."""
    from caffe_port.data.mat import write_mat

    write_mat(path, scores[None])
