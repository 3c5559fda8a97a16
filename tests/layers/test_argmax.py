"""ArgMax: with and without axis, ties, values."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import layer

TEXT = 'type: "ArgMax" bottom: "b0" top: "y" argmax_param {{ {} }}'
X = torch.tensor([[[[1.0, 5], [5, 2]], [[0, 4], [7, 7]]]])


def run(options, x=X):
    return layer(TEXT.format(options), x.shape)(x)[0]


def test_of_equal_values_the_highest_index_wins():
    assert run("", torch.tensor([[3.0, 9, 9, 1]])).tolist() == [[[2]]]
    assert run("axis: 1", torch.tensor([[9.0, 9, 9]])).tolist() == [[2]]
    assert run("").shape == (1, 1, 1, 1)
    assert run("").item() == 7


def test_without_axis_indices_run_over_the_whole_item():
    y = run("top_k: 3")
    assert y.shape == (1, 1, 3, 1)
    assert y.flatten().tolist() == [7, 6, 2]
    both = run("top_k: 2 out_max_val: true")
    assert both.shape == (1, 2, 2, 1)
    assert both[0, :, :, 0].tolist() == [[7, 6], [7, 7]]


def test_along_an_axis():
    assert run("axis: 1").tolist() == [[[[0, 0], [1, 1]]]]
    assert run("axis: -1 top_k: 2").shape == X.shape
    assert run("axis: 1 out_max_val: true").tolist() == [[[[1, 5], [7, 7]]]]


def test_no_diff():
    assert not run("", X.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize("options", ["top_k: 0", "top_k: 9", "axis: 1 top_k: 3", "axis: 4"])
def test_what_it_refuses(options):
    with pytest.raises(LayerError, match=r"top_k is|axis 4"):
        run(options)


def test_a_scalar_is_refused():
    with pytest.raises(LayerError, match=r"'op' .*is a scalar"):
        layer('type: "ArgMax" bottom: "b0" top: "y"', ())
