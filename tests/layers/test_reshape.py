"""Reshape: Caffe's documented examples and refusals."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "Reshape" bottom: "b0" top: "y" reshape_param {{ {} }}'


def dims(*values):
    return f"shape {{ {' '.join(f'dim: {v}' for v in values)} }}"


@pytest.mark.parametrize(
    ("options", "bottom", "top"),
    [
        (dims(2, 4), (2, 8), None),
        (dims(0, 2, 4), (2, 8), (2, 2, 4)),
        (dims(0, -1, 4), (2, 8), (2, 2, 4)),
        (dims(-1), (2, 3, 4), (24,)),
        (dims(2, 4) + " axis: 1", (2, 8), (2, 2, 4)),
        (dims(2, 4) + " axis: -1", (2, 8, 1), None),
        (dims(1) + " axis: -1", (2, 8), (2, 8, 1)),
        (dims(1, 1) + " axis: 1 num_axes: 0", (2, 8), (2, 1, 1, 8)),
        (dims(-1) + " axis: 1 num_axes: 2", (2, 3, 4, 5), (2, 12, 5)),
        (" num_axes: 1", (1, 4), (4,)),
        (" num_axes: -1", (1, 1), ()),
    ],
)
def test_shapes(options, bottom, top):
    x = torch.rand(bottom)
    if top is None:
        with pytest.raises(LayerError, match="values of a bottom"):
            layer(TEXT.format(options), bottom)
        return
    assert torch.equal(layer(TEXT.format(options), bottom)(x)[0], x.reshape(top))


def test_the_shape_follows_the_bottom_given():
    module = layer(TEXT.format(dims(0, -1)), (2, 3, 4))
    assert module(torch.rand(5, 2, 2))[0].shape == (5, 4)


def test_a_bottom_that_does_not_fit_names_the_layer():
    module = layer(TEXT.format(dims(2, -1)), (2, 3))
    with pytest.raises(LayerError, match=r"'op' .*cannot be divided"):
        module(torch.rand(3, 3))


def test_gradients():
    check_gradients(layer(TEXT.format(dims(3, -1)), (2, 3)), torch.rand(2, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dims(-1, -1), "several -1"),
        (dims(-2), "expected -1, 0 or sizes"),
        (dims(5, -1), "cannot be divided"),
        (dims(1, 1, 0), "no axis 2"),
        (dims(-1) + " axis: 3", "axis 3"),
        (dims(-1) + " axis: 1 num_axes: 2", "reach beyond"),
        (dims(-1) + " num_axes: -2", "num_axes is -2"),
    ],
)
def test_what_it_refuses(options, message):
    with pytest.raises(LayerError, match=message):
        layer(TEXT.format(options), (2, 8))


def test_it_cannot_work_in_place():
    with pytest.raises(LayerError, match="in place"):
        layer('type: "Reshape" bottom: "b0" top: "b0"', (2, 8))
