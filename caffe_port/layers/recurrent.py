"""Modules: RNN, LSTM and LSTMUnit."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops import recurrent as ops


class Recurrent(Layer):
    """Runs ``step`` over the first axis of x.

    Where cont is 0 a sequence starts and the previous state counts as zeros. Without expose_hidden
    the state is kept from one pass to the next, so a sequence may continue in the next batch; it
    is reset to zeros when the number of streams changes. No diff is passed from one pass to
    another, nor to or from exposed states.

    Source: BVLC/caffe recurrent_layer.cpp.
    """

    weights: tuple[str, str, str]  # of x, of the static input, and the bias

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        for i in range(spec.options(ops.Recurrent).states):
            self.register_buffer(f"state_{i}", torch.empty(0), persistent=False)

    def step(self, x: Tensor, cont: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One step.

        Args:
            x: (N, ...), W x + b, and the static input's share.
            cont: (N,).
            state: of the step before, (N, hidden) each.
        Returns:
            The output (N, hidden) and the state.
        """
        raise TypeError(f"{type(self).__name__} defines no step")

    def _start(self, x: Tensor, given: tuple[Tensor, ...]) -> list[Tensor]:
        op = self.spec.options(ops.Recurrent)
        kept = given or tuple(self.get_buffer(f"state_{i}") for i in range(op.states))
        shape = (x.shape[1], op.hidden)
        return [
            s.detach().to(x).reshape(shape) if s.numel() == shape[0] * shape[1]
            else x.new_zeros(shape) for s in kept
        ]  # fmt: skip

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.Recurrent)
        x, cont = bottoms[0], bottoms[1].detach()
        of_x, of_static, bias = self.weights
        shares = functional.linear(x.flatten(2), self.param(of_x), self.param(bias))
        fixed = None
        if op.static:
            fixed = functional.linear(bottoms[2].flatten(1), self.param(of_static))
        state = self._start(x, bottoms[2 + op.static :])
        outputs = []
        for share, now in zip(shares.unbind(0), cont.unbind(0), strict=True):
            output, state = self.step(share if fixed is None else share + fixed, now, state)
            outputs.append(output)
        last = [s.detach() for s in state]
        if op.expose_hidden:
            return (torch.stack(outputs), *(s[None] for s in last))
        for i, s in enumerate(last):
            self.register_buffer(f"state_{i}", s, persistent=False)
        return (torch.stack(outputs),)


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
