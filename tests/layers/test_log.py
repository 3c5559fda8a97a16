import math

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "Log" bottom: "b0" top: "{}" log_param {{ {} }}'


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", math.log),
        ("base: 10", math.log10),
        ("base: 0.5 scale: 3 shift: 1", lambda v: math.log(3 * v + 1, 0.5)),
    ],
)
def test_values(options, expected):
    x = torch.tensor([[0.25, 1.0, 7.0]], dtype=torch.float64)
    module = layer(TEXT.format("y", options), (1, 3))
    wanted = torch.tensor([[expected(v) for v in x[0].tolist()]], dtype=torch.float64)
    torch.testing.assert_close(module(x)[0], wanted)
    check_gradients(module, x)


def test_zero_gives_minus_infinity_and_negative_values_nan():
    (y,) = layer(TEXT.format("y", ""), (1, 2))(torch.tensor([[0.0, -1.0]]))
    assert y[0, 0] == -math.inf
    assert y[0, 1].isnan()


def test_in_place_the_diff_is_the_squared_derivative_at_the_top():
    x = torch.tensor([[math.e, math.e**2]], requires_grad=True)
    (y,) = layer(TEXT.format("b0", "scale: 2 shift: 1"), (1, 2))(x)
    y.backward(torch.tensor([[5.0, -3.0]]))  # Caffe never reads it
    top = [math.log(2 * math.e + 1), math.log(2 * math.e**2 + 1)]
    expected = [(2 / (2 * v + 1)) ** 2 for v in top]
    torch.testing.assert_close(x.grad, torch.tensor([expected]))


@pytest.mark.parametrize("base", ["1", "0", "-3"])
def test_a_base_without_a_logarithm_is_refused(base):
    with pytest.raises(LayerError, match="base is"):
        layer(TEXT.format("y", f"base: {base}"), (1, 3))
