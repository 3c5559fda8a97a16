import math

import torch

from tests.layers.helpers import check_gradients, layer


def test_values_and_gradients():
    module = layer('type: "Swish" bottom: "b0" top: "y" swish_param { beta: 1.5 }', (1, 3))
    x = torch.tensor([[-1.0, 0.0, 2.0]], dtype=torch.float64)
    expected = [[v / (1 + math.exp(-1.5 * v)) for v in x[0].tolist()]]
    torch.testing.assert_close(module(x)[0], torch.tensor(expected, dtype=torch.float64))
    check_gradients(module, x)


def test_beta_defaults_to_1():
    (y,) = layer('type: "Swish" bottom: "b0" top: "y"', (1, 1))(torch.ones(1, 1))
    torch.testing.assert_close(y, torch.tensor([[1 / (1 + math.exp(-1))]]))
