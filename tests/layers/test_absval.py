import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer


def test_values_and_the_diff_at_zero():
    x = torch.tensor([[-2.0, 0.0, 3.0]], requires_grad=True)
    (y,) = layer('type: "AbsVal" bottom: "b0" top: "y"', (1, 3))(x)
    assert y.tolist() == [[2, 0, 3]]
    y.sum().backward()
    assert x.grad.tolist() == [[-1, 0, 1]]


def test_gradients():
    x = torch.tensor([[-2.0, 0.5, 3.0]])
    check_gradients(layer('type: "AbsVal" bottom: "b0" top: "y"', (1, 3)), x)


def test_in_place_is_refused():
    with pytest.raises(LayerError, match="never works in place"):
        layer('type: "AbsVal" bottom: "b0" top: "b0"', (1, 3))
