"""Tile: copies along an axis."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "Tile" bottom: "b0" top: "y" tile_param {{ {} }}'


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_copies(axis):
    x = torch.arange(6.0).reshape(2, 3)
    (y,) = layer(TEXT.format(f"axis: {axis} tiles: 3"), (2, 3))(x)
    assert torch.equal(y, torch.cat([x, x, x], axis))


def test_gradients():
    check_gradients(layer(TEXT.format("tiles: 2"), (2, 3, 2)), torch.rand(2, 3, 2))


@pytest.mark.parametrize("options", ["", "tiles: 0", "tiles: -1", "tiles: 2 axis: 2"])
def test_what_it_refuses(options):
    with pytest.raises(LayerError, match=r"expected 1 or more|axis 2"):
        layer(TEXT.format(options), (2, 3))


def test_a_blob_without_values_is_tiled_immediately():
    (y,) = layer(TEXT.format("tiles: 700000000"), (0, 3, 1))(torch.empty(0, 3, 1))
    assert y.shape == (0, 2_100_000_000, 1)
