"""Converts images and protobufs to arrays and back: ``caffe.io``.

Source: BVLC/caffe python/caffe/io.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from caffe_port.files import seems_to_be
from caffe_port.live.transformer import Transformer, resize_image
from caffe_port.proto import caffe_pb2

__all__ = [
    "Transformer",
    "array_to_blobproto",
    "array_to_datum",
    "arraylist_to_blobprotovecor_str",
    "arraylist_to_blobprotovector_str",
    "blobproto_to_array",
    "blobprotovector_str_to_arraylist",
    "caffe_pb2",
    "datum_to_array",
    "flip_image",
    "load_image",
    "oversample",
    "resize_image",
]

_Array = npt.NDArray[Any]
_RAW_DTYPES = {"DOUBLE": "<f8", "FLOAT": "<f4", "FLOAT16": "<f2"}
_GREY = np.array([0.2125, 0.7154, 0.0721])  # luminance of linear RGB, with scikit-image's weights


def blobproto_to_array(blob: caffe_pb2.BlobProto, return_diff: bool = False) -> _Array:
    """The values, or the diff, of a BlobProto; also doubles and NVCaffe's raw values.

    Raises:
        ValueError: the values do not fit its shape, or raw ones have a type without values.
    """
    values = _blob_values(blob, "diff" if return_diff else "data")
    legacy = ("num", "channels", "height", "width")
    if any(blob.HasField(name) for name in legacy):
        return values.reshape([getattr(blob, name) for name in legacy])
    return values.reshape(tuple(blob.shape.dim))


def _blob_values(blob: caffe_pb2.BlobProto, field: str) -> _Array:
    """The values of a field as float64, from its doubles, floats or raw bytes."""
    for name in (f"double_{field}", field):
        if len(getattr(blob, name)):
            return np.array(getattr(blob, name))
    if not blob.HasField(f"raw_{field}"):
        return np.array([])
    kind = caffe_pb2.Type.Name(getattr(blob, f"raw_{field}_type"))
    if kind not in _RAW_DTYPES or not blob.HasField(f"raw_{field}_type"):
        raise ValueError(f"raw_{field}_type is {kind}; expected one of {', '.join(_RAW_DTYPES)}")
    return np.frombuffer(getattr(blob, f"raw_{field}"), _RAW_DTYPES[kind]).astype(float)


def array_to_blobproto(arr: _Array, diff: _Array | None = None) -> caffe_pb2.BlobProto:
    """Makes a BlobProto of an array, with a diff of the same shape if given."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(arr.astype(float).ravel())
    if diff is not None:
        blob.diff.extend(diff.astype(float).ravel())
    return blob


def arraylist_to_blobprotovector_str(arraylist: Iterable[_Array]) -> bytes:
    """Serializes several arrays as one BlobProtoVector."""
    vector = caffe_pb2.BlobProtoVector(blobs=[array_to_blobproto(arr) for arr in arraylist])
    return vector.SerializeToString()


arraylist_to_blobprotovecor_str = arraylist_to_blobprotovector_str  # DeepLab v1's spelling


def blobprotovector_str_to_arraylist(str: bytes) -> list[_Array]:
    """The arrays of a serialized BlobProtoVector."""
    vector = caffe_pb2.BlobProtoVector.FromString(str)
    return [blobproto_to_array(blob) for blob in vector.blobs]


def array_to_datum(arr: _Array, label: int | None = None) -> caffe_pb2.Datum:
    """Makes a Datum of a (C, H, W) array: bytes if it is uint8, floats otherwise.

    Raises:
        ValueError: it does not have three axes.
    """
    if arr.ndim != 3:
        raise ValueError(f"an array of shape {arr.shape}; a Datum holds (C, H, W)")
    channels, height, width = arr.shape
    datum = caffe_pb2.Datum(channels=channels, height=height, width=width)
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).ravel())
    if label is not None:
        datum.label = label
    return datum


def datum_to_array(datum: caffe_pb2.Datum) -> _Array:
    """The (C, H, W) array of a Datum, uint8 or float; its label is ``datum.label``."""
    shape = (datum.channels, datum.height, datum.width)
    if datum.encoded:
        what = seems_to_be(datum.data) or "an image"
        raise ValueError(
            f"the Datum's {len(datum.data)} bytes are encoded ({what}): decode them first, such as "
            "with cv2.imdecode(np.frombuffer(datum.data, np.uint8), -1)"
        )
    if len(datum.data):
        return np.frombuffer(datum.data, dtype=np.uint8).reshape(shape)
    return np.array(datum.float_data).astype(float).reshape(shape)


def load_image(
    filename: str | os.PathLike[str] | IO[bytes], color: bool = True
) -> npt.NDArray[np.float32]:
    """Reads an image.

    Args:
        filename: of a format that OpenCV reads; or an open binary file, such as an io.BytesIO,
            which is read from its position to its end and stays open.
        color: whether as RGB; False gives one channel of grey.
    Returns:
        (H, W, 3) or (H, W, 1), float32, 0 to 1; a TIFF of floats keeps its values. Transparency is
        ignored.
    Raises:
        DataError: it cannot be read.
    """
    from caffe_port.data.decoding import is_16_bit
    from caffe_port.data.images import open_image

    with open_image(filename) as image:
        known = image.mode[:1] in "1LIF" and image.mode != "LA"
        mode = image.mode if known else "RGB"
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
        values = _from_0_to_1(pixels, is_16_bit(image))
    if values.ndim == 2:
        values = values[:, :, None]
        if color:
            values = np.tile(values, (1, 1, 3))
    elif not color:
        values = values @ _GREY[:, None]
    return values.astype(np.float32)


def _from_0_to_1(pixels: _Array, is_16_bit: bool) -> _Array:
    """Scales pixels like scikit-image's ``img_as_float``: floats do not change."""
    if pixels.dtype.kind in "bf":
        return pixels.astype(float)
    if pixels.dtype.kind == "i" and not is_16_bit:
        return (pixels + 0.5) * 2 / (2**32 - 1)
    return pixels / (255.0 if pixels.dtype == np.uint8 else 65535.0)


def flip_image(im: _Array, axis: int = 1, flow: bool = False) -> _Array:
    """Mirrors an image. Source: the pycaffe of LRCN.

    Args:
        im: (H, W, K), 0 to 1.
        axis: 1 for left to right, 0 for top to bottom.
        flow: whether it holds optical flow (x, y, ...) around 0.5: the component along the axis
            then changes its sign, v -> 1 - v.
    Returns:
        A new array.
    """
    flipped = np.flip(im, axis).copy()
    if flow:
        component = 0 if axis == 1 else 1
        flipped[..., component] = 1 - flipped[..., component]
    return flipped


def oversample(
    images: Sequence[_Array] | _Array, crop_dims: Sequence[int] | _Array
) -> npt.NDArray[np.float32]:
    """Crops each image at its four corners and centre, and mirrors these five.

    Args:
        images: N of (H, W, K), of one size.
        crop_dims: (height, width) of the crops.
    Returns:
        (10 N, height, width, K): per image top left, top right, bottom left, bottom right and
        centre, then the same mirrored.
    """
    height, width = int(crop_dims[0]), int(crop_dims[1])
    bottom, right = images[0].shape[0] - height, images[0].shape[1] - width
    centre = (int(images[0].shape[0] / 2 - height / 2), int(images[0].shape[1] / 2 - width / 2))
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), centre]
    crops = []
    for image in images:
        five = [image[y : y + height, x : x + width] for y, x in corners]
        crops += five + [crop[:, ::-1] for crop in five]
    return np.array(crops, dtype=np.float32)
