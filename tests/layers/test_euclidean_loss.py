"""EuclideanLoss: the divisors of Caffe and of DeepLab v1."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "EuclideanLoss" bottom: "b0" bottom: "b1" top: "loss"'
ROOT = TEXT + " euclidean_loss_param { type: L2sqrt }"
A = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
B = torch.tensor([[1.0, 0, 3], [0, 5, 5]])  # squares: 4, 16, 1


@pytest.mark.parametrize("dialect", ["bvlc", "deeplab2"])
def test_half_the_squared_distance_per_item(dialect):
    (loss,) = layer(TEXT, (2, 3), (2, 3), dialect=dialect)(A, B)
    assert loss.shape == ()
    assert loss.item() == 21 / 2 / 2


def test_deeplab1_divides_by_all_values():
    assert layer(TEXT, (2, 3), (2, 3), dialect="deeplab1")(A, B)[0].item() == 21 / 6 / 2
    root = layer(ROOT, (2, 3), (2, 3), dialect="deeplab1")(A, B)[0]
    assert root.item() == pytest.approx((21 / 6) ** 0.5)


def test_other_axes_of_equal_size_are_accepted():
    (loss,) = layer(TEXT, (2, 3), (2, 3, 1, 1))(A, B.reshape(2, 3, 1, 1))
    assert loss.item() == 21 / 4


@pytest.mark.parametrize("text", [TEXT, ROOT])
@pytest.mark.parametrize("dialect", ["bvlc", "deeplab1"])
def test_both_bottoms_get_diffs(text, dialect):
    check_gradients(layer(text, (2, 3), (2, 3), dialect=dialect), A, B, wrt=(0, 1))


def test_the_diff_of_the_root_is_finite_at_0():
    a = A.clone().requires_grad_()
    layer(ROOT, (2, 3), (2, 3), dialect="deeplab1")(a, A)[0].backward()
    assert not a.grad.any()
    near = torch.full((2, 3), 3e-7, requires_grad=True)
    layer(ROOT, (2, 3), (2, 3), dialect="deeplab1")(near, torch.zeros(2, 3))[0].backward()
    assert near.grad.sum().item() == pytest.approx(0.3, rel=1e-4)  # 1 without the floor of 1e-6


@pytest.mark.parametrize("other", [(3, 3), (2, 4), ()])
def test_what_it_refuses(other):
    with pytest.raises(LayerError, match="expected"):
        layer(TEXT, (2, 3), other)
