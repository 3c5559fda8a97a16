"""Resizing, and caffe.io.Transformer."""

import numpy as np
import pytest

from caffe_port.pycaffe.io import Transformer, resize_image


def test_enlarging_takes_pixels_as_areas_and_darkens_the_border() -> None:
    image = np.array([[[3.0], [5.0]]])  # 1 x 2
    resized = resize_image(image, (1, 4))
    # centres at -0.25, 0.25, 0.75, 1.25 of the old pixels; outside lies the smallest value, 3
    np.testing.assert_allclose(resized[0, :, 0], [3, 3.5, 4.5, 4.5], rtol=1e-6)
    assert resized.dtype == np.float32


def test_shrinking_does_not_smooth() -> None:
    image = np.zeros((1, 9, 3))
    image[0, 4] = 9
    np.testing.assert_allclose(resize_image(image, (1, 3))[0, :, 0], [0, 9, 0], atol=1e-6)


def test_other_channel_counts_keep_the_corners() -> None:
    image = np.arange(3.0)[None, :, None] * np.ones((1, 3, 2))
    np.testing.assert_allclose(resize_image(image, (1, 5))[0, :, 1], [0, 0.5, 1, 1.5, 2])


def test_a_constant_image_stays_one() -> None:
    np.testing.assert_array_equal(resize_image(np.full((2, 2, 3), 7.0), (3, 4)), 7)


def test_cubic_resizing_stays_in_range() -> None:
    image = np.zeros((1, 8, 1))
    image[0, 4:] = 1
    resized = resize_image(image, (1, 32), interp_order=3)
    assert (resized.min(), resized.max()) == (0, 1)


@pytest.fixture
def transformer() -> Transformer:
    made = Transformer({"data": (10, 3, 2, 4)})
    made.set_transpose("data", (2, 0, 1))
    made.set_channel_swap("data", (2, 1, 0))
    made.set_raw_scale("data", 255)
    made.set_mean("data", np.array([1.0, 2, 3]))
    made.set_input_scale("data", 0.5)
    return made


def test_preprocess_in_caffes_order(transformer: Transformer) -> None:
    image = np.random.default_rng(0).random((2, 4, 3)).astype(np.float32)
    before = image.copy()
    made = transformer.preprocess("data", image)
    wanted = (image[:, :, ::-1].transpose(2, 0, 1) * 255 - np.array([1, 2, 3])[:, None, None]) * 0.5
    np.testing.assert_allclose(made, wanted, rtol=1e-5)
    assert made.dtype == np.float32
    np.testing.assert_array_equal(image, before)
    np.testing.assert_allclose(transformer.deprocess("data", made), image, rtol=1e-5)


def test_preprocess_resizes(transformer: Transformer) -> None:
    assert transformer.preprocess("data", np.ones((5, 5, 3))).shape == (3, 2, 4)


def test_nothing_set_changes_nothing() -> None:
    plain = Transformer({"data": (1, 3, 2, 4)})
    image = np.ones((2, 4, 3))
    np.testing.assert_array_equal(plain.preprocess("data", image), image)
    np.testing.assert_array_equal(plain.deprocess("data", image), image)


@pytest.mark.parametrize("shape", [(2, 4), (3, 2, 4), (3, 4, 8)])
def test_mean_images(transformer: Transformer, shape: tuple[int, ...]) -> None:
    transformer.set_mean("data", np.full(shape, 5.0))
    assert transformer.preprocess("data", np.zeros((2, 4, 3)))[1, 1, 1] == -2.5


def test_refusals(transformer: Transformer) -> None:
    with pytest.raises(ValueError, match="label is not one of the net inputs: data"):
        transformer.set_raw_scale("label", 1)
    with pytest.raises(ValueError, match="transpose order of 2 axes"):
        transformer.set_transpose("data", (0, 1))
    with pytest.raises(ValueError, match="swap of 2 channels"):
        transformer.set_channel_swap("data", (0, 1))
    with pytest.raises(ValueError, match="mean of 2 channels"):
        transformer.set_mean("data", np.zeros(2))
    with pytest.raises(ValueError, match="expected 1, 2 or 3 axes"):
        transformer.set_mean("data", np.zeros((1, 1, 1, 1)))
