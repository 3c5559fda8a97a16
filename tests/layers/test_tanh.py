import math

import torch

from tests.layers.helpers import check_gradients, layer


def test_values_and_gradients():
    module = layer('type: "TanH" bottom: "b0" top: "y"', (1, 3))
    x = torch.tensor([[-1.0, 0.0, 50.0]], dtype=torch.float64)
    expected = [[math.tanh(v) for v in x[0].tolist()]]
    torch.testing.assert_close(module(x)[0], torch.tensor(expected, dtype=torch.float64))
    check_gradients(module, x)
