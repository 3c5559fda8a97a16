import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer, net_of

TEXT = 'type: "Pooling" bottom: "b0" top: "y" pooling_param {{ {} }}'
MASKED = 'type: "Pooling" bottom: "b0" top: "y" top: "mask" pooling_param {{ {} }}'


def sample(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(11), dtype=torch.float64)


@pytest.mark.parametrize(
    ("options", "size", "expected"),
    [
        ("kernel_size: 2 stride: 2", 5, 3),  # rounded up
        ("kernel_size: 2 stride: 2 round_mode: FLOOR", 5, 2),
        ("kernel_size: 2 stride: 2 ceil_mode: false", 5, 2),  # several forks' round_mode
        ("kernel_size: 2 stride: 2 ceil_mode: true", 5, 3),
        ("kernel_size: 2 stride: 2 ceil_mode: false round_mode: FLOOR", 5, 2),
        ("kernel_size: 3 stride: 2", 7, 3),
        ("kernel_size: 3 stride: 2 pad: 1", 6, 4),
        ("kernel_size: 2 stride: 2 pad: 1", 4, 3),  # 3 + 1 windows; the last starts in the padding
        ("kernel_size: 2 stride: 2 pad: 1", 5, 3),
        ("kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR", 6, 3),
        ("kernel_size: 3 stride: 1 pad: 2", 4, 6),  # pad up to kernel - 1
        ("kernel_size: 5", 5, 1),
        ("global_pooling: true", 7, 1),
        ("kernel_size: 1 stride: 3", 5, 3),
    ],
)
def test_output_sizes(options, size, expected):
    module = layer(TEXT.format(options), (1, 1, size, size))
    assert module.spec.top_shapes == ((1, 1, expected, expected),)
    assert module(torch.zeros(1, 1, size, size))[0].shape == (1, 1, expected, expected)


def test_padding_of_one_axis_clips_the_other_too():
    options = "kernel_size: 1 stride: 3 pool: AVE "
    assert layer(TEXT.format(options), (1, 1, 5, 5)).spec.top_shapes == ((1, 1, 3, 3),)
    module = layer(
        TEXT.format("kernel_h: 2 kernel_w: 1 stride: 3 pad_h: 1 pad_w: 0 pool: AVE"), (1, 1, 4, 5)
    )
    assert module.spec.top_shapes == ((1, 1, 2, 2),)


def by_hand(x, kernel, stride, pad, out, method):
    """Windows clipped to the bottom; an AVE divisor clipped to the padded bottom only."""
    height, width = x.shape[2:]
    y = torch.empty(*x.shape[:2], *out, dtype=x.dtype)
    for i in range(out[0]):
        for j in range(out[1]):
            top, left = i * stride - pad, j * stride - pad
            window = x[..., max(top, 0) : top + kernel, max(left, 0) : left + kernel]
            area = (min(top + kernel, height + pad) - top) * (
                min(left + kernel, width + pad) - left
            )
            y[..., i, j] = window.amax((2, 3)) if method == "MAX" else window.sum((2, 3)) / area
    return y


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "size"),
    [(2, 2, 0, (5, 4)), (3, 2, 1, (6, 7)), (3, 1, 2, (3, 4)), (3, 3, 1, (5, 8)), (4, 3, 2, (7, 5))],
)
def test_values_and_gradients(method, kernel, stride, pad, size):
    text = f"pool: {method} kernel_size: {kernel} stride: {stride} pad: {pad}"
    module, x = layer(TEXT.format(text), (2, 2, *size)), sample(2, 2, *size)
    out = module.spec.top_shapes[0][2:]
    torch.testing.assert_close(module(x)[0], by_hand(x, kernel, stride, pad, out, method))
    check_gradients(module, x)


def test_the_mask_holds_places_in_the_plane_and_the_first_of_equals():
    x = torch.tensor([[[[1.0, 9.0, 0.0], [9.0, 2.0, 0.0]]]], requires_grad=True)
    y, mask = layer(MASKED.format("kernel_size: 2 stride: 2"), (1, 1, 2, 3))(x)
    assert y.tolist() == [[[[9, 0]]]]
    assert mask.tolist() == [[[[1, 2]]]]
    y.sum().backward()
    assert x.grad.tolist() == [[[[0, 1, 1], [0, 0, 0]]]]


def test_rounding_that_contradicts_itself():
    with pytest.raises(LayerError, match="round_mode and ceil_mode that contradict each other"):
        layer(TEXT.format("kernel_size: 2 ceil_mode: true round_mode: FLOOR"), (1, 1, 5, 5))


