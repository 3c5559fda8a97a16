import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer, net_of

TEXT = 'type: "LRN" bottom: "b0" top: "y" lrn_param {{ {} }}'


def sample(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def across(x, size, alpha, beta, k):
    y = torch.empty_like(x)
    for c in range(x.shape[1]):
        low, high = max(c - size // 2, 0), c + size // 2 + 1
        squares = x[:, low:high].square().sum(1)
        y[:, c] = x[:, c] * (k + alpha / size * squares) ** -beta
    return y


def within(x, size, alpha, beta):
    """The divisor counts the padding but not what hangs over beyond it."""
    y = torch.empty_like(x)
    height, width = x.shape[2:]
    reach = size // 2
    for i in range(height):
        for j in range(width):
            window = x[..., max(i - reach, 0) : i + reach + 1, max(j - reach, 0) : j + reach + 1]
            area = 1
            for at, length in ((i, height), (j, width)):
                area *= min(at - reach + size, length + reach) - (at - reach)
            mean = window.square().sum((2, 3)) / area
            y[..., i, j] = x[..., i, j] * (1 + alpha * mean) ** -beta
    return y


@pytest.mark.parametrize(("size", "k"), [(1, 1), (3, 2), (5, 1), (9, 0.5)])
def test_across_channels(size, k):
    text = f"local_size: {size} alpha: 0.5 beta: 0.75 k: {k}"
    module = layer(TEXT.format(text), (2, 4, 3, 2))
    x = sample(2, 4, 3, 2)
    torch.testing.assert_close(module(x)[0], across(x, size, 0.5, 0.75, k))
    check_gradients(module, x)


@pytest.mark.parametrize(("size", "shape"), [(3, (4, 5)), (5, (3, 4)), (5, (2, 2)), (1, (2, 3))])
def test_within_a_channel_the_average_is_poolings_and_k_is_not_used(size, shape):
    text = f"local_size: {size} alpha: 0.5 beta: 0.75 k: 7 norm_region: WITHIN_CHANNEL"
    module = layer(TEXT.format(text), (2, 2, *shape))
    x = sample(2, 2, *shape)
    torch.testing.assert_close(module(x)[0], within(x, size, 0.5, 0.75))
    check_gradients(module, x)


@pytest.mark.parametrize("size", [0, 2, 4])
def test_an_even_size_is_refused(size):
    with pytest.raises(LayerError, match=f"local_size is {size}; expected an odd"):
        layer(TEXT.format(f"local_size: {size}"), (1, 4, 3, 3))


def test_other_than_four_axes_are_refused():
    with pytest.raises(LayerError, match=r"expected \(N, C, H, W\)"):
        layer(TEXT.format(""), (1, 4, 3))


@pytest.mark.parametrize("optimized", [False, True])
def test_a_neighbourhood_beyond_all_channels_costs_no_more(optimized):
    net = net_of('layer { name: "n" type: "LRN" bottom: "b0" top: "y" lrn_param { '
                 "local_size: 2147483647 alpha: 4e9 k: 1 } }", (2, 3, 4, 5))  # fmt: skip
    x = torch.rand(2, 3, 4, 5)
    found = (net.optimized(engine="torch") if optimized else net)(x)["y"]
    wanted = x * (1 + 4e9 / 2147483647 * x.square().sum(1, keepdim=True)).pow(-0.75)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_the_sums_in_order_are_the_same_sums(size):
    x = torch.randn(2, 4, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    text = f'type: "LRN" bottom: "b0" top: "y" lrn_param {{ local_size: {size} alpha: 0.5 k: 2 }}'
    module = layer(text, x.shape).double()
    (wanted,) = module(x)
    module.in_order = True
    (found,) = module(x)
    assert torch.allclose(found, wanted, rtol=1e-12)
