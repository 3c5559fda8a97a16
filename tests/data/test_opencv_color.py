"""Every kind of image against what OpenCV 4.5 made of the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import caffe_port.pycaffe as caffe
from caffe_port.data.decoding import grey_of
from caffe_port.data.image import read_image
from caffe_port.data.images import decode_image, read_bgr, read_grey
from caffe_port.errors import DataError
from tests.goldens_dir import GOLDENS

FOLDER = GOLDENS / "images"
RECORDED = dict(np.load(FOLDER / "opencv.npz"))
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix != ".npz")
UNREAD = {"float.tif", "int32.tif"}
# of these an image library gives no more than the upper bytes, or its own YCbCr
OFF_BY_ONE = {"rgb16.png/grey", "ycbcr.tif/color", "ycbcr.tif/grey"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
@pytest.mark.parametrize("kind", ["color", "grey"])
def test_as_opencv(path: Path, kind: str) -> None:
    read = read_bgr if kind == "color" else read_grey
    key = f"{path.name}/{kind}"
    if path.name in UNREAD:
        assert key not in RECORDED
        with pytest.raises(DataError, match=r"expected 8 or 16 bits a channel, found mode [FI]"):
            read(path)
        return
    off = np.abs(read(path).astype(int) - RECORDED[key])
    assert off.max() <= (key in OFF_BY_ONE)
    assert np.array_equal(read_image(path, None, kind == "color").squeeze(), read(path))
    content = path.read_bytes()
    decoded = decode_image(content, path.name, color=kind == "color").squeeze()
    assert np.array_equal(decoded, read(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_as_a_datum_holds_it(path: Path) -> None:
    """imdecode with the file's own channels, of 8 bits."""
    wanted = RECORDED.get(f"{path.name}/own")
    if path.name in ("ycbcr.tif", "cmyk.tif", "la16.png", "rgb16.png"):
        pytest.skip("TIFFs within a Datum; PNGs of 16 bits, which Caffe refuses there")
    if wanted is None:
        with pytest.raises(DataError, match="bits a channel"):
            decode_image(path.read_bytes(), path.name)
    else:
        found = decode_image(path.read_bytes(), path.name)
        assert np.array_equal(found.squeeze(), wanted)


def test_sixteen_bits_keep_the_upper_byte(tmp_path: Path) -> None:
    values = np.array([[0, 255, 256, 0x1234, 0xFFFF]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert read_grey(tmp_path / "deep.png").tolist() == [[0, 0, 1, 0x12, 0xFF]]
    assert read_bgr(tmp_path / "deep.png")[0, 3].tolist() == [0x12] * 3


def test_grey_of_a_large_image_is_that_of_its_rows() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (600, 3, 3), dtype=np.uint8)
    for format in ("PNG", "BMP", "WEBP", None):
        rows = [grey_of(rgb[i : i + 1], format) for i in range(len(rgb))]
        assert np.array_equal(grey_of(rgb, format), np.concatenate(rows))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("float.tif", lambda pixels: pixels),
        ("int32.tif", lambda pixels: (pixels + 0.5) * 2 / (2**32 - 1)),
        ("grey16.png", lambda pixels: pixels / 65535),
        ("grey16.pgm", lambda pixels: pixels / 65535),
        ("grey.png", lambda pixels: pixels / 255),
    ],
)
def test_load_image_scales_as_scikit_image(name: str, expected) -> None:
    with Image.open(FOLDER / name) as image:
        wanted = expected(np.asarray(image).astype(float)).astype(np.float32)
    for color in (True, False):
        found = caffe.io.load_image(FOLDER / name, color)
        assert found.dtype == np.float32
        assert found.shape == (*wanted.shape, 3 if color else 1)
        assert np.allclose(found, wanted[:, :, None], rtol=1e-6, atol=0)
