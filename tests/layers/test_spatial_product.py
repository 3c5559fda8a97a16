"""SpatialProduct."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "SpatialProduct" bottom: "b0" bottom: "b1" top: "y"'


def test_every_channel_is_scaled():
    x, scale = torch.rand(2, 3, 4, 5), torch.rand(2, 1, 4, 5)
    (y,) = layer(TEXT, x.shape, scale.shape)(x, scale)
    for n in range(2):
        for c in range(3):
            assert torch.equal(y[n, c], x[n, c] * scale[n, 0])


def test_gradients_of_both():
    shapes = (2, 3, 2, 2), (2, 1, 2, 2)
    check_gradients(layer(TEXT, *shapes), torch.rand(shapes[0]), torch.rand(shapes[1]), wrt=(0, 1))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 4, 5), (2, 1, 4, 4)])
def test_what_it_refuses(shape):
    with pytest.raises(LayerError, match=r"expected \(2, 1, 4, 5\)"):
        layer(TEXT, (2, 3, 4, 5), shape)
