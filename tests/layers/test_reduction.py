"""Reduction: operations, axes, the coefficient."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

X = torch.tensor([[[1.0, -2], [3, 0.5]], [[0, 1], [-1, 4]]])
TEXT = 'type: "Reduction" bottom: "b0" top: "y" reduction_param {{ {} }}'


@pytest.mark.parametrize(
    ("operation", "wanted"),
    [("SUM", [2.5, 4]), ("ASUM", [6.5, 6]), ("SUMSQ", [14.25, 18]), ("MEAN", [0.625, 1])],
)
def test_by_hand(operation, wanted):
    text = TEXT.format(f"operation: {operation} axis: 1")
    (y,) = layer(text, X.shape)(X)
    assert y.tolist() == wanted
    (half,) = layer(TEXT.format(f"operation: {operation} axis: -2 coeff: 0.5"), X.shape)(X)
    assert half.tolist() == [w / 2 for w in wanted]
    check_gradients(layer(text, X.shape), X + 0.1)


def test_all_axes_by_default():
    (y,) = layer(TEXT.format(""), X.shape)(X)
    assert y.shape == ()
    assert y.item() == 6.5


def test_the_last_axis_alone():
    assert torch.equal(layer(TEXT.format("axis: -1"), X.shape)(X)[0], X.sum(-1))


def test_an_absolute_value_has_no_diff_at_0():
    x = torch.tensor([0.0, -1, 2], requires_grad=True)
    layer(TEXT.format("operation: ASUM"), (3,))(x)[0].backward()
    assert x.grad.tolist() == [0, -1, 1]


def test_what_it_refuses():
    with pytest.raises(LayerError, match="axis 3"):
        layer(TEXT.format("axis: 3"), X.shape)
