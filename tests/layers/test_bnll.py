import math

import torch

from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "BNLL" bottom: "b0" top: "{}"'


def test_values_from_far_below_to_far_above_zero():
    x = torch.tensor([[-100.0, -1.0, 0.0, 1.0, 100.0]], dtype=torch.float64)
    (y,) = layer(TEXT.format("y"), (1, 5))(x)
    expected = [math.exp(-100), math.log1p(math.exp(-1)), math.log(2), math.log1p(math.e), 100]
    torch.testing.assert_close(y, torch.tensor([expected], dtype=torch.float64))


def test_gradients():
    check_gradients(layer(TEXT.format("y"), (1, 4)), torch.tensor([[-30.0, -1.0, 0.0, 30.0]]))


def test_in_place_the_derivative_is_taken_at_the_top():
    x = torch.tensor([[-1.0, 2.0]], requires_grad=True)
    (y,) = layer(TEXT.format("b0"), (1, 2))(x)
    y.backward(torch.tensor([[1.0, 10.0]]))
    at_top = [1 / (1 + math.exp(-math.log1p(math.exp(v)))) for v in (-1, 2)]
    torch.testing.assert_close(x.grad, torch.tensor([[at_top[0], 10 * at_top[1]]]))
