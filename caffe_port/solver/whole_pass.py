"""Forward and backward through a whole net at once, without filling the blobs in between.

pycaffe's own passes copy every layer's output into a blob that scripts may look at. A training
that nobody looks into needs only the outputs and the parameters' diffs, which are the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_port.layers.python_layer import Python
from caffe_port.solver.modes import LossScale, Modes
from caffe_port.solver.segments import Segment, checkpointed, compiled
from caffe_port.solver.steps import Step, Tensors, own_params, set_frees

if TYPE_CHECKING:
    from caffe_port.live.net import Net
    from caffe_port.solver.ranks import Ranks


def obstacle(net: Net) -> str:
    """Who looks into the net, so that every blob has to be filled; nothing where nobody does."""
    if net.inputs:
        return f"the input {net.inputs[0]}, which is filled from outside"
    if any(net._callbacks.values()):
        return "callbacks or debug_info, which look into its blobs"
    if any(blobs.replaced for blobs in net._own_params.values()):
        return "blobs that were put in place of its parameters"
    modules = net._net.modules()
    python = next((module for module in modules if isinstance(module, Python)), None)
    if python is not None:
        return f"layer '{python.spec.name}' (Python), which works on its blobs"
    return ""


class WholePass:
    """Runs a net and adds to its parameters' diffs.

    Args:
        net: nobody may look into it.
        ranks: the processes that share its batches; None where this is the only one.
        modes: how it computes.
        device: where the parameters are while it runs.
        scale: what losses are multiplied by for backward; None leaves them.
    Raises:
        UsageError: a batch that cannot be shared evenly.
    """

    def __init__(
        self,
        net: Net,
        ranks: Ranks | None = None,
        modes: Modes | None = None,
        device: torch.device | None = None,
        scale: LossScale | None = None,
    ) -> None:
        self._net, self._ranks = net, ranks
        self._modes, self._device = modes or Modes(), device or torch.device("cpu")
        self._scale = scale
        self._steps, self._parted = self._make_steps()
        weighted = [top for step in self._steps for top, _ in step.losses]
        set_frees(self._steps, [*net.outputs, *weighted])
        self._rows: Sequence[Step | Segment] = self._steps
        if self._modes.checkpoint:
            self._rows = checkpointed(self._steps)
        elif self._modes.compile:
            self._rows = compiled(self._steps)

    def _make_steps(self) -> tuple[list[Step], list[str]]:
        """The steps, and the blobs of which this process has only a part."""
        net, parted = self._net._net, list[str]()
        if self._ranks is None:
            steps = [Step(net, layer) for layer in net.spec.layers]
        else:
            from caffe_port.solver.parted import make_steps

            steps, parted = make_steps(net, self._ranks)
        for step in steps:
            if step.layer.op.kind == "source":
                step.place = self._place
        return steps, parted

    def _place(self, values: Tensor) -> Tensor:
        if self._modes.channels_last and values.dim() == 4:
            return values.to(self._device, memory_format=torch.channels_last)
        return values.to(self._device)

    def clear(self) -> None:
        """Sets all parameters' diffs to 0, by leaving them to the next pass to make."""
        for param in self._net._net.parameters():
            param.grad = None
        for blobs in self._net._own_params.values():
            for blob in blobs:
                blob.drop_diff()

    def forward_backward(self) -> float:
        """Runs the net, adds to its parameters' diffs, and fills its output blobs.

        Returns:
            The weighted loss.
        """
        # compiled layers add their diffs up as autograd does
        shared = {} if self._modes.compile else dict(own_params(self._net._net))
        for step in self._steps:
            step.own = dict(shared.get(step.layer.name, {}))
            if step.layer.type == "Parameter":  # its diff is its top's, which is written anew
                for param in step.module.parameters():
                    param.grad = None
        losses, total = self._forward()
        learned = [loss for loss in losses if loss.requires_grad]
        if self._scale is not None:
            learned = [loss * self._scale.scale for loss in learned]
        if learned:
            torch.autograd.backward(learned)
        self._hand_over()
        return total

    def _forward(self) -> tuple[list[Tensor], float]:
        tensors: Tensors = {}
        losses: list[Tensor] = []
        total = 0.0
        dtype = self._modes.dtype
        with torch.autocast(self._device.type, dtype, enabled=dtype is not None):
            for row in self._rows:
                row(tensors)
        for step in self._steps:
            for top, weight in step.losses:
                losses.append(weight * tensors[top].sum())
                # in double: a float sum of many numbers depends on how it is split up
                total += weight * float(tensors[top].detach().sum(dtype=torch.float64))
        for name in self._net.outputs:
            values = tensors[name]
            if self._ranks is not None and name in self._parted:
                values = self._ranks.gather(values)
            self._net.blobs[name].assign(values.float() if dtype else values)
        return losses, total

    def _hand_over(self) -> None:
        """Makes gradients in main memory the diffs of the blobs, without a copy."""
        for layer, blobs in self._net._own_params.items():
            for param, blob in zip(self._net._net.layer_params(layer), blobs, strict=True):
                if param.grad is not None:
                    param.grad = param.grad.contiguous()
                    if param.grad.device.type == "cpu":
                        blob.take_diff(param.grad)
