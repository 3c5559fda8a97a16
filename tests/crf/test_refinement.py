"""refine: scores or probabilities and an image in, probabilities out."""

import numpy as np
import pytest

from caffe_port.crf import CRFParameters, DenseCRF, refine
from caffe_port.errors import UsageError
from tests.crf.making import problem

IMAGE, UNARY = problem(9, 11, labels=4)
SETTINGS = CRFParameters((3,), (2,), (4,), (20,), (8,), iterations=3)
POSITIONS = CRFParameters((3,), (2,), (), (), (), iterations=3)


def test_scores_are_the_unary_s_opposite():
    crf = DenseCRF(9, 11, 4).add_gaussian(2, weight=3).add_bilateral(20, 8, IMAGE, weight=4)
    assert np.array_equal(refine(-UNARY, IMAGE, SETTINGS), crf.infer(UNARY, 3))


def test_probabilities_go_through_their_logarithm_unclipped():
    p = np.exp(-UNARY) / np.exp(-UNARY).sum(0)
    assert np.abs(refine(p, IMAGE, SETTINGS, probabilities=True)
                  - refine(-UNARY, IMAGE, SETTINGS)).max() < 1e-5  # fmt: skip
    p[2] = 0
    assert not refine(p, IMAGE, SETTINGS, probabilities=True)[2].any()


def test_several_kernels_are_summed_in_order():
    several = CRFParameters((3, 1), (2, 5), (4, 2), (20, 6), (8, 15), iterations=3)
    crf = DenseCRF(9, 11, 4).add_gaussian(2, weight=3).add_gaussian(5, weight=1)
    crf.add_bilateral(20, 8, IMAGE, weight=4).add_bilateral(6, 15, IMAGE, weight=2)
    assert np.array_equal(refine(-UNARY, IMAGE, several), crf.infer(UNARY, 3))


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="scores has shape"):
        refine(UNARY[0], IMAGE, SETTINGS)
    with pytest.raises(UsageError, match="image has shape"):
        refine(UNARY, IMAGE[:8], SETTINGS)
    with pytest.raises(UsageError, match="negative probability"):
        refine(UNARY, IMAGE, SETTINGS, probabilities=True)
    with pytest.raises(UsageError, match="every label"):
        refine(np.zeros_like(UNARY), IMAGE, SETTINGS, probabilities=True)
