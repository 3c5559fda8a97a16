"""ReLU: both slopes, the kink, in place."""

import torch

from tests.layers.helpers import check_gradients, layer, net_of

TEXT = 'type: "ReLU" bottom: "b0" top: "y"'
LEAKY = TEXT + " relu_param { negative_slope: 0.25 }"
X = torch.tensor([[-2.0, -0.5, 0.5, 3]])


def test_values():
    assert layer(TEXT, (1, 4))(X)[0].tolist() == [[0, 0, 0.5, 3]]
    assert layer(LEAKY, (1, 4))(X)[0].tolist() == [[-0.5, -0.125, 0.5, 3]]


def test_gradients():
    check_gradients(layer(TEXT, (1, 4)), X)
    check_gradients(layer(LEAKY, (1, 4)), X)


def test_the_diff_at_0_is_the_negative_slope():
    for text, slope in ((TEXT, 0), (LEAKY, 0.25)):
        x = torch.zeros(1, 4, requires_grad=True)
        layer(text, (1, 4))(x)[0].sum().backward()
        assert x.grad.eq(slope).all()


def test_in_place_leaves_the_callers_data_alone():
    net = net_of('layer { name: "r" type: "ReLU" bottom: "b0" top: "b0" }', (1, 4))
    x = X.clone()
    assert net({"b0": x}, keep="all")["b0"].tolist() == [[0, 0, 0.5, 3]]
    assert torch.equal(x, X)


def test_in_place_a_negative_slope_below_0_reverses_the_sign_that_backward_reads():
    text = 'type: "ReLU" bottom: "b0" top: "b0" relu_param { negative_slope: -0.5 }'
    x = torch.tensor([[-2.0, 3.0]], requires_grad=True)
    (y,) = layer(text, (1, 2))(x)
    assert y.tolist() == [[1, 3]]
    y.sum().backward()
    assert x.grad.tolist() == [[1, 1]]  # the derivative at -2 is -0.5
