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

if TYPE_CHECKING:
    from caffe_port.pycaffe.net import Net


def is_possible(net: Net) -> bool:
    """Whether nobody looks into the net: no callbacks, no Python layers, no GPU, no inputs."""
    modules = net._net.modules()
    return (
        mode.device().type == "cpu"
        and not net.inputs
        and not any(net._callbacks.values())
        and not any(isinstance(module, Python) for module in modules)
    )


def forward_backward(net: Net) -> float:
    """Runs the net, adds to its parameters' diffs, and fills its output blobs.

    Returns:
        The weighted loss.
    """
    _bind_diffs(net)
    shared = _shared(net)
    tensors: dict[str, Tensor] = {}
    losses: list[Tensor] = []
    total = 0.0
    for layer in net._net.spec.layers:
        bottoms = [
            tensors[name] if needed else tensors[name].detach()
            for name, needed in zip(layer.bottoms, layer.bottom_needs_backward, strict=True)
        ]
        with torch.set_grad_enabled(layer.needs_backward):
            if layer.name in shared:
                module, own = net._net.module(layer.name), shared[layer.name]
                tops = torch.func.functional_call(module, dict(own), tuple(bottoms))
            else:
                tops = net._net.run_layer(layer.name, bottoms)
        tensors.update(zip(layer.tops, tops, strict=True))
        for top, weight in zip(tops, layer.loss_weights, strict=True):
            if weight:
                losses.append(weight * top.sum())
                # in double: a float sum of many numbers depends on how it is split up
                total += weight * float(top.detach().sum(dtype=torch.float64))
    for name in net.outputs:
        net.blobs[name].assign(tensors[name])
    learned = [loss for loss in losses if loss.requires_grad]
    if learned:
        torch.autograd.backward(learned)
    for name in reversed(shared):
        for blob, param in zip(net.params[name], shared[name].values(), strict=True):
            if param.grad is not None:
                blob.diff[...] += param.grad.numpy()
    return total


def _shared(net: Net) -> dict[str, dict[str, Tensor]]:
    """Layers that share parameters, each with its own ones over the same memory.

    Caffe adds each layer's part to the diff by itself, the last layer's first; autograd would add
    up the parts before.
    """
    specs = net._net.spec.layers
    users = [layer for layer in specs if any(param.owner for param in layer.params)]
    owners = {param.owner[0] for layer in users for param in layer.params if param.owner}
    names = {layer.name for layer in users} | owners
    made: dict[str, dict[str, Tensor]] = {}
    for layer in specs:
        if layer.name in names:
            module = net._net.module(layer.name)
            params = {param.name: module.get_parameter(param.name) for param in layer.params}
            made[layer.name] = {
                name: torch.nn.Parameter(param.detach(), param.requires_grad)
                for name, param in params.items()
            }
    return made


def _bind_diffs(net: Net) -> None:
    """Lets gradients be added right into the diffs of the blobs."""
    for layer in net._net.spec.layers:
        for param, blob in zip(
            net._net.layer_params(layer.name), net.params.get(layer.name, ()), strict=True
        ):
            if param.requires_grad and (
                param.grad is None or param.grad.data_ptr() != blob.diff.ctypes.data
            ):
                param.grad = torch.from_numpy(blob.diff).view(param.shape)
