"""Concat."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "Concat" bottom: "b0" bottom: "b1" top: "y" concat_param {{ {} }}'


@pytest.mark.parametrize(("options", "axis"), [("", 1), ("axis: 0", 0), ("axis: -1", 2),
                                               ("concat_dim: 2", 2)])  # fmt: skip
def test_along_an_axis(options, axis):
    shapes = [[2, 3, 4] for _ in range(2)]
    shapes[1][axis] += 2
    a, b = (torch.rand(s) for s in shapes)
    (y,) = layer(TEXT.format(options), *shapes)(a, b)
    assert torch.equal(y.narrow(axis, 0, a.shape[axis]), a)
    assert torch.equal(y.narrow(axis, a.shape[axis], b.shape[axis]), b)


def test_one_bottom_and_gradients():
    x = torch.rand(2, 3)
    assert torch.equal(layer('type: "Concat" bottom: "b0" top: "y"', (2, 3))(x)[0], x)
    check_gradients(layer(TEXT.format(""), (2, 3), (2, 1)), x, torch.rand(2, 1), wrt=(0, 1))


@pytest.mark.parametrize(
    ("options", "other", "message"),
    [
        ("", (3, 3), "equal but for axis 1"),
        ("", (2, 3, 1), "equal but for axis 1"),
        ("axis: 2", (2, 3), "axis 2"),
        ("axis: 1 concat_dim: 1", (2, 3), "exclude one another"),
    ],
)
def test_what_it_refuses(options, other, message):
    with pytest.raises(LayerError, match=message):
        layer(TEXT.format(options), (2, 3), other)
