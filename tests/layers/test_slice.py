"""Slice: equal parts, given points, refusals."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer


def text(options, tops=2):
    names = " ".join(f'top: "y{i}"' for i in range(tops))
    return f'type: "Slice" bottom: "b0" {names} slice_param {{ {options} }}'


X = torch.arange(24.0).reshape(2, 6, 2)


@pytest.mark.parametrize(
    ("options", "tops", "axis", "sizes"),
    [
        ("", 2, 1, [3, 3]),
        ("axis: -2", 3, 1, [2, 2, 2]),
        ("slice_dim: 0", 2, 0, [1, 1]),
        ("slice_point: 1", 2, 1, [1, 5]),
        ("slice_point: 2 slice_point: 3", 3, 1, [2, 1, 3]),
        ("slice_point: 6", 2, 1, [6, 0]),
        ("", 1, 1, [6]),
    ],
)
def test_parts(options, tops, axis, sizes):
    module = layer(text(options, tops), X.shape)
    parts = module(X)
    assert [p.shape[axis] for p in parts] == sizes
    assert torch.equal(torch.cat(parts, axis), X)
    assert [tuple(p.shape) for p in parts] == list(module.spec.top_shapes)


def test_gradients():
    check_gradients(layer(text("slice_point: 2"), (2, 3)), torch.rand(2, 3))


@pytest.mark.parametrize(
    ("options", "tops", "message"),
    [
        ("", 4, "cannot be cut into 4 equal"),
        ("slice_point: 2", 3, "1 slice_point for 3 tops"),
        ("slice_point: 3 slice_point: 3", 3, "rising"),
        ("slice_point: 0", 2, "above 0"),
        ("slice_point: 7", 2, "beyond an axis of 6"),
        ("axis: 1 slice_dim: 1", 2, "exclude one another"),
        ("axis: 3", 2, "axis 3"),
    ],
)
def test_what_it_refuses(options, tops, message):
    with pytest.raises(LayerError, match=message):
        layer(text(options, tops), X.shape)


def test_a_bottom_that_cannot_be_cut_names_the_layer():
    with pytest.raises(LayerError, match="'op'"):
        layer(text(""), X.shape)(torch.rand(2, 5, 2))
