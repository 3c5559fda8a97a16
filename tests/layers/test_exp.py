import math

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "Exp" bottom: "b0" top: "y" exp_param {{ {} }}'


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", math.exp),
        ("base: 2", lambda v: 2**v),
        ("base: 1", lambda v: 1.0),
        ("base: 2 scale: 3 shift: -1", lambda v: 2 ** (3 * v - 1)),
        ("scale: 0.5 shift: 1", lambda v: math.exp(0.5 * v + 1)),
    ],
)
def test_values(options, expected):
    x = torch.tensor([[-1.5, 0.0, 2.0]], dtype=torch.float64)
    module = layer(TEXT.format(options), (1, 3))
    wanted = torch.tensor([[expected(v) for v in x[0].tolist()]], dtype=torch.float64)
    torch.testing.assert_close(module(x)[0], wanted)
    check_gradients(module, x)


@pytest.mark.parametrize("base", ["", "base: 10"])
def test_a_factor_beyond_all_numbers_is_infinite(base):
    (y,) = layer(TEXT.format(f"{base} shift: 1000"), (1, 2))(torch.tensor([[-1.0, 2.0]]))
    assert y.tolist() == [[math.inf, math.inf]]


@pytest.mark.parametrize("base", ["0", "-2", "inf"])
def test_a_base_without_a_logarithm_is_refused(base):
    with pytest.raises(LayerError, match="base is"):
        layer(TEXT.format(f"base: {base}"), (1, 3))
