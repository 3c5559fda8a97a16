import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer, net_of

TEXT = 'type: "Deconvolution" bottom: "b0" top: "y" convolution_param {{ num_output: {} {} }}'
FORWARD = 'type: "Convolution" bottom: "b0" top: "y" convolution_param {{ num_output: {} {} }}'


def sample(*shape, seed=8):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ("kernel_size: 4 stride: 2 pad: 1", (2, 4, 3, 5)),
        ("kernel_size: 3 dilation: 2", (1, 4, 3, 3)),
        ("kernel_h: 2 kernel_w: 3 stride_h: 3 stride_w: 1", (1, 4, 2, 4)),
        ("kernel_size: 4 stride: 2 group: 2", (1, 4, 3, 2)),
        ("kernel_size: 3 stride: 2 pad: 1", (2, 4, 5)),
        ("kernel_size: 2 stride: 2", (1, 4, 2, 3, 2)),
        ("kernel_size: 1", (3, 4)),
        ("kernel_size: 2 axis: 2", (2, 3, 4, 5)),
    ],
)
def test_it_is_the_transpose_of_convolution(options, shape):
    """<deconvolve(x), z> = <x, convolve(z)> for the same weights and any z."""
    module = layer(TEXT.format(2, options + " bias_term: false"), shape).double()
    (top,) = module.spec.top_shapes
    forward = layer(FORWARD.format(4, options + " bias_term: false"), top).double()
    assert module.spec.params[0].shape == forward.spec.params[0].shape
    x, z, weight = sample(*shape), sample(*top, seed=9), sample(*module.spec.params[0].shape)
    with torch.no_grad():
        module.get_parameter("weight").copy_(weight)
        forward.get_parameter("weight").copy_(weight)
    assert module(x)[0].shape == top
    torch.testing.assert_close((module(x)[0] * z).sum(), (x * forward(z)[0]).sum())
    check_gradients(module, x)


def test_the_bias_is_per_output_channel():
    module = layer(TEXT.format(3, "kernel_size: 2 bias_filler { value: 5 }"), (1, 2, 3, 3))
    assert [p.shape for p in module.spec.params] == [(2, 3, 2, 2), (3,)]
    assert module(torch.zeros(1, 2, 3, 3))[0].unique().tolist() == [5]


def test_bilinear_filters_keep_a_ramp():
    text = "kernel_size: 4 stride: 2 pad: 1 group: 2 bias_term: false "
    text += "weight_filler { type: 'bilinear' }"
    module = layer(TEXT.format(2, text), (1, 2, 4, 4))
    ramp = torch.arange(4.0).expand(1, 2, 4, 4)
    (y,) = module(ramp)
    assert y.shape == (1, 2, 8, 8)
    assert y[0, 1, 3, 1:7].tolist() == [0.25, 0.75, 1.25, 1.75, 2.25, 2.75]


def test_multiply_adds_count_what_is_spread():
    net = net_of(
        f'layer {{ name: "op" {TEXT.format(6, "kernel_size: 3 stride: 2 group: 2")} }}',
        (2, 4, 3, 3),
    )
    assert net.spec.layer("op").multiply_adds == 2 * 4 * 9 * (6 // 2) * 9


def test_padding_away_everything_is_refused():
    with pytest.raises(LayerError, match="would become 0"):
        layer(TEXT.format(1, "kernel_size: 2 pad: 1"), (1, 1, 1, 1))
