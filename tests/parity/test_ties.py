"""A label may differ only where Caffe's own scores tie within its error."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from caffe_port.parity.values import choice_ties, is_choice
from tests.parity.fake import FakeLayer


def argmax(axis):
    return FakeLayer("a", "ArgMax", ("s",), ("a",), SimpleNamespace(axis=axis, out_max_val=False))


def test_argmax_along_an_axis():
    scores = np.zeros((1, 3, 1, 2), np.float32)
    scores[0, :, 0, 0] = [1.0, 1.0 + 1e-6, 0.0]
    scores[0, :, 0, 1] = [1.0, 2.0, 0.0]
    port, caffe = np.zeros((1, 1, 1, 2), np.float32), np.ones((1, 1, 1, 2), np.float32)
    tied = choice_ties(argmax(1), scores, port, caffe, 1e-5)
    assert tied.tolist() == [[[[True, False]]]]
    assert not choice_ties(argmax(1), scores, port, caffe, 0.0).any()


def test_argmax_over_the_whole_item():
    scores = np.array([[[[3.0, 1.0]], [[3.0, 0.0]]]], np.float32)
    port, caffe = np.full((1, 1, 1, 1), 0, np.float32), np.full((1, 1, 1, 1), 2, np.float32)
    assert choice_ties(argmax(None), scores, port, caffe, 0.0).all()
    assert not choice_ties(argmax(None), scores, port + 1, caffe, 0.0).any()


def test_argmax_per_pixel_of_old_deeplab():
    scores = np.array([[[[3.0, 1.0]], [[3.0, 0.0]]]], np.float32)
    port, caffe = np.zeros((1, 1, 1, 2), np.float32), np.ones((1, 1, 1, 2), np.float32)
    assert choice_ties(argmax(None), scores, port, caffe, 0.0).tolist() == [[[[True, False]]]]


def test_pooling_mask():
    layer = FakeLayer("p", "Pooling", ("x",), ("p", "mask"))
    values = np.array([[[[5.0, 5.0], [1.0, 0.0]]]], np.float32)
    port, caffe = np.zeros((1, 1, 1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)
    assert choice_ties(layer, values, port, caffe, 0.0).all()
    assert not choice_ties(layer, values, port + 2, caffe, 0.0).any()


@pytest.mark.parametrize("bad", [-1.0, 3.0, 0.5])
def test_an_impossible_choice_is_not_a_tie(bad):
    scores = np.zeros((1, 3, 1, 1), np.float32)
    caffe = np.zeros((1, 1, 1, 1), np.float32)
    assert not choice_ties(argmax(1), scores, caffe + np.float32(bad), caffe, 1.0).any()


def test_what_is_a_choice():
    assert is_choice(argmax(1), 0)
    values = FakeLayer("a", "ArgMax", ("s",), ("a",), SimpleNamespace(out_max_val=True))
    assert not is_choice(values, 0)
    pooling = FakeLayer("p", "Pooling", ("x",), ("p", "mask"))
    assert [is_choice(pooling, top) for top in (0, 1)] == [False, True]
