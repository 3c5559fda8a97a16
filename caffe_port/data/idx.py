"""The IDX files in which MNIST is distributed: images and their labels.

Source: the format as MNIST's page describes it; BVLC/caffe examples/mnist/convert_mnist_data.cpp.
"""

from __future__ import annotations

import os
import struct

import numpy as np
import numpy.typing as npt

from caffe_port.data.images import PathLike
from caffe_port.errors import DataError
from caffe_port.files import open_regular, reading

_IMAGES, _LABELS = 2051, 2049  # the magic numbers: bytes in three axes, and in one
_GZIP = b"\x1f\x8b"


def read_mnist(
    images: PathLike, labels: PathLike
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int8]]:
    """The images and labels of a pair of files.

    Args:
        images: such as train-images-idx3-ubyte.
        labels: such as train-labels-idx1-ubyte.
    Returns:
        (N, rows, columns) uint8 and (N,) int8, since Caffe reads labels as signed.
    Raises:
        DataError: a file is missing, compressed, cut short or of another kind, or the numbers of
            items differ.
    """
    pixels, shape = _read(images, _IMAGES, 3)
    classes, (count,) = _read(labels, _LABELS, 1)
    if count != shape[0]:
        raise DataError(f"{images}: {shape[0]} images, but {labels} has {count} labels")
    return pixels.reshape(shape), classes.view(np.int8)


def _read(path: PathLike, magic: int, axes: int) -> tuple[npt.NDArray[np.uint8], tuple[int, ...]]:
    """The values and the sizes of the axes."""
    size = 4 + 4 * axes
    with reading(path), open_regular(path) as stream:
        head, length = stream.read(size), os.fstat(stream.fileno()).st_size
        shape = _shape(path, head, magic, axes)
        count = int(np.prod(shape, dtype=object))
        if length - size < count:
            message = f"{length - size} bytes for {' x '.join(map(str, shape))} values"
            raise DataError(f"{path}: {message}; the file is cut short")
        return np.frombuffer(stream.read(count), np.uint8), shape


def _shape(path: PathLike, head: bytes, magic: int, axes: int) -> tuple[int, ...]:
    if head.startswith(_GZIP):
        raise DataError(f"{path}: compressed by gzip; gunzip it first")
    if len(head) < 4 + 4 * axes:
        raise DataError(f"{path}: {len(head)} bytes; an IDX file's header alone has {4 + 4 * axes}")
    found, *shape = struct.unpack(f">{axes + 1}I", head)
    if found != magic:
        what = "images" if magic == _IMAGES else "labels"
        raise DataError(f"{path}: magic number {found}; a file of MNIST's {what} has {magic}")
    return tuple(shape)
