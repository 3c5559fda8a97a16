import pytest
import torch
from torch.nn import functional

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "Im2col" bottom: "b0" top: "y" convolution_param {{ {} }}'


def sample(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(10), dtype=torch.float64)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ("kernel_size: 3", {"kernel_size": 3}),
        ("kernel_size: 3 stride: 2 pad: 1", {"kernel_size": 3, "stride": 2, "padding": 1}),
        ("kernel_size: 2 dilation: 2 force_nd_im2col: true", {"kernel_size": 2, "dilation": 2}),
        ("kernel_h: 2 kernel_w: 3 pad_h: 0 pad_w: 2", {"kernel_size": (2, 3), "padding": (0, 2)}),
    ],
)
def test_two_axes_are_torchs_unfold(options, arguments):
    module, x = layer(TEXT.format(options), (2, 3, 5, 6)), sample(2, 3, 5, 6)
    (y,) = module(x)
    assert module.spec.top_shapes == (tuple(y.shape),)
    assert torch.equal(y.flatten(2), functional.unfold(x, **arguments))
    check_gradients(module, x)


def test_one_axis():
    module = layer(TEXT.format("kernel_size: 2 pad: 1"), (1, 2, 3))
    (y,) = module(torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]))
    assert y.tolist() == [[[0, 1, 2, 3], [1, 2, 3, 0], [0, 4, 5, 6], [4, 5, 6, 0]]]


def test_a_window_larger_than_the_axis_reads_zeros():
    """One window where the kernel is larger by less than the stride."""
    module = layer(TEXT.format("kernel_size: 3 dilation: 2 stride: 3 pad: 1"), (1, 1, 2))
    x = torch.tensor([[[1.0, 2.0]]], requires_grad=True)
    (y,) = module(x)  # of 0 1 2 0, and zeros behind
    assert y.tolist() == [[[0], [2], [0]]]
    y.backward(torch.tensor([[[3.0], [4.0], [5.0]]]))
    assert x.grad.tolist() == [[[0, 4]]]


@pytest.mark.parametrize(("options", "size"), [
    ("kernel_size: 4 dilation: 2 stride: 2", (6, 6)),
    ("kernel_h: 4 kernel_w: 2 stride_h: 3 stride_w: 1", (2, 5)),
])  # fmt: skip
def test_larger_windows_on_two_axes_are_torchs_unfold_of_a_padded_input(options, size):
    module, x = layer(TEXT.format(options), (2, 3, *size)), sample(2, 3, *size)
    window = module.spec.op.window((2, 3, *size))
    behind = [max(window.extent(i) - size[i], 0) for i in (0, 1)]
    padded = functional.pad(x, (0, behind[1], 0, behind[0]))
    expected = functional.unfold(
        padded, window.kernel, dilation=window.dilation, stride=window.stride
    )
    assert torch.equal(module(x)[0].flatten(2), expected)
    check_gradients(module, x)


def test_three_axes_and_a_channel_axis_in_front():
    module, x = layer(TEXT.format("kernel_size: 2 axis: 0"), (2, 3, 2, 2)), sample(2, 3, 2, 2)
    (y,) = module(x)
    assert y.shape == (16, 2, 1, 1)
    # the last place of the second channel's kernel
    assert torch.equal(y[15], x[1, 1:, 1:, 1:])
    check_gradients(module, x)


def test_what_does_not_fit_is_refused():
    with pytest.raises(LayerError, match="no axis after axis 1"):
        layer(TEXT.format("kernel_size: 1"), (2, 3))
    with pytest.raises(LayerError, match="below the kernel 4"):
        layer(TEXT.format("kernel_size: 4"), (2, 3, 3, 3))
