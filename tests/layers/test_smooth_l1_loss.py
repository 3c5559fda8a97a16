"""The recording has two bottoms; the weights of Fast R-CNN's CUDA code are checked by hand."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "SmoothL1Loss" {} top: "y" smooth_l1_loss_param {{ {} }}'
X = torch.tensor([[0.5, -3.0], [2.0, 0.1]])


def loss(bottoms, options=""):
    names = " ".join(f'bottom: "b{i}"' for i in range(bottoms))
    return layer(TEXT.format(names, options), *[(2, 2)] * bottoms)


def test_two_bottoms_by_hand():
    (y,) = loss(2)(X, torch.zeros(2, 2))
    assert y.item() == pytest.approx((0.125 + 2.5 + 1.5 + 0.005) / 2)


def test_sigma_moves_the_bend():
    (y,) = loss(2, "sigma: 3")(X, torch.zeros(2, 2))
    bend = 0.5 / 9
    assert y.item() == pytest.approx(((0.5 + 3 + 2) - 3 * bend + 0.5 * 9 * 0.01) / 2)


def test_weights_inside_and_outside():
    inside, outside = torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([[1.0, 3], [5, 0]])
    (y,) = loss(4)(X, torch.zeros(2, 2), inside, outside)
    assert y.item() == pytest.approx((0.5 + 3 * 2.5) / 2)
    check_gradients(loss(4), X, torch.zeros(2, 2), inside, outside, wrt=(0, 1))


def test_the_diff_of_three_bottoms_leaves_the_weight_out():
    x, weight = X.clone().requires_grad_(), torch.tensor([[0.5, 0.5], [0.1, 4.0]])
    (y,) = loss(3)(x, torch.zeros(2, 2), weight)
    y.backward()
    assert y.item() == pytest.approx((0.03125 + 1 + 0.02 + 0.08) / 2)
    torch.testing.assert_close(x.grad, torch.tensor([[0.25, -1.0], [0.2, 0.4]]) / 2)


def test_what_does_not_fit_is_refused():
    with pytest.raises(LayerError, match=r"bottom 1 has shape \(2, 3\); expected \(2, 2\)"):
        layer(TEXT.format('bottom: "b0" bottom: "b1"', ""), (2, 2), (2, 3))
    with pytest.raises(LayerError, match="sigma is 0; expected more than 0"):
        loss(2, "sigma: 0")
