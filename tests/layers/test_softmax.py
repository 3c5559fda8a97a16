"""Softmax."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "Softmax" bottom: "b0" top: "y" softmax_param {{ {} }}'


@pytest.mark.parametrize(("options", "axis"), [("", 1), ("axis: 2", 2), ("axis: -3", 0)])
def test_over_one_axis(options, axis):
    x = torch.randn(2, 3, 4)
    module = layer(TEXT.format(options), x.shape)
    e = x.double().exp()
    assert torch.allclose(module(x)[0].double(), e / e.sum(axis, keepdim=True), atol=1e-7)
    check_gradients(module, x)


def test_large_scores_stay_finite():
    (y,) = layer(TEXT.format(""), (1, 3))(torch.tensor([[1e4, 1e4, -1e4]]))
    assert y.tolist() == [[0.5, 0.5, 0]]


def test_what_it_refuses():
    with pytest.raises(LayerError, match="axis 3"):
        layer(TEXT.format("axis: 3"), (1, 2, 3))
