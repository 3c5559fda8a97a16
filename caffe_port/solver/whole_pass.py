"""Forward and backward through a whole net at once, without filling the blobs in between.

pycaffe's own passes copy every layer's output into a blob that scripts may look at. A training
that nobody looks into needs only the outputs and the parameters' diffs, which are the same ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_port.layers.python_layer import Python
from caffe_port.pycaffe import mode
from caffe_port.solver.steps import Step, Tensors, own_params, set_frees

if TYPE_CHECKING:
    from caffe_port.pycaffe.net import Net


def obstacle(net: Net) -> str:
    """Who looks into the net, so that every blob has to be filled; nothing where nobody does."""
    if net.inputs:
        return f"the input {net.inputs[0]}, which is filled from outside"
    if any(net._callbacks.values()):
        return "callbacks or debug_info, which look into its blobs"
    modules = net._net.modules()
    python = next((module for module in modules if isinstance(module, Python)), None)
    if python is not None:
        return f"layer '{python.spec.name}' (Python), which works on its blobs"
    return "" if mode.device().type == "cpu" else "the GPU"


class WholePass:
    """Runs a net and adds to its parameters' diffs.

    Args:
        net: nobody may look into it.
    """

    def __init__(self, net: Net) -> None:
        self._net = net
        self._steps = [Step(net._net, layer) for layer in net._net.spec.layers]
        weighted = [
            top
            for layer in net._net.spec.layers
            for top, weight in zip(layer.tops, layer.loss_weights, strict=True)
            if weight
        ]
        set_frees(self._steps, [*net.outputs, *weighted])

    def clear(self) -> None:
        """Sets all parameters' diffs to 0, by leaving them to the next pass to make."""
        for param in self._net._net.parameters():
            param.grad = None
        for blobs in self._net.params.values():
            for blob in blobs:
                blob.drop_diff()

    def forward_backward(self) -> float:
        """Runs the net, adds to its parameters' diffs, and fills its output blobs.

        Returns:
            The weighted loss.
        """
        shared = dict(own_params(self._net._net))
        for step in self._steps:
            step.own = dict(shared.get(step.layer.name, {}))
        tensors: Tensors = {}
        losses: list[Tensor] = []
        total = 0.0
        for step in self._steps:
            step(tensors)
            for top, weight in zip(step.layer.tops, step.layer.loss_weights, strict=True):
                if weight:
                    losses.append(weight * tensors[top].sum())
                    # in double: a float sum of many numbers depends on how it is split up
                    total += weight * float(tensors[top].detach().sum(dtype=torch.float64))
        for name in self._net.outputs:
            self._net.blobs[name].assign(tensors[name])
        learned = [loss for loss in losses if loss.requires_grad]
        if learned:
            torch.autograd.backward(learned)
        self._hand_over(shared)
        return total

    def _hand_over(self, shared: dict[str, dict[str, torch.nn.Parameter]]) -> None:
        """Makes the gradients the diffs of the blobs, without a copy."""
        net = self._net
        for layer, blobs in net.params.items():
            if layer not in shared:
                for param, blob in zip(net._net.layer_params(layer), blobs, strict=True):
                    if param.grad is not None:
                        param.grad = param.grad.contiguous()
                        blob.take_diff(param.grad)
        for name in reversed(shared):
            for blob, own in zip(net.params[name], shared[name].values(), strict=True):
                if own.grad is not None:
                    blob.diff[...] += own.grad.view(blob.diff.shape).numpy()
