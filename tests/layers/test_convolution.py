import itertools

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "Convolution" bottom: "b0" top: "y" convolution_param {{ num_output: 4 {} }}'


def sample(*shape, seed=6):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def built(options, *shape, text=TEXT):
    module = layer(text.format(options), shape).double()
    with torch.no_grad():
        for i, param in enumerate(module.parameters()):
            param.copy_(sample(*param.shape, seed=i))
    return module


def by_hand(x, weight, bias, stride, pad, dilation, group):
    """Correlation of (N, C, ...), a sum over the kernel's places; zeros all around."""
    axes, kernel = x.dim() - 2, weight.shape[2:]
    extent = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = [s + 2 * p for s, p in zip(x.shape[2:], pad, strict=True)]
    padded = x.new_zeros(*x.shape[:2], *(s + e for s, e in zip(size, extent, strict=True)))
    padded[(..., *(slice(p, p + s) for s, p in zip(x.shape[2:], pad, strict=True)))] = x
    # as in C, towards zero
    sizes = [int((size[i] - extent[i]) / stride[i]) + 1 for i in range(axes)]
    top = torch.zeros(len(x), len(weight), *sizes, dtype=x.dtype)
    ins, outs = x.shape[1] // group, len(weight) // group
    for g, place in itertools.product(range(group), itertools.product(*map(range, kernel))):
        window = [
            slice(place[i] * dilation[i], place[i] * dilation[i] + (sizes[i] - 1) * stride[i] + 1,
                  stride[i])
            for i in range(axes)
        ]  # fmt: skip
        part = padded[(slice(None), slice(g * ins, (g + 1) * ins), *window)]
        filters = weight[(slice(g * outs, (g + 1) * outs), slice(None), *place)]
        top[:, g * outs : (g + 1) * outs] += torch.einsum("nc...,oc->no...", part, filters)
    return top if bias is None else top + bias.reshape(-1, *[1] * axes)


CASES = [
    ("kernel_size: 3", (2, 2, 7), (1,), (0,), (1,), 1),
    ("kernel_size: 2 stride: 2 pad: 1 dilation: 3", (2, 2, 9), (2,), (1,), (3,), 1),
    ("kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 2 pad_h: 0 pad_w: 2", (2, 2, 4, 5),
     (1, 2), (0, 2), (1, 1), 1),
    ("kernel_size: 3 kernel_size: 1 stride: 2 stride: 1 group: 2", (1, 4, 5, 4),
     (2, 1), (0, 0), (1, 1), 2),
    ("kernel_size: 2 pad: 1 dilation: 2 bias_term: false", (1, 2, 3, 4), (1, 1), (1, 1), (2, 2), 1),
    ("kernel_size: 2 force_nd_im2col: true", (1, 2, 3, 4), (1, 1), (0, 0), (1, 1), 1),
    ("kernel_size: 1 kernel_size: 2 kernel_size: 3 pad: 1", (1, 2, 2, 3, 4),
     (1, 1, 1), (1, 1, 1), (1, 1, 1), 1),
    # larger than the padded input by less than the stride: one window, with zeros behind
    ("kernel_h: 2 kernel_w: 4 dilation: 2 stride: 2", (2, 2, 6, 6), (2, 2), (0, 0), (2, 2), 1),
    ("kernel_size: 5 dilation: 3 pad: 2 stride: 3", (1, 2, 11, 8), (3, 3), (2, 2), (3, 3), 1),
    ("kernel_size: 5 dilation: 3 pad: 2 stride: 2 group: 2", (1, 4, 11, 8),
     (2, 2), (2, 2), (3, 3), 2),
    ("kernel_size: 4 stride: 4", (2, 2, 1), (4,), (0,), (1,), 1),
    ("kernel_size: 3 dilation: 2 stride: 3", (1, 2, 4, 3, 9), (3, 3, 3), (0, 0, 0), (2, 2, 2), 1),
]  # fmt: skip


@pytest.mark.parametrize(("options", "shape", "stride", "pad", "dilation", "group"), CASES)
def test_one_to_three_axes(options, shape, stride, pad, dilation, group):
    module, x = built(options, *shape), sample(*shape)
    expected = by_hand(x, module.param("weight"), module.blob(1), stride, pad, dilation, group)
    assert module.spec.top_shapes == (tuple(expected.shape),)
    torch.testing.assert_close(module(x)[0], expected)
    check_gradients(module, x)


def test_axes_before_the_channel_axis_are_looped_over():
    module, x = built("kernel_size: 2 axis: 2", 3, 2, 2, 5), sample(3, 2, 2, 5)
    assert module.spec.params[0].shape == (4, 2, 2)
    assert module.spec.top_shapes == ((3, 2, 4, 4),)
    single = by_hand(x[1], module.param("weight"), module.blob(1), (1,), (0,), (1,), 1)
    torch.testing.assert_close(module(x)[0][1], single)
    check_gradients(module, x)


