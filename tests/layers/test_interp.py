"""Interp: sizes, cropping, corners, label maps."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "Interp" bottom: "b0" top: "y" interp_param {{ {} }}'


def slow(x, height, width):
    """Corner on corner, point by point."""
    out = torch.zeros(*x.shape[:2], height, width)
    steps = [
        (n - 1) / (m - 1) if m > 1 else 0.0
        for n, m in zip(x.shape[2:], (height, width), strict=True)
    ]
    for i in range(height):
        for j in range(width):
            top, left = int(i * steps[0]), int(j * steps[1])
            down, right = i * steps[0] - top, j * steps[1] - left
            below, beside = min(top + 1, x.shape[2] - 1), min(left + 1, x.shape[3] - 1)
            out[..., i, j] = (1 - down) * (
                (1 - right) * x[..., top, left] + right * x[..., top, beside]
            ) + down * ((1 - right) * x[..., below, left] + right * x[..., below, beside])
    return out


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ("zoom_factor: 3", (13, 16)),
        ("shrink_factor: 2", (3, 3)),
        ("height: 7 width: 4", (7, 4)),
        ("shrink_factor: 2 zoom_factor: 4", (9, 9)),
        ("height: 7 width: 4 zoom_factor: 3", (13, 16)),
        ("height: 1 width: 1", (1, 1)),
    ],
)
def test_sizes_and_values(options, size):
    x = torch.rand(2, 3, 5, 6)
    module = layer(TEXT.format(options), x.shape)
    (y,) = module(x)
    assert tuple(y.shape[2:]) == size == module.spec.top_shapes[0][2:]
    assert torch.allclose(y, slow(x, *size), atol=1e-6)
    check_gradients(module, x)


def test_cropping_comes_first():
    x = torch.rand(1, 2, 8, 9)
    (y,) = layer(TEXT.format("zoom_factor: 2 pad_beg: -1 pad_end: -2"), x.shape)(x)
    assert torch.allclose(y, slow(x[:, :, 1:6, 1:7], 9, 11), atol=1e-6)


def test_equal_sizes_copy():
    x = torch.rand(1, 2, 5, 5)
    (y,) = layer(TEXT.format("height: 5 width: 5"), x.shape)(x)
    assert torch.equal(y, x)
    assert y.data_ptr() != x.data_ptr()


def test_a_label_map_shrinks_to_exact_samples():
    labels = torch.randint(0, 256, (1, 1, 33, 41)).float()
    (y,) = layer(TEXT.format("shrink_factor: 8"), labels.shape)(labels)
    assert torch.equal(y, labels[..., ::8, ::8])


def test_other_sizes_than_the_nets():
    assert layer(TEXT.format("zoom_factor: 2"), (1, 1, 3, 3))(torch.rand(2, 1, 5, 4))[0].shape == (
        2, 1, 9, 7,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "no size is given"),
        ("height: 4", "no size is given"),
        ("zoom_factor: 0", "zoom_factor is 0"),
        ("height: -1 width: 3", "height is -1"),
        ("zoom_factor: 2 pad_beg: 1", "pad_beg is 1"),
        ("zoom_factor: 2 pad_beg: -3 pad_end: -2", "cropping leaves"),
    ],
)
def test_what_it_refuses(options, message):
    with pytest.raises(LayerError, match=message):
        layer(TEXT.format(options), (1, 1, 5, 5))
