"""Datum records, sound and hostile; images in them against OpenCV."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from caffe_port.data.database import read_datum
from caffe_port.errors import DataError
from caffe_port.proto import caffe_pb2


def record(**fields):
    return caffe_pb2.Datum(**fields).SerializeToString()


def test_bytes_are_values():
    datum = read_datum(record(channels=2, height=1, width=3, data=bytes(range(6)), label=-4), "r")
    assert datum.values.dtype == np.uint8
    assert datum.values.tolist() == [[[0, 1, 2]], [[3, 4, 5]]]
    assert datum.label == -4


def test_floats_are_values_where_there_are_no_bytes():
    datum = read_datum(record(channels=1, height=2, width=1, float_data=[1.5, -2.0]), "r")
    assert datum.values.dtype == np.float32
    assert datum.values.tolist() == [[[1.5], [-2.0]]]


def encoded(array, mode, format="PNG"):
    stream = io.BytesIO()
    Image.fromarray(array, mode).save(stream, format)
    return stream.getvalue()


def image(*shape):
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


FLAGS = {None: cv2.IMREAD_UNCHANGED, True: cv2.IMREAD_COLOR, False: cv2.IMREAD_GRAYSCALE}


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize("color", [None, True, False])
@pytest.mark.parametrize(
    ("shape", "mode", "format"),
    [((5, 7), "L", "PNG"), ((5, 7, 3), "RGB", "PNG"), ((5, 7, 4), "RGBA", "PNG"),
     ((16, 24, 3), "RGB", "JPEG"), ((16, 24), "L", "JPEG")],
)  # fmt: skip
def test_images_are_decoded_as_by_opencv(shape, mode, format, color):
    content = encoded(image(*shape), mode, format)
    want = cv2.imdecode(np.frombuffer(content, np.uint8), FLAGS[color])
    got = read_datum(record(encoded=True, data=content, label=1), "r", color).values
    want = want.reshape(*want.shape[:2], -1).transpose(2, 0, 1)
    assert got.shape == want.shape
    # OpenCV rounds a PNG's grey by itself; all else is equal
    slack = 1 if color is False and format == "PNG" and len(shape) == 3 else 0
    assert np.abs(got.astype(int) - want).max() <= slack


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xff\xff", "r: not a Datum message"),
        (record(channels=1, height=2, width=2, data=b"abc"), "1 x 2 x 2 that holds 3 values"),
        (record(channels=-1, height=-1, width=3, data=b"abc"), "-1 x -1 x 3 that holds 3"),
        (record(channels=0, height=0, width=0), "0 x 0 x 0 that holds 0 values"),
        (record(channels=2**30, height=2**30, width=2**30, data=b"a"), "holds 1 values"),
        (record(channels=1, height=1, width=1), "holds 0 values"),
        (record(encoded=True, data=b"no image"), "can be decoded: cannot identify image file$"),
        (record(encoded=True), "r: not an image that can be decoded"),
    ],
)
def test_hostile_records_are_refused(content, message):
    with pytest.raises(DataError, match=message):
        read_datum(content, "r")


def test_sixteen_bits_are_refused_unless_colour_or_grey_is_asked_for():
    """As imdecode, which makes 8 bits of them only then."""
    content = cv2.imencode(".png", np.full((4, 4), 40000, np.uint16))[1].tobytes()
    with pytest.raises(DataError, match="expected 8 bits a channel"):
        read_datum(record(encoded=True, data=content), "r")
    for color in (True, False):
        expected = cv2.imdecode(np.frombuffer(content, np.uint8), int(color))
        found = read_datum(record(encoded=True, data=content), "r", color).values
        assert np.array_equal(found.transpose(1, 2, 0).squeeze(), expected)


@pytest.mark.parametrize(("format", "what"), [("PNG", "a PNG image"), ("JPEG", "a JPEG image")])
def test_an_encoded_image_that_is_not_marked_as_such(format, what):
    content = encoded(image(4, 5), "L", format)
    with pytest.raises(DataError, match=f"It is {what}, but its field 'encoded' is not set"):
        read_datum(record(channels=1, height=4, width=5, data=content), "r")
    with pytest.raises(DataError) as caught:
        read_datum(record(channels=1, height=4, width=5, data=b"short"), "r")
    assert "encoded" not in str(caught.value)
