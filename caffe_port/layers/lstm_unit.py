"""LSTMUnit: one step of an LSTM."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer


def lstm_step(cell: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
    """c = cont f c_before + i g and h = o tanh(c).

    i, f and o are sigmoids and g is the tanh of the four quarters of ``gates``, in this order.
    Where cont is neither 0 nor 1, Caffe's diff of f uses 1 - cont f for 1 - f; here it is the true
    derivative.

    Args:
        cell: (..., H), c of the step before.
        gates: (..., 4 H).
        cont: (...,), 0 where a sequence starts, else 1.
    Returns:
        c and h, both (..., H).
    Source: BVLC/caffe lstm_unit_layer.cpp; Hochreiter and Schmidhuber, Long Short-Term Memory,
        1997.
    """
    i, f, o, g = gates.chunk(4, -1)
    c = cont[..., None] * torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return c, torch.sigmoid(o) * torch.tanh(c)


@register_layer("LSTMUnit")
class LSTMUnit(Layer):
    """Bottoms: c of the step before, gates, cont. Tops: c, h."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        cell, gates, cont = bottoms
        c, h = lstm_step(cell, gates, cont.detach())
        return c.view_as(c), h  # in Caffe the diff of top c is its readers', without h's part
