"""Forward and backward of a solver's step in one graph of autograd, without filling the blobs.

pycaffe's passes copy each layer's output into a blob, which scripts may read and change. A training
that only needs the outputs and the diffs of the parameters gets the same ones without the copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import Parameter

from caffe_port.layers.normalization import assigns_diff
from caffe_port.layers.python_layer import Python
from caffe_port.live.blob import Blob
from caffe_port.live.net import Net as LiveNet
from caffe_port.live.running import move_buffers
from caffe_port.net import Net
from caffe_port.plan import freed_after, run_steps
from caffe_port.solver.modes import LayerRow, LossScale, Modes, checkpointed, compiled
from caffe_port.spec import LayerSpec

if TYPE_CHECKING:
    from caffe_port.ranks import BatchRanks

Tensors = dict[str, Tensor]
_FULL = (torch.float32, torch.float64)


class LayerStep:
    """One layer, to be run by ``run_steps``.

    Args:
        net: the net.
        layer: its layer.
    Attributes:
        free: blobs that no later layer reads.
        params: parameters to use instead of the module's, in the same memory; see
            ``unshared_params``.
        place: moves the tops of a data layer to the device and memory layout of the training.
    """

    def __init__(self, net: Net, layer: LayerSpec) -> None:
        self.net, self.layer = net, layer
        self.module = net.module(layer.name)
        self.bottoms, self.tops = layer.bottoms, layer.tops
        self.free: tuple[str, ...] = ()
        self.params: dict[str, Tensor] = {}
        self.place: Callable[[Tensor], Tensor] | None = None

    @property
    def is_exact(self) -> bool:
        """Whether it computes in float32 under -amp too: losses, sources and layers that report."""
        layer = self.layer
        return any(layer.loss_weights) or layer.op.kind != "plain" or layer.type.endswith("Loss")

    @property
    def is_repeatable(self) -> bool:
        """Whether it may run a second time: it needs no other process and counts nothing."""
        return type(self) is LayerStep and not self.is_exact

    @property
    def losses(self) -> list[tuple[str, float]]:
        """Tops that are part of the loss, with their weights."""
        pairs = zip(self.layer.tops, self.layer.loss_weights, strict=True)
        return [(top, weight) for top, weight in pairs if weight]

    def compute(self, bottoms: Sequence[Tensor]) -> Sequence[Tensor]:
        """Computes the tops, with gradients and in the precision that the layer needs."""
        layer = self.layer
        bottoms = [
            bottom if needed else bottom.detach()
            for bottom, needed in zip(bottoms, layer.bottom_needs_backward, strict=True)
        ]
        device = bottoms[0].device.type if bottoms else "cpu"
        with torch.set_grad_enabled(layer.needs_backward):
            if self.is_exact and torch.is_autocast_enabled(device):
                with torch.autocast(device, enabled=False):
                    tops = self.run([_exact(bottom) for bottom in bottoms])
            else:
                tops = self.run(bottoms)
        return tops if self.place is None else [self.place(top) for top in tops]

    def run(self, bottoms: Sequence[Tensor]) -> Sequence[Tensor]:
        """Runs the layer's module."""
        return self.net.run_layer(self.layer.name, bottoms, self.params)


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype in _FULL or not x.is_floating_point() else x.float()


def why_not_fused(net: LiveNet) -> str:
    """Why a net has to run layer by layer on its blobs, as pycaffe runs it; '' if it need not."""
    if net.inputs:
        return f"the input '{net.inputs[0]}' is filled from outside"
    if any(net._callbacks.values()):
        return "callbacks or debug_info read its blobs"
    if any(blobs.replaced for blobs in net._own_params.values()):
        return "its parameters were replaced by other blobs"
    python = next((module for module in net._net.modules() if isinstance(module, Python)), None)
    if python is not None:
        return f"layer '{python.spec.name}' (Python) works on its blobs"
    return str(next(iter(net._net.spec.side_effects), ""))


