"""Datum: one picture, or any array of three axes, and its label, as databases hold them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from caffe_port.data.pictures import decode_picture
from caffe_port.errors import DataError
from caffe_port.sniff import HEAD, seems_to_be

_MOST = 2**31 - 1  # Caffe's limit on the elements of a blob


@dataclass(frozen=True)
class Datum:
    """A record of a database.

    Attributes:
        values: (C, H, W) uint8 or float32; colours are blue, green, red.
        label: a whole number.
    """

    values: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    label: int


def read_datum(record: bytes, where: str, color: bool | None = None) -> Datum:
    """Decodes a Datum message.

    Args:
        record: the message.
        where: names the record in errors.
        color: for an encoded picture: True makes three channels (force_color), False one
            (force_gray), None takes it as it is.
    Raises:
        DataError: not a Datum; sizes that do not fit its values; a broken picture.
    Source: BVLC/caffe data_transformer.cpp, Transform; io.cpp, DecodeDatumToCVMat.
    """
    from google.protobuf.message import DecodeError

    from caffe_port.proto import caffe_pb2

    try:
        message = caffe_pb2.Datum.FromString(record)
    except DecodeError as error:
        raise DataError(f"{where}: not a Datum message: {error}") from error
    if message.encoded:
        picture = decode_picture(message.data, where, color)
        return Datum(picture.transpose(2, 0, 1), message.label)
    shape = (message.channels, message.height, message.width)
    values: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    if message.data:
        values = np.frombuffer(message.data, np.uint8)
    else:
        values = np.array(message.float_data, np.float32)
    count = shape[0] * shape[1] * shape[2]
    if min(shape) < 1 or count > _MOST or count != values.size:
        what = seems_to_be(message.data[:HEAD])
        is_image = what.endswith("image")
        raise DataError(
            f"{where}: a Datum of {shape[0]} x {shape[1]} x {shape[2]} that holds {values.size} "
            "values; expected channels x height x width of them"
            + (f". It is {what} whose 'encoded' is not set: write it again with it" * is_image)
        )
    return Datum(values.reshape(shape), message.label)
