"""SciPy's image functions, by hand: bytescale's formula, Pillow's own resizing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caffe_port.pycaffe import scipy_misc as misc

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def test_bytescale() -> None:
    assert misc.bytescale(GREY) is GREY
    assert misc.bytescale(np.array([0.0, 0.5, 1.0])).tolist() == [0, 128, 255]
    assert misc.bytescale(np.array([2.0, 4.0]), cmin=0, cmax=4).tolist() == [128, 255]
    assert misc.bytescale(np.array([3.0, 3.0])).tolist() == [0, 0]
    with pytest.raises(ValueError, match="below cmin"):
        misc.bytescale(np.zeros(2), cmin=1, cmax=0)


@pytest.mark.parametrize("size", [50, 0.5, (1, 2)])
def test_sizes(size: object) -> None:
    expected = np.array(Image.fromarray(GREY).resize((2, 1), Image.Resampling.BILINEAR))
    assert np.array_equal(misc.imresize(GREY, size), expected)  # type: ignore[arg-type]


def test_labels_and_floats() -> None:
    near = misc.imresize(GREY, (6, 8), interp="nearest")
    assert np.array_equal(near, GREY.repeat(2, 0).repeat(2, 1))
    floats = misc.imresize(GREY / 1000, (6, 8), interp="nearest", mode="F")
    assert floats.dtype == np.float32
    assert np.allclose(floats, (GREY / 1000).repeat(2, 0).repeat(2, 1))


def test_channels_anywhere() -> None:
    colour = np.stack([GREY, GREY // 2, GREY // 4])
    last = colour.transpose(1, 2, 0)
    assert np.array_equal(misc.fromimage(misc.toimage(colour)), last)
    assert misc.imresize(last[:2], 200).shape == (4, 8, 3)
    # of two axes of 3 SciPy takes the first for the channels
    assert misc.imresize(last[:, :2], 200).shape == (4, 6, 3)
    with pytest.raises(ValueError, match="3 or 4 channels"):
        misc.toimage(np.zeros((2, 2, 2)))


def test_files(tmp_path: Path) -> None:
    misc.imsave(tmp_path / "a.png", GREY)
    assert np.array_equal(misc.imread(tmp_path / "a.png"), GREY)
    assert misc.imread(tmp_path / "a.png", mode="RGB").shape == (3, 4, 3)
    assert misc.imread(tmp_path / "a.png", flatten=True).dtype == np.float32


def test_a_quarter_turn() -> None:
    square = GREY[:, :3]
    assert np.array_equal(misc.imrotate(square, 90, interp="nearest"), np.rot90(square))
