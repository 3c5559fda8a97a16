import math

import torch

from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "ELU" bottom: "b0" top: "{}" elu_param {{ alpha: {} }}'


def test_values_and_the_diff_at_zero():
    x = torch.tensor([[-1.0, 0.0, 3.0]], requires_grad=True)
    (y,) = layer(TEXT.format("y", 2), (1, 3))(x)
    torch.testing.assert_close(y, torch.tensor([[2 * (math.exp(-1) - 1), 0, 3]]))
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[2 * math.exp(-1), 2, 1]]))


def test_gradients():
    for alpha in (0.5, -0.5):
        x = torch.tensor([[-1.0, 0.5, 3.0]])
        check_gradients(layer(TEXT.format("y", alpha), (1, 3)), x)


def test_in_place_a_negative_alpha_reverses_the_sign_that_backward_reads():
    x = torch.tensor([[-1.0, 3.0]], requires_grad=True)
    (y,) = layer(TEXT.format("b0", -0.5), (1, 2))(x)
    assert y[0, 0] > 0
    y.sum().backward()
    assert x.grad.tolist() == [[1, 1]]  # the derivative at -1 is -0.5 / e
