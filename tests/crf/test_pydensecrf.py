"""pydensecrf and DeepLab: one lattice, two normalisations, two exponentials.

- pydensecrf's NORMALIZE_AFTER is DeepLab's: no label differs.
- Its default, NORMALIZE_SYMMETRIC, is ours with normalization="symmetric"; beside DeepLab's it
  changes some per cent of the labels.
- Its exponential is cut off at e^-88, DeepLab's is exactly 0 below e^-20: this shows in the
  smallest probabilities only.
"""

import numpy as np
import pytest

from caffe_port.crf import DenseCRF, map_labels
from tests.crf.making import photograph, problem

densecrf = pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf2 is not installed")

NORMALIZATIONS = {
    "after": densecrf.NORMALIZE_AFTER,
    "symmetric": densecrf.NORMALIZE_SYMMETRIC,
}


def ours(image, unary, normalization):
    labels, height, width = unary.shape
    crf = DenseCRF(height, width, labels, flavour="krahenbuhl2013", normalization=normalization)
    crf.add_gaussian(3, weight=3).add_bilateral(60, 10, image, weight=4)
    return crf.infer(unary)


def theirs(image, unary, normalization):
    labels, height, width = unary.shape
    crf, mode = densecrf.DenseCRF2D(width, height, labels), NORMALIZATIONS[normalization]
    crf.setUnaryEnergy(unary.reshape(labels, -1).copy())
    crf.addPairwiseGaussian(sxy=3, compat=3, normalization=mode)
    crf.addPairwiseBilateral(sxy=60, srgb=10, rgbim=image.copy(), compat=4, normalization=mode)
    return np.array(crf.inference(10)).reshape(unary.shape)


@pytest.mark.parametrize("size", [(40, 50), (41, 51), (43, 49), (3, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("normalization", ["after", "symmetric"])
def test_they_agree_within_float_error(size, normalization):
    image, unary = problem(*size, labels=5)
    got, want = ours(image, unary, normalization), theirs(image, unary, normalization)
    assert np.abs(got - want).max() < 1e-4  # where labels nearly tie, iterations widen a rounding
    assert np.array_equal(map_labels(got), map_labels(want))


@pytest.mark.parametrize("normalization", ["after", "symmetric"])
def test_no_label_differs_on_an_image(normalization):
    image, unary = photograph(labels=21)
    got, want = ours(image, unary, normalization), theirs(image, unary, normalization)
    assert np.array_equal(map_labels(got), map_labels(want))


def test_the_normalisations_give_different_labels():
    image, unary = photograph(labels=21)
    after, symmetric = (map_labels(ours(image, unary, n)) for n in NORMALIZATIONS)
    assert 0 < np.mean(after != symmetric) < 0.2


def test_deeplab_cuts_the_exponential_off_earlier():
    unary = np.array([0, 25], np.float32).reshape(2, 1, 1)
    image = np.zeros((1, 1, 3), np.uint8)
    got, want = ours(image, unary, "after"), theirs(image, unary, "after")
    assert 0 < want[1, 0, 0] < 1e-10
    assert abs(got[1, 0, 0] / want[1, 0, 0] - 1) < 1e-5
    assert DenseCRF(1, 1, 2).add_gaussian(3, weight=3).infer(unary)[1, 0, 0] == 0
