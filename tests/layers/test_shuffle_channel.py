import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "ShuffleChannel" bottom: "b0" top: "y" shuffle_channel_param {{ {} }}'


@pytest.mark.parametrize(
    ("group", "order"),
    [
        (1, [0, 1, 2, 3, 4, 5]),
        (2, [0, 3, 1, 4, 2, 5]),
        (3, [0, 2, 4, 1, 3, 5]),
        (6, list(range(6))),
    ],
)
def test_groups_are_interleaved(group, order):
    module = layer(TEXT.format(f"group: {group}"), (2, 6, 1, 2))
    x = torch.arange(24.0).reshape(2, 6, 1, 2)
    assert torch.equal(module(x)[0], x[:, order])
    check_gradients(module, x)


def test_a_blob_without_spatial_axes():
    (y,) = layer(TEXT.format("group: 2"), (1, 4))(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert y.tolist() == [[1, 3, 2, 4]]


@pytest.mark.parametrize("group", [0, 4])
def test_a_group_that_does_not_divide_is_refused(group):
    with pytest.raises(LayerError, match="group"):
        layer(TEXT.format(f"group: {group}"), (2, 6, 1, 2))
