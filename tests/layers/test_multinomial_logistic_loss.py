"""MultinomialLogisticLoss: the floor under the logarithm."""

import math

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "MultinomialLogisticLoss" bottom: "b0" bottom: "b1" top: "loss"'
P = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
LABELS = torch.tensor([0.0, 1])


def test_by_hand():
    (loss,) = layer(TEXT, (2, 2), (2,))(P, LABELS)
    assert loss.shape == ()
    assert loss.item() == pytest.approx((math.log(4) + math.log(2)) / 2)


def test_a_probability_of_0_is_floored_in_loss_and_diff():
    p = torch.tensor([[0.0, 1]], requires_grad=True)
    (loss,) = layer(TEXT, (1, 2), (1,))(p, torch.zeros(1))
    assert loss.item() == pytest.approx(20 * math.log(10), rel=1e-6)
    loss.backward()
    assert p.grad[0, 0].item() == pytest.approx(-1e20, rel=1e-6)
    assert p.grad[0, 1].item() == 0


def test_items_without_an_axis_of_classes_have_one_class():
    (loss,) = layer(TEXT, (2,), (2,))(torch.tensor([0.25, 1]), torch.zeros(2))
    assert loss.item() == pytest.approx(math.log(4) / 2)


def test_gradients():
    check_gradients(layer(TEXT, (2, 2), (2,)), P, LABELS)


def test_what_it_refuses():
    with pytest.raises(LayerError, match="label 2; expected 0 to 1"):
        layer(TEXT, (2, 2), (2,))(P, torch.tensor([0.0, 2]))
    with pytest.raises(LayerError, match="as many"):
        layer(TEXT, (2, 2), (3,))