class FusedStep:
    """Runs a net forward and backward and adds to the diffs of its parameters.

    Args:
        net: one for which ``why_not_fused`` gives no reason.
        ranks: the processes that share its batches; None for a single process.
        modes: how it computes.
        device: where the parameters are while it runs.
        scale: the factor of losses in the backward pass; None is 1.
    Raises:
        UsageError: a batch that cannot be shared evenly.
    """

    def __init__(
        self,
        net: LiveNet,
        ranks: BatchRanks | None = None,
        modes: Modes | None = None,
        device: torch.device | None = None,
        scale: LossScale | None = None,
    ) -> None:
        self._net, self._ranks, self._scale = net, ranks, scale
        self._modes, self._device = modes or Modes(), device or torch.device("cpu")
        self._steps, self._partial = self._make_steps()
        weighted = [top for step in self._steps for top, _ in step.losses]
        freed = freed_after(self._steps, [*net.outputs, *weighted])
        for step, free in zip(self._steps, freed, strict=True):
            step.free = free
            if step.layer.op.kind == "source":
                step.place = self._place
        self._rows: Sequence[LayerStep | LayerRow] = self._steps
        if self._modes.checkpoint:
            self._rows = checkpointed(self._steps)
        elif self._modes.compile:
            self._rows = compiled(self._steps)

    def _make_steps(self) -> tuple[list[LayerStep], list[str]]:
        """The steps, and the blobs of which this process has its own items only."""
        net = self._net._net
        if self._ranks is None:
            return [LayerStep(net, layer) for layer in net.spec.layers], []
        from caffe_port.solver.distributed import make_steps

        return make_steps(net, self._ranks)

    def _place(self, values: Tensor) -> Tensor:
        if self._modes.channels_last and values.dim() == 4:
            return values.to(self._device, memory_format=torch.channels_last)
        return values.to(self._device)

    def clear(self) -> None:
        """Sets the diffs of all parameters to 0, by dropping them."""
        for param in self._net._net.parameters():
            param.grad = None
        for blobs in self._net._own_params.values():
            for blob in blobs:
                blob.drop_diff()

    def forward_backward(self) -> float:
        """Runs the net, adds to the diffs of its parameters, and fills its output blobs.

        Returns:
            The weighted loss.
        """
        # compiled layers add their diffs up as autograd does
        unshared = {} if self._modes.compile else dict(unshared_params(self._net._net))
        for step in self._steps:
            step.params = dict(unshared.get(step.layer.name, {}))
            layer = step.layer
            if layer.type == "Parameter":  # its diff is its top's, which is written, not added to
                for param in step.module.parameters():
                    param.grad = None
            elif layer.bottoms and assigns_diff(layer, layer.bottom_shapes[0]):
                step.module.get_parameter("weight").grad = None
        losses, total = self._forward()
        learned = [loss for loss in losses if loss.requires_grad]
        if self._scale is not None:
            learned = [loss * self._scale.scale for loss in learned]
        if learned:
            torch.autograd.backward(learned)
        self._share_diffs()
        return total

    def forward(self) -> float:
        """Runs the net forward, fills its output blobs and returns the weighted loss."""
        return self._forward()[1]

    def _forward(self) -> tuple[list[Tensor], float]:
        tensors: Tensors = {}
        losses: list[Tensor] = []
        total, dtype = 0.0, self._modes.dtype
        with torch.autocast(self._device.type, dtype, enabled=dtype is not None):
            run_steps(self._rows, tensors, lambda row, bottoms: row.compute(bottoms))
        for step in self._steps:
            for top, weight in step.losses:
                losses.append(weight * tensors[top].sum())
                # in double: a float sum of many numbers depends on how it is split up
                total += weight * float(tensors[top].detach().sum(dtype=torch.float64))
        for name in self._net.outputs:
            values = tensors[name]
            if self._ranks is not None and name in self._partial:
                values = self._ranks.gather(values)
            self._net.blobs[name].assign(values.float() if dtype else values)
        return losses, total

    def _share_diffs(self) -> None:
        """Makes gradients in main memory the diffs of the blobs, without a copy."""
        for layer, blobs in self._net._own_params.items():
            for param, blob in zip(self._net._net.layer_params(layer), blobs, strict=True):
                if param.grad is not None:
                    param.grad = param.grad.contiguous()
                    if param.grad.device.type == "cpu":
                        blob.take_diff(param.grad)


