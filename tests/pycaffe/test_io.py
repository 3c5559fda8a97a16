"""caffe.io: protobufs, images, crops."""

import re
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caffe_port.errors import DataError
from caffe_port.pycaffe import caffe_pb2, io


def test_blobproto_there_and_back() -> None:
    values = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    blob = io.array_to_blobproto(values, diff=-values)
    np.testing.assert_array_equal(io.blobproto_to_array(blob), values)
    np.testing.assert_array_equal(io.blobproto_to_array(blob, return_diff=True), -values)


def test_a_legacy_blobproto_has_four_axes() -> None:
    blob = caffe_pb2.BlobProto(num=1, channels=1, height=2, width=3, data=range(6))
    assert io.blobproto_to_array(blob).shape == (1, 1, 2, 3)


def test_a_blobproto_whose_values_do_not_fit() -> None:
    with pytest.raises(ValueError, match="cannot reshape"):
        io.blobproto_to_array(caffe_pb2.BlobProto(data=[1, 2]))


def test_blobprotovector_there_and_back() -> None:
    arrays = [np.ones((2, 3)), np.zeros(4)]
    text = io.arraylist_to_blobprotovector_str(arrays)
    assert isinstance(text, bytes)
    for array, back in zip(arrays, io.blobprotovector_str_to_arraylist(text), strict=True):
        np.testing.assert_array_equal(array, back)
    assert io.arraylist_to_blobprotovecor_str(arrays) == text


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_datum_there_and_back(dtype: type) -> None:
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    datum = io.array_to_datum(values, label=7)
    assert (datum.channels, datum.height, datum.width, datum.label) == (2, 3, 4, 7)
    assert bool(datum.data) is (dtype is np.uint8)
    np.testing.assert_array_equal(io.datum_to_array(datum), values)


def test_a_datum_has_three_axes() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        io.array_to_datum(np.zeros((2, 2)))


def save(tmp_path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    path = tmp_path / "picture.png"
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path)
    return path


def test_load_colour_grey_and_transparent_images(tmp_path: Path) -> None:
    red = np.zeros((2, 3, 3), np.uint8)
    red[..., 0] = 255
    for mode in (None, "P", "RGBA"):
        image = io.load_image(save(tmp_path, red, mode))
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image, red / 255)
    grey = io.load_image(tmp_path / "picture.png", color=False)
    assert grey.shape == (2, 3, 1)
    np.testing.assert_allclose(grey, 0.2125)


@pytest.mark.parametrize(
    ("pixels", "value"),
    [
        (np.full((2, 3), 51, np.uint8), 0.2),
        (np.full((2, 3), 13107, np.uint16), 0.2),
        (np.ones((2, 3), bool), 1.0),
    ],
)
def test_load_images_of_one_channel(tmp_path: Path, pixels: np.ndarray, value: float) -> None:
    path = save(tmp_path, pixels)
    np.testing.assert_allclose(io.load_image(path), np.full((2, 3, 3), value), rtol=1e-6)
    assert io.load_image(path, color=False).shape == (2, 3, 1)


def test_what_is_not_an_image(tmp_path: Path) -> None:
    path = tmp_path / "no.png"
    path.write_bytes(b"text")
    with pytest.raises(DataError, match=r"no\.png: not an image"):
        io.load_image(path)


def test_load_open_files(tmp_path: Path) -> None:
    """As scikit-image's imread, which web demos give io.BytesIO."""
    red = np.zeros((2, 3, 3), np.uint8)
    red[..., 0] = 255
    path = save(tmp_path, red)
    stream = BytesIO(b"head" + path.read_bytes())
    stream.seek(4)
    np.testing.assert_array_equal(io.load_image(stream), red / 255)
    assert not stream.closed
    with path.open("rb") as file:
        np.testing.assert_allclose(io.load_image(file, color=False), np.full((2, 3, 1), 0.2125))


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (BytesIO(b"text"), "BytesIO: not an image"),
        (BytesIO(b""), "BytesIO: not an image"),
        (StringIO("text"), "returns text; expected a file that is open in binary mode"),
        (7, "cannot be read"),
    ],
)
def test_open_files_that_are_not_images(stream: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        io.load_image(stream)


@pytest.mark.parametrize(("axis", "component"), [(1, 0), (0, 1)])
def test_flip_image(axis: int, component: int) -> None:
    image = np.arange(12, dtype=np.float32).reshape(2, 2, 3) / 16
    flipped = io.flip_image(image, axis)
    np.testing.assert_array_equal(flipped, image[:, ::-1] if axis else image[::-1])
    flow = io.flip_image(image, axis, True)
    np.testing.assert_array_equal(flow[..., component], 1 - flipped[..., component])
    others = [i for i in range(3) if i != component]
    np.testing.assert_array_equal(flow[..., others], flipped[..., others])


def test_oversample() -> None:
    image = np.arange(4 * 5).reshape(4, 5, 1)
    crops = io.oversample([image, -image], (2, 3))
    assert crops.shape == (20, 2, 3, 1)
    corners = [crop[0, 0, 0] for crop in crops[:5]]
    assert corners == [0, 2, 10, 12, 6]
    np.testing.assert_array_equal(crops[5:10], crops[:5, :, ::-1])
    np.testing.assert_array_equal(crops[10:], -crops[:10])


def test_an_encoded_datum_has_no_array_yet() -> None:
    """Upstream's reshape of the encoded bytes fails too, without saying why."""
    datum = caffe_pb2.Datum(encoded=True, data=b"\x89PNG\r\n\x1a\n" + bytes(20))
    words = "the Datum's 28 bytes are encoded (a PNG image): decode them first, such as with cv2"
    with pytest.raises(ValueError, match=re.escape(words)):
        io.datum_to_array(datum)