@pytest.mark.parametrize(
    "options",
    ["kernel_size: 2 stride: 2", "kernel_size: 3 stride: 2 pad: 1", "kernel_size: 1 stride: 3",
     "kernel_size: 3 pad: 2", "kernel_size: 3 stride: 2 round_mode: FLOOR", "global_pooling: true",
     "kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 3 pad_h: 1 pad_w: 0"],
)  # fmt: skip
@pytest.mark.parametrize("size", [(6, 7), (5, 5), (8, 4)])
def test_without_a_mask_the_numbers_are_the_same(options, size):
    """Where torch's windows are Caffe's they are used, and the frame is not made."""
    found = []
    for text in (TEXT, MASKED):
        x = sample(2, 3, *size).float().mul_(2).round_().requires_grad_()  # with ties
        top = layer(text.format(options), (2, 3, *size))(x)[0]
        top.square().sum().backward()
        found.append((top, x.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_padding_is_never_the_maximum():
    module = layer(MASKED.format("kernel_size: 3 stride: 2 pad: 1"), (1, 1, 3, 3))
    y, mask = module(torch.full((1, 1, 3, 3), -7.0))
    assert y.unique().tolist() == [-7]
    assert mask.tolist() == [[[[0, 1], [3, 4]]]]


def test_a_window_wholly_outside_gives_the_lowest_float_and_no_diff():
    x = torch.ones(1, 1, 5, 5, requires_grad=True)
    y, mask = layer(MASKED.format("kernel_size: 1 stride: 3"), (1, 1, 5, 5))(x)
    assert y.shape == (1, 1, 3, 3)
    assert y[0, 0, 2].tolist() == [torch.finfo(torch.float32).min] * 3
    assert mask[0, 0].tolist() == [[0, 3, -1], [15, 18, -1], [-1, -1, -1]]
    y.sum().backward()
    assert x.grad.sum() == 4


def test_an_average_of_a_window_wholly_outside_is_0():
    """Caffe divides a sum of 0 by the area, which is below 0 there; it goes into no diff."""
    x = torch.arange(35.0).reshape(1, 1, 5, 7).requires_grad_()
    options = "pool: AVE kernel_h: 1 kernel_w: 2 stride_h: 3 stride_w: 4"
    (y,) = layer(TEXT.format(options), (1, 1, 5, 7))(x)
    assert y.tolist() == [[[[0.5, 4.5, 0], [21.5, 25.5, 0], [0, 0, 0]]]]
    y.sum().backward()
    assert x.grad.sum() == 4
    assert x.grad[0, 0, 3].tolist() == [0.5, 0.5, 0, 0, 0.5, 0.5, 0]


def test_an_average_of_a_window_that_starts_at_the_end_is_refused():
    """Caffe gives 0 / 0 there."""
    text = TEXT.format("pool: AVE kernel_size: 1 stride: 3 ")
    with pytest.raises(LayerError, match="of 6 starts at its end, where Caffe divides 0 by 0"):
        layer(text, (1, 1, 5, 6))
    net = net_of(f'layer {{ name: "op" {text} }}', (1, 1, 5, 5))
    with pytest.raises(LayerError, match=r"'op' .* of 3 starts at its end"):
        net({"b0": torch.ones(1, 1, 5, 3)})
    layer(TEXT.format("pool: AVE kernel_size: 1 stride: 3 round_mode: FLOOR"), (1, 1, 6, 6))


def test_global_pooling_follows_the_bottoms_size():
    module = layer(TEXT.format("pool: AVE global_pooling: true"), (1, 2, 3, 4))
    x = sample(1, 2, 6, 5)
    torch.testing.assert_close(module(x)[0], x.mean((2, 3), keepdim=True))


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        (TEXT.format(""), (1, 1, 4, 4), "kernel size is missing"),
        (TEXT.format("kernel_h: 2"), (1, 1, 4, 4), "go together"),
        (TEXT.format("kernel_size: 2 kernel_h: 2 kernel_w: 2"), (1, 1, 4, 4), "exclude"),
        (TEXT.format("kernel_size: 2 stride: 0"), (1, 1, 4, 4), "stride is"),
        (TEXT.format("kernel_size: 2 pad: 2"), (1, 1, 4, 4), "pad 2 is not below"),
        (TEXT.format("kernel_size: 6"), (1, 1, 4, 4), "below the kernel 6"),
        (TEXT.format("kernel_size: 2"), (1, 4, 4), r"expected \(N, C, H, W\)"),
        (TEXT.format("global_pooling: true kernel_size: 2"), (1, 1, 4, 4), "exclude"),
        (TEXT.format("global_pooling: true pad: 1"), (1, 1, 4, 4), "pad 0 and stride 1"),
        (TEXT.format("pool: STOCHASTIC kernel_size: 2"), (1, 1, 4, 4), "GPUs only"),
        (MASKED.format("pool: AVE kernel_size: 2"), (1, 1, 4, 4), "mask top goes with MAX"),
    ],
)
def test_what_does_not_fit_is_refused(text, shape, message):
    with pytest.raises(LayerError, match=message):
        layer(text, shape)
