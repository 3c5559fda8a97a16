"""What RNN and LSTM share: the loop over steps and the state between passes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.layers._registry import Layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops._recurrent import Recurrent as Options


class Recurrent(Layer):
    """Runs ``step`` over the first axis of x.

    Where cont is 0 a sequence starts and the state before counts as zeros. Without expose_hidden
    the state is kept from one pass to the next, so that a sequence may go on in the next batch; it
    starts as zeros, and again when the number of streams changes. No diff goes from one pass to
    another, nor to or from exposed states.

    Source: BVLC/caffe recurrent_layer.cpp.
    """

    weights: tuple[str, str, str]  # of x, of the static input, and the bias

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        for i in range(spec.options(Options).states):
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
        op = self.spec.options(Options)
        kept = given or tuple(self.get_buffer(f"state_{i}") for i in range(op.states))
        shape = (x.shape[1], op.hidden)
        return [
            s.detach().to(x).reshape(shape) if s.numel() == shape[0] * shape[1]
            else x.new_zeros(shape) for s in kept
        ]  # fmt: skip

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
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
