import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "PReLU" bottom: "b0" top: "y" prelu_param {{ {} }}'


def test_slopes_start_at_a_quarter():
    module = layer(TEXT.format(""), (1, 3, 2))
    assert module.param("weight").tolist() == [0.25] * 3
    x = torch.tensor([[[-4.0, 4.0], [0.0, -8.0], [1.0, 2.0]]])
    assert module(x)[0].tolist() == [[[-1, 4], [0, -2], [1, 2]]]


def test_one_slope_for_all_channels_is_a_scalar():
    module = layer(TEXT.format("channel_shared: true filler { value: -2 }"), (2, 3, 2))
    assert module.param("weight").shape == ()
    x = torch.full((2, 3, 2), -1.0)
    assert module(x)[0].unique().tolist() == [2]
    module(x)[0].sum().backward()
    assert module.param("weight").shape == module.weight.grad.shape == ()
    assert module.weight.grad.item() == -12


def test_zero_counts_as_negative():
    module = layer(TEXT.format(""), (1, 1))
    x = torch.zeros(1, 1, requires_grad=True)
    module(x)[0].backward()
    assert x.grad.item() == 0.25


@pytest.mark.parametrize("shared", ["true", "false"])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 2, 2)])
def test_gradients(shared, shape):
    module = layer(TEXT.format(f"channel_shared: {shared}"), shape)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    check_gradients(module, torch.where(x.abs() < 0.1, 0.5, x))


def test_a_bottom_without_channels_is_refused():
    with pytest.raises(LayerError, match=r"expected \(N, C"):
        layer(TEXT.format(""), (3,))
