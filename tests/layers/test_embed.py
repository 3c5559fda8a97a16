import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer, net_of

TEXT = 'type: "Embed" bottom: "b0" top: "y" embed_param {{ {} }}'


def test_rows_are_looked_up_and_repeated_ones_add_their_diffs():
    module = layer(TEXT.format("num_output: 2 input_dim: 3"), (2, 2))
    with torch.no_grad():
        module.get_parameter("weight").copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        module.get_parameter("bias").copy_(torch.tensor([0.5, -0.5]))
    (y,) = module(torch.tensor([[2.0, 0.0], [2.0, 2.0]]))
    assert y.tolist() == [[[5.5, 5.5], [1.5, 1.5]], [[5.5, 5.5], [5.5, 5.5]]]
    y.sum().backward()
    assert module.weight.grad.tolist() == [[1, 1], [0, 0], [3, 3]]
    assert module.bias.grad.tolist() == [4, 4]
    check_gradients(module, torch.tensor([[2.0, 0.0], [2.0, 2.0]]), wrt=())


def test_without_bias():
    module = layer(TEXT.format("num_output: 2 input_dim: 3 bias_term: false"), (2,))
    assert [p.name for p in module.spec.params] == ["weight"]
    assert module(torch.tensor([0.0, 2.0]))[0].shape == (2, 2)


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_outside_of_the_table_is_refused(index):
    module = layer(TEXT.format("num_output: 2 input_dim: 3"), (2,))
    with pytest.raises(LayerError, match=f"index {index}; expected 0 to 2"):
        module(torch.tensor([0.0, index]))


def test_indices_get_no_diff_even_if_forced():
    text = TEXT.format("num_output: 2 input_dim: 3")
    net = net_of(f'force_backward: true layer {{ name: "op" {text} }}', (2,))
    assert net.spec.layer("op").bottom_needs_backward == (False,)


@pytest.mark.parametrize("options", ["num_output: 2", "input_dim: 3"])
def test_both_sizes_are_needed(options):
    with pytest.raises(LayerError, match="missing or 0"):
        layer(TEXT.format(options), (2,))
