"""RNN: a simple recurrent net over a sequence."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.layers._recurrent import Recurrent
from caffe_port.layers._registry import register_layer


@register_layer("RNN")
class RNN(Recurrent):
    """h = tanh(W_hh (cont h) + W_xh x + b_h + W_xh_static s), output tanh(W_ho h + b_o).

    Source: BVLC/caffe rnn_layer.cpp, FillUnrolledNet.
    """

    weights = ("W_xh", "W_xh_static", "b_h")

    def step(self, x: Tensor, cont: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        (h,) = state
        h = torch.tanh(functional.linear(h * cont[:, None], self.param("W_hh")) + x)
        output = functional.linear(h, self.param("W_ho"), self.param("b_o"))
        return torch.tanh(output), [h]
