"""LSTMUnit: one step by hand."""

import math

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "LSTMUnit" bottom: "b0" bottom: "b1" bottom: "b2" top: "c" top: "h"'
SHAPES = (1, 3, 2), (1, 3, 8), (1, 3)
CELL, GATES = torch.rand(SHAPES[0]) - 0.5, 2 * torch.rand(SHAPES[1]) - 1


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_one_step_by_hand():
    cont = torch.tensor([[1.0, 0, 1]])
    c, h = layer(TEXT, *SHAPES)(CELL, GATES, cont)
    for n in range(3):
        for d in range(2):
            i, f, o, g = (GATES[0, n, 2 * k + d].item() for k in range(4))
            cell = cont[0, n].item() * sigmoid(f) * CELL[0, n, d].item() + sigmoid(i) * math.tanh(g)
            assert c[0, n, d].item() == pytest.approx(cell, rel=1e-5, abs=1e-7)
            assert h[0, n, d].item() == pytest.approx(
                sigmoid(o) * math.tanh(cell), rel=1e-5, abs=1e-7
            )


@pytest.mark.parametrize("cont", [(0.0, 0, 0), (1.0, 0, 1)])
def test_gradients_of_both_tops(cont):
    module = layer(TEXT, *SHAPES).double()
    points = CELL.double().requires_grad_(), GATES.double().requires_grad_()
    cont = torch.tensor([cont]).double()
    assert torch.autograd.gradcheck(lambda *p: module(*p, cont), points)
    check_gradients(layer(TEXT, *SHAPES), CELL, GATES, cont, wrt=(0, 1))


def test_the_diff_of_top_c_is_what_its_readers_gave():
    c, h = layer(TEXT, *SHAPES)(CELL.clone().requires_grad_(), GATES, torch.ones(1, 3))
    c.retain_grad()
    torch.autograd.backward([c, h], [torch.full_like(c, 2.0), torch.ones_like(h)])
    assert c.grad.eq(2).all()


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 3, 2), (1, 3, 8), (1, 3)), "a cell"),
        (((1, 3, 2), (1, 3, 6), (1, 3)), "gates"),
        (((1, 3, 2), (1, 3, 8), (3,)), "cont"),
    ],
)
def test_what_it_refuses(shapes, message):
    with pytest.raises(LayerError, match=message):
        layer(TEXT, *shapes)
