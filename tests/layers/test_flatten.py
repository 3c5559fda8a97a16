"""Flatten: axes, refusals."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "Flatten" bottom: "b0" top: "y"'


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ("", (2, 60)),
        ("axis: 2", (2, 3, 20)),
        ("axis: -3", (2, 60)),
        ("end_axis: -2", (2, 12, 5)),
        ("axis: 0 end_axis: -2", (24, 5)),
        ("axis: 2 end_axis: 1", (2, 3, 1, 4, 5)),
    ],
)
def test_shapes(options, shape):
    x = torch.rand(2, 3, 4, 5)
    (y,) = layer(f"{TEXT} flatten_param {{ {options} }}", x.shape)(x)
    assert torch.equal(y, x.reshape(shape))


def test_gradients():
    check_gradients(layer(TEXT, (2, 3, 2)), torch.rand(2, 3, 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT + " flatten_param { axis: 3 end_axis: 1 }", "before axis 3"),
        (TEXT + " flatten_param { axis: 4 }", "axis 4"),
        ('type: "Flatten" bottom: "b0" top: "b0"', "in place"),
    ],
)
def test_what_it_refuses(text, message):
    with pytest.raises(LayerError, match=message):
        layer(text, (2, 3, 4, 5))
