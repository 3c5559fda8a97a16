import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "Permute" bottom: "b0" top: "y" permute_param {{ {} }}'


@pytest.mark.parametrize(
    ("options", "full"),
    [
        ("order: 0 order: 2 order: 3 order: 1", (0, 2, 3, 1)),
        ("order: 3", (3, 0, 1, 2)),
        ("order: 2 order: 0", (2, 0, 1, 3)),
        ("", (0, 1, 2, 3)),
    ],
)
def test_axes_not_named_follow_in_their_order(options, full):
    module = layer(TEXT.format(options), (2, 3, 4, 5))
    x = torch.arange(120.0).reshape(2, 3, 4, 5)
    (y,) = module(x)
    assert module.spec.top_shapes == (tuple(y.shape),)
    for place in ((0, 0, 0, 0), (1, 2, 3, 4), (1, 0, 2, 1)):
        assert y[tuple(place[axis] for axis in full)] == x[place]
    check_gradients(module, x[:1, :2, :2, :2])


@pytest.mark.parametrize(
    ("options", "message"),
    [("order: 1 order: 1", "expected each axis once"), ("order: 4", "with 4 axes")],
)
def test_a_wrong_order_is_refused(options, message):
    with pytest.raises(LayerError, match=message):
        layer(TEXT.format(options), (2, 3, 4, 5))