def unshared_params(net: Net) -> Iterator[tuple[str, dict[str, Parameter]]]:
    """Gives each layer that shares parameters its own Parameter objects in the same memory.

    Caffe adds the layers' parts to the diff one by one, the last layer's first; autograd would
    add up the parts. It reaches the last layer first, so each part is added when it is computed.
    """
    users = [layer for layer in net.spec.layers if any(param.owner for param in layer.params)]
    owners = {param.owner[0] for layer in users for param in layer.params if param.owner}
    names = {layer.name for layer in users} | owners
    for layer in net.spec.layers:
        if layer.name in names:
            module = net.module(layer.name)
            params = {param.name: module.get_parameter(param.name) for param in layer.params}
            yield layer.name, _in_the_same_memory(params)


def _in_the_same_memory(params: Mapping[str, Parameter]) -> dict[str, Parameter]:
    made = {name: Parameter(p.detach(), p.requires_grad) for name, p in params.items()}
    for name, own in made.items():
        if own.requires_grad:
            own.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                _adding_to(params[name])
            )
    return made


def _adding_to(param: Parameter) -> Callable[[Tensor], None]:
    def add(own: Tensor) -> None:
        assert own.grad is not None
        part, own.grad = own.grad.view(param.shape), None
        param.grad = part if param.grad is None else param.grad.add_(part)

    return add


class LearnedParam:
    """A parameter that the solver updates.

    Attributes:
        blob: its data and diff.
        lr_mult, decay_mult: its factors.
        on_device: the parameter while a ``DeviceCopy`` has it on a GPU, else None.
    """

    def __init__(self, blob: Blob, lr_mult: float, decay_mult: float) -> None:
        self.blob, self.lr_mult, self.decay_mult = blob, lr_mult, decay_mult
        self.on_device: Parameter | None = None

    @property
    def data(self) -> Tensor:
        """Its values; writing into them changes it."""
        param = self.on_device
        return torch.from_numpy(self.blob.data) if param is None else param.detach()

    @property
    def diff(self) -> Tensor:
        """Its diff; writing into it changes it."""
        if self.on_device is None:
            return torch.from_numpy(self.blob.diff)
        if self.on_device.grad is None:
            self.on_device.grad = torch.zeros_like(self.on_device)
        return self.on_device.grad


def learned_params(net: LiveNet) -> list[LearnedParam]:
    """A net's parameters in order, shared ones once."""
    return [
        LearnedParam(net._own_params[layer.name][i], param.lr_mult, param.decay_mult)
        for layer in net._net.spec.layers
        for i, param in enumerate(layer.params)
        if param.owner is None
    ]


class DeviceCopy:
    """Keeps parameters, diffs and histories on a GPU while a training steps.

    Between calls of ``step`` they are in the memory of the blobs, which scripts read.

    Args:
        net: the net, whose parameters and state are moved.
        learned, history: of its solver; the list of histories is changed in place.
        device: the GPU.
    """

    def __init__(
        self, net: LiveNet, learned: list[LearnedParam], history: list[Tensor], device: torch.device
    ) -> None:
        self._net, self._learned, self._history = net, learned, history
        self.device = device
        self._host: list[tuple[Tensor, Tensor]] = []  # parameter, its values in main memory

    def to_device(self) -> None:
        """Moves everything to the GPU."""
        for param in self._net._net.parameters():
            self._host.append((param, param.data))
            param.data = param.data.to(self.device, copy=True)
        self._move_buffers(self.device)
        params = {
            id(blob): param
            for layer, blobs in self._net._own_params.items()
            for blob, param in zip(blobs, self._net._net.layer_params(layer), strict=True)
        }
        for item in self._learned:
            item.on_device = params[id(item.blob)]
        self._history[:] = [values.to(self.device, copy=True) for values in self._history]

    def _move_buffers(self, device: torch.device) -> None:
        # a layer may have put another tensor in a buffer's place, so each is looked up again
        for module in self._net._net.modules():
            move_buffers(module, device)

    def sync(self) -> None:
        """Copies the values and diffs to main memory, for snapshots and tests."""
        for param, host in self._host:
            host.copy_(param.data)
        for item in self._learned if self._host else ():
            item.blob.take_diff(item.diff.cpu())

    def to_host(self) -> None:
        """Moves everything back to main memory."""
        self.sync()
        for item in self._learned:
            item.on_device = None
        for param, host in self._host:
            param.grad, param.data = None, host
        self._host.clear()
        self._move_buffers(torch.device("cpu"))
        self._history[:] = [values.cpu() for values in self._history]
