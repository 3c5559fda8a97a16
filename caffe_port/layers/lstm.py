"""LSTM: long short-term memory over a sequence."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from caffe_port.layers._recurrent import Recurrent
from caffe_port.layers._registry import register_layer
from caffe_port.layers.lstm_unit import lstm_step


@register_layer("LSTM")
class LSTM(Recurrent):
    """gates = W_hc (cont h) + W_xc x + b_c + W_xc_static s, then ``lstm_step``.

    Source: BVLC/caffe lstm_layer.cpp, FillUnrolledNet.
    """

    weights = ("W_xc", "W_xc_static", "b_c")

    def step(self, x: Tensor, cont: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        h, c = state
        gates = functional.linear(h * cont[:, None], self.param("W_hc")) + x
        c, h = lstm_step(c, gates, cont)
        return h, [h, c]
