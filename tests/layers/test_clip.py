import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "Clip" bottom: "b0" top: "{}" clip_param {{ min: {} max: {} }}'


def test_both_ends_belong_to_the_range():
    x = torch.tensor([[-3.0, -1.0, 0.5, 2.0, 4.0]], requires_grad=True)
    (y,) = layer(TEXT.format("y", -1, 2), (1, 5))(x)
    assert y.tolist() == [[-1, -1, 0.5, 2, 2]]
    y.sum().backward()
    assert x.grad.tolist() == [[0, 1, 1, 1, 0]]


def test_min_wins_over_a_lower_max():
    (y,) = layer(TEXT.format("y", 2, -1), (1, 3))(torch.tensor([[-5.0, 0.0, 5.0]]))
    assert y.tolist() == [[2, 2, 2]]


def test_in_place_every_diff_passes():
    x = torch.tensor([[-3.0, 0.5]], requires_grad=True)
    (y,) = layer(TEXT.format("b0", -1, 2), (1, 2))(x)
    y.backward(torch.tensor([[7.0, 8.0]]))
    assert y.tolist() == [[-1, 0.5]]
    assert x.grad.tolist() == [[7, 8]]


def test_in_place_no_diff_passes_where_min_is_above_max():
    x = torch.tensor([[-3.0, 0.5, 9.0]], requires_grad=True)
    (y,) = layer(TEXT.format("b0", 2, -1), (1, 3))(x)
    y.sum().backward()
    assert y.tolist() == [[2, 2, 2]]
    assert x.grad.tolist() == [[0, 0, 0]]


def test_gradients():
    check_gradients(layer(TEXT.format("y", -1, 2), (1, 3)), torch.tensor([[-3.0, 0.5, 4.0]]))


def test_both_ends_are_needed():
    with pytest.raises(LayerError, match="min and max"):
        layer('type: "Clip" bottom: "b0" top: "y"', (1, 3))
