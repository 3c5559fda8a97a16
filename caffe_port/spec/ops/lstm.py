"""LSTM: long short-term memory over a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.spec.ops._base import ParamShape, Shape, register_op
from caffe_port.spec.ops._recurrent import Recurrent


@register_op
@dataclass(frozen=True)
class LSTM(Recurrent):
    """Options of LSTM; its state is (h, c). Source: BVLC/caffe lstm_layer.cpp, FillUnrolledNet."""

    type = "LSTM"
    states = 2
    per_step = ("W_hc",)

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        size, static_size = self.input_sizes(bottoms)
        gates, weight = 4 * self.hidden, self.weight_filler
        static = [ParamShape("W_xc_static", (gates, static_size), weight)] if self.static else []
        return [
            ParamShape("W_xc", (gates, size), weight),
            ParamShape("b_c", (gates,), self.bias_filler),
            *static,
            ParamShape("W_hc", (gates, self.hidden), weight),
        ]

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        size, static_size = self.input_sizes(bottoms)
        steps, streams = bottoms[0][:2]
        each = 4 * streams * self.hidden
        return each * (steps * (size + self.hidden) + static_size)
