"""Filter: what the selector leaves."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer, net_of

TEXT = 'type: "Filter" bottom: "b0" bottom: "b1" bottom: "b2" top: "x" top: "t"'
SHAPES = (4, 3, 6, 4), (4, 1, 1, 1), (4, 1, 1, 1)


def selector(*values):
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1, 1)


def test_the_first_and_last_item_go():
    x, t = torch.rand(*SHAPES[0]), torch.arange(4.0).reshape(4, 1, 1, 1)
    top_x, top_t = layer(TEXT, *SHAPES)(x, t, selector(0, 1, 1, 0))
    assert torch.equal(top_x, x[1:3])
    assert torch.equal(top_t, t[1:3])


def test_any_value_but_0_selects():
    (x, _) = layer(TEXT, *SHAPES)(
        torch.rand(*SHAPES[0]), torch.rand(4, 1, 1, 1), selector(-1, 0, 0.5, 0)
    )
    assert len(x) == 2


def test_nothing_selected_gives_empty_tops_and_zero_diffs():
    x = torch.rand(*SHAPES[0], requires_grad=True)
    top, _ = layer(TEXT, *SHAPES)(x, torch.rand(4, 1, 1, 1), selector(0, 0, 0, 0))
    assert top.shape == (0, 3, 6, 4)
    top.sum().backward()
    assert not x.grad.any()


def test_gradients():
    module = layer('type: "Filter" bottom: "b0" bottom: "b1" top: "x"', (4, 2), (4,))
    check_gradients(module, torch.rand(4, 2), torch.tensor([0.0, 1, 0, 1]))


def test_a_net_continues_with_the_smaller_batch():
    text = f'layer {{ name: "f" {TEXT} }} layer {{ name: "r" type: "ReLU" bottom: "x" top: "y" }}'
    net = net_of(text, *SHAPES)
    assert net.spec.shapes["y"] == SHAPES[0]
    data = {"b0": torch.rand(*SHAPES[0]), "b1": torch.rand(4, 1, 1, 1), "b2": selector(1, 0, 0, 0)}
    assert net(data)["y"].shape == (1, 3, 6, 4)


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (TEXT.replace(' top: "t"', ""), SHAPES, "1 tops for 3 bottoms"),
        (TEXT, (*SHAPES[:2], (4, 2, 1, 1)), "one value per item"),
        (TEXT, (SHAPES[0], (3, 1, 1, 1), SHAPES[2]), "bottom 1 .*expected 4 items"),
    ],
)
def test_what_it_refuses(text, shapes, message):
    with pytest.raises(LayerError, match=message):
        layer(text, *shapes)
