"""HingeLoss: both norms."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "HingeLoss" bottom: "b0" bottom: "b1" top: "loss"'
L2 = TEXT + " hinge_loss_param { norm: L2 }"
X = torch.tensor([[0.5, -2, 0.25], [3, 0, -0.5]])
LABELS = torch.tensor([0.0, 1])
# shortfalls: 0.5, 0, 1.25; 4, 1, 0.5


@pytest.mark.parametrize(
    ("text", "wanted"), [(TEXT, 7.25 / 2), (L2, (0.25 + 1.5625 + 16 + 1 + 0.25) / 2)]
)
def test_by_hand(text, wanted):
    (loss,) = layer(text, (2, 3), (2,))(X, LABELS)
    assert loss.shape == ()
    assert loss.item() == wanted


def test_a_score_at_the_margin_gets_no_diff():
    x = torch.tensor([[1.0, -1]], requires_grad=True)
    layer(TEXT, (1, 2), (1,))(x, torch.zeros(1))[0].backward()
    assert not x.grad.any()


@pytest.mark.parametrize("text", [TEXT, L2])
def test_gradients(text):
    check_gradients(layer(text, (2, 3), (2,)), X, LABELS)


def test_all_axes_after_the_first_are_classes():
    (loss,) = layer(TEXT, (2, 3, 1, 1), (2, 1, 1, 1))(
        X.reshape(2, 3, 1, 1), LABELS.reshape(2, 1, 1, 1)
    )
    assert loss.item() == 7.25 / 2


def test_items_without_an_axis_of_classes_have_one_class():
    (loss,) = layer(TEXT, (2,), (2,))(torch.tensor([0.5, 3]), torch.zeros(2))
    assert loss.item() == 0.5 / 2


def test_what_it_refuses():
    with pytest.raises(LayerError, match="label 3; expected 0 to 2"):
        layer(TEXT, (2, 3), (2,))(X, torch.tensor([0.0, 3]))
    with pytest.raises(LayerError, match="one per item"):
        layer(TEXT, (2, 3), (2, 3))