def test_axis_0_has_no_batch():
    module, x = built("kernel_size: 2 axis: 0", 2, 3, 4), sample(2, 3, 4)
    expected = by_hand(x[None], module.param("weight"), module.blob(1), (1, 1), (0, 0), (1, 1), 1)
    assert module.spec.top_shapes == ((4, 2, 3),)
    torch.testing.assert_close(module(x)[0], expected[0])


def test_without_spatial_axes_it_is_an_inner_product():
    module, x = built("kernel_size: 1", 3, 2), sample(3, 2)
    assert module.spec.params[0].shape == (4, 2)
    torch.testing.assert_close(module(x)[0], x @ module.param("weight").t() + module.blob(1))
    check_gradients(module, x)


def test_several_bottoms_go_through_the_same_filters():
    text = (
        'type: "Convolution" bottom: "b0" bottom: "b1" top: "y" top: "z" '
        "convolution_param { num_output: 3 kernel_size: 2 weight_filler { type: 'xavier' } }"
    )
    module = layer(text, (1, 2, 4, 4), (1, 2, 4, 4)).double()
    x, z = sample(1, 2, 4, 4), sample(1, 2, 4, 4, seed=7)
    tops = module(x, z)
    torch.testing.assert_close(tops[0], module(x, x)[1])
    torch.testing.assert_close(tops[1], module(z, z)[0])


def test_another_size_than_the_nets_own():
    module, x = built("kernel_size: 3", 1, 2, 5, 5), sample(2, 2, 9, 4)
    assert module(x)[0].shape == (2, 4, 7, 2)


def test_multiply_adds():
    module = built("kernel_size: 3 group: 2", 2, 4, 5, 6)
    assert module.spec.multiply_adds == 2 * 4 * 3 * 4 * 2 * 9


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ("", (1, 2, 4, 4), "kernel size is"),
        ("kernel_h: 3", (1, 2, 4, 4), "kernel size is"),
        ("kernel_size: 3 kernel_h: 3", (1, 2, 4, 4), "exclude one another"),
        ("kernel_h: 2 kernel_w: 2", (1, 2, 4), "1 spatial axes; they go with 2"),
        ("kernel_size: 2 pad_h: 1", (1, 2, 4, 4, 4), "3 spatial axes; they go with 2"),
        ("kernel_size: 2 kernel_size: 2", (1, 2, 4), "kernel_size is given 2 times"),
        ("kernel_size: 2 stride: 1 stride: 1 stride: 1", (1, 2, 4, 4), "stride is given 3 times"),
        ("kernel_size: 2 stride: 0", (1, 2, 4, 4), "stride is"),
        ("kernel_size: 2 dilation: 0", (1, 2, 4, 4), "dilation is"),
        ("kernel_size: 5", (1, 2, 4, 4), "below the kernel 5 by the stride 1"),
        ("kernel_size: 3 dilation: 2", (1, 2, 4, 4), "below the kernel 5"),
        ("kernel_size: 6 stride: 2", (1, 2, 4, 4), "below the kernel 6 by the stride 2"),
        ("kernel_size: 1", (1, 2, 1, 1, 1, 1), "4 spatial axes after axis 1; at most 3"),
        ("kernel_size: 1 axis: 5", (1, 2, 4, 4), "axis 5"),
        ("kernel_size: 1 group: 3", (1, 2, 4, 4), "multiple of group 3"),
        ("kernel_size: 1 group: 4", (1, 2, 4, 4), "2 channels"),
        ("kernel_size: 1 group: 0", (1, 2, 4, 4), "group 0"),
    ],
)
def test_what_does_not_fit_is_refused(options, shape, message):
    with pytest.raises(LayerError, match=message):
        layer(TEXT.format(options), shape)


def test_bottoms_of_two_shapes_are_refused():
    text = 'type: "Convolution" bottom: "b0" bottom: "b1" top: "y" top: "z" '
    with pytest.raises(LayerError, match="bottom 1 has shape"):
        layer(text + "convolution_param { num_output: 1 kernel_size: 1 }", (1, 2, 4), (1, 2, 5))


@pytest.mark.parametrize("type", ["Convolution", "Deconvolution"])
def test_each_bottom_has_its_top(type):
    text = f'type: "{type}" bottom: "b0" bottom: "b1" top: "y" convolution_param'
    with pytest.raises(LayerError, match="1 tops for 2 bottoms; expected one each"):
        layer(text + " { num_output: 1 kernel_size: 1 }", (1, 2, 3, 3), (1, 2, 3, 3))
