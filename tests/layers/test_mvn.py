import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "MVN" bottom: "b0" top: "y" mvn_param {{ {} }}'


def sample(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("variance", [False, True])
def test_rows_of_mean_0_and_variance_1(across, variance):
    flags = f"across_channels: {str(across).lower()} normalize_variance: {str(variance).lower()}"
    module = layer(TEXT.format(flags), (2, 3, 4, 5))
    x = sample(2, 3, 4, 5) * 3 + 2
    axes = (1, 2, 3) if across else (2, 3)
    expected = x - x.mean(axes, keepdim=True)
    if variance:
        expected = expected / x.std(axes, correction=0, keepdim=True)
    torch.testing.assert_close(module(x)[0], expected)
    check_gradients(module, x)


def test_eps_is_added_to_the_standard_deviation():
    module = layer(TEXT.format("eps: 0.5"), (1, 1, 1, 2))
    (y,) = module(torch.tensor([[[[1.0, 3.0]]]]))
    torch.testing.assert_close(y, torch.tensor([[[[-1 / 1.5, 1 / 1.5]]]]))


def test_backward_uses_the_divisor_as_the_deviation():
    module = layer(TEXT.format("eps: 0.5"), (1, 1, 1, 2))
    x = torch.tensor([[[[1.0, 3.0]]]], dtype=torch.float64, requires_grad=True)
    (y,) = module(x)
    y.backward(torch.tensor([[[[1.0, 0.0]]]], dtype=torch.float64))
    top = torch.tensor([-1 / 1.5, 1 / 1.5], dtype=torch.float64)
    diff = torch.tensor([1.0, 0.0], dtype=torch.float64)
    expected = (diff - 0.5 - top * (top * diff).mean()) / 1.5
    torch.testing.assert_close(x.grad.flatten(), expected)


def test_a_constant_plane_gives_zeros_and_a_finite_diff():
    module = layer(TEXT.format("eps: 0.25"), (1, 1, 1, 2))
    x = torch.full((1, 1, 1, 2), 7.0, requires_grad=True)
    (y,) = module(x)
    y.backward(torch.tensor([[[[1.0, 0.0]]]]))
    assert y.flatten().tolist() == [0, 0]
    assert x.grad.flatten().tolist() == [2, -2]


def test_the_top_always_has_four_axes():
    module = layer(TEXT.format("across_channels: true"), (2, 6))
    assert module.spec.top_shapes == ((2, 6, 1, 1),)
    assert module(sample(2, 6))[0].shape == (2, 6, 1, 1)


def test_five_axes_are_refused():
    with pytest.raises(LayerError, match="at most 4"):
        layer(TEXT.format(""), (1, 2, 3, 4, 5))
