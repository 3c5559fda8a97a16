"""DenseCRF against the same inference with explicit N x N kernels."""

import numpy as np
import pytest

from caffe_port.crf import DenseCRF
from tests.crf import reference
from tests.crf.making import problem

# How far the lattice strays from exact kernels: measured 0.0014, 0.024 and no label.
MEAN_BOUND, FILTER_BOUND, LABEL_BOUND = 0.004, 0.05, 0.99
SIZES = [(1, 1), (1, 2), (2, 1), (3, 1), (1, 7), (5, 5), (6, 7), (8, 9), (9, 11), (13, 10)]


def ours(image, unary, iterations, normalization="after"):
    labels, height, width = unary.shape
    crf = DenseCRF(height, width, labels, normalization=normalization)
    crf.add_gaussian(2, weight=3).add_bilateral(8, 15, image, weight=4)
    return crf.infer(unary, iterations)


def theirs(image, unary, iterations, matrix, symmetric=False):
    labels, height, width = unary.shape
    features = [reference.positions(height, width, 2, 2), reference.bilateral(image, 8, 15)]
    kernels = [(matrix(f), weight) for f, weight in zip(features, (3, 4), strict=True)]
    flat = unary.reshape(labels, -1).astype(np.float64)
    return reference.mean_field(flat, kernels, iterations, symmetric).reshape(unary.shape)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("normalization", ["after", "symmetric"])
def test_the_lattice_is_the_one_described(size, normalization):
    image, unary = problem(*size, labels=3, seed=sum(size))
    want = theirs(image, unary, 5, reference.lattice_matrix, normalization == "symmetric")
    assert np.abs(ours(image, unary, 5, normalization) - want).max() < 1e-5


def test_phantom_pixels_change_the_result_where_the_size_is_no_multiple_of_four():
    def without(features):
        return reference.lattice_matrix(features, phantoms=False)

    def difference(height, width):
        image, unary = problem(height, width, labels=3)
        image //= 6  # dark colours lie near the zero feature
        return np.abs(ours(image, unary, 5) - theirs(image, unary, 5, without)).max()

    assert difference(9, 11) > 1e-4
    assert difference(9, 12) < 1e-5


@pytest.mark.parametrize("size", [(4, 4), (8, 9), (13, 10), (16, 20)], ids=str)
def test_the_lattice_is_close_to_exact_gaussian_kernels(size):
    image, unary = problem(*size, labels=4, seed=3)
    unary *= np.float32(0.3)
    got = ours(image, unary, 10)
    want = theirs(image, unary, 10, reference.gaussian_matrix)
    assert np.abs(got - want).mean() < MEAN_BOUND
    assert np.mean(got.argmax(0) == want.argmax(0)) > LABEL_BOUND


@pytest.mark.parametrize("dimension", [2, 5])
def test_one_filtering_is_close_to_the_exact_kernel(dimension):
    image, _ = problem(14, 15, labels=1, seed=5)
    features = reference.positions(14, 15, 3, 3)
    if dimension == 5:
        features = reference.bilateral(image, 10, 20)
    exact, lattice = reference.gaussian_matrix(features), reference.lattice_matrix(features)
    exact, lattice = (k / k.sum(1, keepdims=True) for k in (exact, lattice))
    signal = np.random.default_rng(1).random(len(features))
    assert np.abs(lattice @ signal - exact @ signal).max() < FILTER_BOUND


def test_no_iterations_is_a_softmax():
    image, unary = problem(5, 6, labels=4)
    want = reference.softmax(-unary.astype(np.float64))
    assert np.abs(ours(image, unary, 0) - want).max() < 1e-6


def test_several_kernels_of_each_kind_and_widths_per_axis():
    image, unary = problem(7, 9, labels=3)
    crf = DenseCRF(7, 9, 3).add_gaussian((1, 4), weight=2).add_gaussian(3, weight=0.5)
    crf.add_bilateral((6, 3), (10, 20, 30), image, weight=1).add_bilateral(4, 9, image, weight=2)
    wide = reference.bilateral(image, 1, 1) / np.array([6, 3, 10, 20, 30], np.float32)
    kernels = [
        (reference.positions(7, 9, 1, 4), 2),
        (reference.positions(7, 9, 3, 3), 0.5),
        (wide, 1),
        (reference.bilateral(image, 4, 9), 2),
    ]
    matrices = [(reference.lattice_matrix(f), weight) for f, weight in kernels]
    want = reference.mean_field(unary.reshape(3, -1).astype(np.float64), matrices, 10)
    assert np.abs(crf.infer(unary, 10) - want.reshape(unary.shape)).max() < 1e-5
