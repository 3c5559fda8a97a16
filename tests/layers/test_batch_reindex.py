"""BatchReindex: picks, repeats, refusals."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "BatchReindex" bottom: "b0" bottom: "b1" top: "y"'


def test_picks_in_any_order_and_more_than_once():
    x = torch.arange(12.0).reshape(3, 2, 2)
    (y,) = layer(TEXT, (3, 2, 2), (4,))(x, torch.tensor([2.0, 0, 0, 2]))
    assert torch.equal(y, x[[2, 0, 0, 2]])


def test_diffs_of_copies_add_up():
    x = torch.zeros(3, 2, requires_grad=True)
    (y,) = layer(TEXT, (3, 2), (3,))(x, torch.tensor([1.0, 1, 0]))
    y.sum().backward()
    assert torch.equal(x.grad, torch.tensor([[1.0, 1], [2, 2], [0, 0]]))
    index = torch.tensor([1.0, 1, 0])
    check_gradients(layer(TEXT, (3, 2), (3,)), torch.rand(3, 2), index)


@pytest.mark.parametrize("index", [-1.0, 3.0, float("inf")])
def test_an_index_outside_is_refused(index):
    with pytest.raises(LayerError, match=r"index .*expected 0 to 2"):
        layer(TEXT, (3, 2), (1,))(torch.zeros(3, 2), torch.tensor([index]))


def test_the_index_has_one_axis():
    with pytest.raises(LayerError, match="expected one axis"):
        layer(TEXT, (3, 2), (3, 1))
