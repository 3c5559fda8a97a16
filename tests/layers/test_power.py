import math

import pytest
import torch

from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "Power" bottom: "b0" top: "{}" power_param {{ {} }}'


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", lambda v: v),
        ("scale: -3 shift: 0.5", lambda v: -3 * v + 0.5),
        ("power: 2 scale: 0.5 shift: 1", lambda v: (0.5 * v + 1) ** 2),
        ("power: 3", lambda v: v**3),  # a whole power takes negative bases
        ("power: -2 shift: 4", lambda v: (v + 4) ** -2.0),
        ("power: 0 scale: 2", lambda v: 1),
        ("power: 0 shift: 0", lambda v: 1),
        ("power: 3 scale: 0 shift: 2", lambda v: 8),
    ],
)
def test_values(options, expected):
    x = torch.tensor([[-1.5, 0.25, 2.0]], dtype=torch.float64)
    module = layer(TEXT.format("y", options), (1, 3))
    wanted = torch.tensor([[expected(v) for v in x[0].tolist()]], dtype=torch.float64)
    torch.testing.assert_close(module(x)[0], wanted)
    check_gradients(module, x)


def test_a_fractional_power_of_a_negative_base_is_nan():
    (y,) = layer(TEXT.format("y", "power: 0.5"), (1, 2))(torch.tensor([[-1.0, 4.0]]))
    assert y[0, 0].isnan()
    assert y[0, 1] == 2


def test_a_negative_power_of_zero_is_infinite():
    (y,) = layer(TEXT.format("y", "power: -1"), (1, 1))(torch.zeros(1, 1))
    assert y.item() == math.inf


def test_the_constant_of_a_negative_shift_is_nan_for_a_fractional_power():
    module = layer(TEXT.format("y", "power: 0.5 scale: 0 shift: -1"), (1, 1))
    assert module(torch.ones(1, 1))[0].isnan()


def test_the_diff_at_zero_is_the_derivative():
    x = torch.zeros(1, 1, requires_grad=True)
    layer(TEXT.format("y", "power: 3"), (1, 1))(x)[0].backward()
    assert x.grad.item() == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("scale: -3 shift: 0.5", lambda y: -3),
        ("power: 2 scale: 0.5 shift: 1", lambda y: 0.5 * y + 1),
        ("power: 3", lambda y: 3),
        ("power: 3 scale: 2 shift: 4", lambda y: 6 * y / (2 * y + 4)),
        ("power: 0 shift: 4", lambda y: 0),
    ],
)
def test_in_place_the_diff_is_a_square_without_the_tops_diff(options, expected):
    x = torch.tensor([[0.5, 1.5]], dtype=torch.float64, requires_grad=True)
    (y,) = layer(TEXT.format("b0", options), (1, 2))(x)
    y.backward(torch.tensor([[5.0, -3.0]], dtype=torch.float64))
    wanted = torch.tensor([[expected(v) ** 2 for v in y[0].tolist()]], dtype=torch.float64)
    torch.testing.assert_close(x.grad, wanted)
