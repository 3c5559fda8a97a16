"""Resizing as OpenCV: known cases here, its recorded pixels in test_image_seg."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_port.data.decoding import resize_linear, resize_nearest


def test_linear_by_hand():
    row = np.array([[0, 100]], np.uint8)
    assert resize_linear(row, 1, 4).tolist() == [[0, 25, 75, 100]]
    assert resize_linear(row.T.copy(), 4, 1).ravel().tolist() == [0, 25, 75, 100]


def test_halving_is_the_rounded_mean_of_four():
    image = np.random.default_rng(0).integers(0, 256, (8, 6), dtype=np.uint8)
    mean = (image.reshape(4, 2, 3, 2).astype(int).sum(axis=(1, 3)) + 2) >> 2
    assert np.array_equal(resize_linear(image, 4, 3), mean)


@pytest.mark.parametrize("size", [(5, 9), (31, 17), (64, 80)])
def test_linear_is_within_a_level_of_exact_interpolation(size):
    image = np.random.default_rng(1).integers(0, 256, (23, 41, 3), dtype=np.uint8)
    result = resize_linear(image, *size)

    def taps(length, wanted):
        place = np.clip((np.arange(wanted) + 0.5) * length / wanted - 0.5, 0, length - 1)
        low = np.floor(place).astype(int)
        return low, np.minimum(low + 1, length - 1), place - low

    (y0, y1, fy), (x0, x1, fx) = taps(23, size[0]), taps(41, size[1])
    rows = image[y0] * (1 - fy)[:, None, None] + image[y1] * fy[:, None, None]
    exact = rows[:, x0] * (1 - fx)[:, None] + rows[:, x1] * fx[:, None]
    assert result.shape == (*size, 3)
    assert np.abs(result - exact).max() <= 1.01


def test_nearest_takes_the_pixel_at_or_before():
    labels = np.arange(5, dtype=np.uint8)[None]
    assert resize_nearest(labels, 1, 3).tolist() == [[0, 1, 3]]
    assert resize_nearest(labels, 2, 10).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]] * 2


def test_the_same_size_is_a_copy():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for resize in (resize_linear, resize_nearest):
        result = resize(image, 3, 4)
        assert np.array_equal(result, image)
        assert not np.shares_memory(result, image)
