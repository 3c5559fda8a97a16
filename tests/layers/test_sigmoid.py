import math

import torch

from tests.layers.helpers import check_gradients, layer


def test_values_and_gradients():
    module = layer('type: "Sigmoid" bottom: "b0" top: "y"', (1, 4))
    x = torch.tensor([[-200.0, -1.0, 0.0, 200.0]], dtype=torch.float64)
    expected = [[0, 1 / (1 + math.e), 0.5, 1]]
    torch.testing.assert_close(module(x)[0], torch.tensor(expected, dtype=torch.float64))
    check_gradients(module, x)
