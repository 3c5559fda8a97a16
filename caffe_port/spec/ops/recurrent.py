"""Options and shapes: layers that go through a sequence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import (
    Op,
    ParamShape,
    Reads,
    Shape,
    expect,
    register_op,
)

RecurrentType = TypeVar("RecurrentType", bound="Recurrent")


@dataclass(frozen=True)
class Recurrent(Op):
    """Options of recurrent layers. Source: BVLC/caffe recurrent_layer.cpp, LayerSetUp and Reshape.

    Bottoms: x (T, N, ...), cont (T, N), then a static input (N, ...) if there is one, then, with
    expose_hidden, the state before the first step. Tops: one output (T, N, hidden), then, with
    expose_hidden, the state after the last step. States have shape (1, N, hidden).

    Class attributes:
        states: number of blobs in the hidden state.
        per_step: parameters of the layers that Caffe makes for each step.

    Attributes:
        hidden: num_output.
        expose_hidden: whether the state comes in as bottoms and goes out as tops.
        static: whether there is a static input.
        weight_filler, bias_filler: of all weights and biases.
    """

    bottoms = (2, None)
    tops = (1, None)
    fixed_bottoms = frozenset({1})
    states = 1
    per_step: ClassVar[tuple[str, ...]] = ()

    hidden: int
    expose_hidden: bool
    static: bool
    weight_filler: caffe_pb2.FillerParameter
    bias_filler: caffe_pb2.FillerParameter

    @classmethod
    def parse(cls: type[RecurrentType], layer: caffe_pb2.LayerParameter) -> RecurrentType:
        options = layer.recurrent_param
        exposed = cls.states if options.expose_hidden else 0
        bottoms, tops = len(layer.bottom), len(layer.top)
        expect(options.num_output > 0, "num_output is missing or 0")
        expect(
            bottoms in (2 + exposed, 3 + exposed),
            f"{bottoms} bottom blobs; expected {2 + exposed}, or {3 + exposed} with a static input",
        )
        expect(tops == 1 + exposed, f"{tops} top blobs; expected {1 + exposed}")
        return cls(
            options.num_output, options.expose_hidden, bottoms == 3 + exposed,
            options.weight_filler, options.bias_filler,
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        x, cont = bottoms[:2]
        expect(len(x) >= 3, f"x of shape {x}; expected (steps, streams, values, ...)")
        expect(x[0] >= 1, "x has no steps")
        expect(cont == x[:2], f"cont of shape {cont}; expected {x[:2]}")
        if self.static:
            shape = bottoms[2]
            expect(
                len(shape) >= 2 and shape[0] == x[1],
                f"a static input of shape {shape}; expected ({x[1]} streams, values, ...)",
            )
        state = (1, x[1], self.hidden)
        for shape in bottoms[2 + self.static :]:
            expect(shape == state, f"a hidden state of shape {shape}; expected {state}")
        return [(*x[:2], self.hidden)] + [state] * self.states

    def reads_bottom(self, index: int, in_place: bool) -> Reads:
        shared = (0, 2)[: 1 + self.static]  # with the net inside: x, and the static input
        return Reads.EVERYTHING if index in shared else Reads.NOTHING

    def refilled(self, bottoms: Sequence[Shape]) -> list[str]:
        return [*self.per_step] * (bottoms[0][0] - 1)

    def input_sizes(self, bottoms: Sequence[Shape]) -> tuple[int, int]:
        """Values per step and stream of x, and of the static input (0 without one)."""
        return math.prod(bottoms[0][2:]), math.prod(bottoms[2][1:]) if self.static else 0


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


@register_op
@dataclass(frozen=True)
class LSTMUnit(Op):
    """Options of LSTMUnit: none. Source: BVLC/caffe lstm_unit_layer.cpp."""

    type = "LSTMUnit"
    bottoms = (3, 3)
    tops = (2, 2)
    fixed_bottoms = frozenset({2})

    def reads_top(self, index: int, in_place: bool) -> Reads:
        return Reads.NOTHING if index else Reads.EVERYTHING

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        cell, gates, cont = bottoms
        expect(
            len(cell) == 3 and cell[0] == 1,
            f"a cell of shape {cell}; expected (1, streams, hidden)",
        )
        wanted = (1, cell[1], 4 * cell[2])
        expect(gates == wanted, f"gates of shape {gates}; expected {wanted}")
        expect(cont == cell[:2], f"cont of shape {cont}; expected {cell[:2]}")
        return [cell, cell]


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
