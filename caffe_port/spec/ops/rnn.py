"""RNN: a simple recurrent net over a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.spec.ops._base import ParamShape, Shape, register_op
from caffe_port.spec.ops._recurrent import Recurrent


@register_op
@dataclass(frozen=True)
class RNN(Recurrent):
    """Options of RNN; its state is h. Source: BVLC/caffe rnn_layer.cpp, FillUnrolledNet."""

    type = "RNN"
    per_step = ("W_hh", "W_ho", "b_o")

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        size, static_size = self.input_sizes(bottoms)
        n, weight, bias = self.hidden, self.weight_filler, self.bias_filler
        static = [ParamShape("W_xh_static", (n, static_size), weight)] if self.static else []
        return [
            ParamShape("W_xh", (n, size), weight),
            ParamShape("b_h", (n,), bias),
            *static,
            ParamShape("W_hh", (n, n), weight),
            ParamShape("W_ho", (n, n), weight),
            ParamShape("b_o", (n,), bias),
        ]

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        size, static_size = self.input_sizes(bottoms)
        steps, streams = bottoms[0][:2]
        return streams * self.hidden * (steps * (size + 2 * self.hidden) + static_size)
