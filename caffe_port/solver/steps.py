"""One solver step: learnable parameters, gradients, the update."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from caffe_port.errors import UsageError
from caffe_port.live.blob import Blob
from caffe_port.live.net import Net as LiveNet
from caffe_port.net import Net
from caffe_port.plan import freed_after
from caffe_port.spec import LayerSpec

# What happens to gradients between backward and update: clipping, iter_size, weight decay.
#
# Source: BVLC/caffe sgd_solver.cpp, ClipGradients, Normalize, Regularize.

_PIECE = 2**17  # numbers; those of a parameter, its diff and its histories fit in a core's cache


def clip(diffs: Sequence[Tensor], limit: float) -> tuple[float, float] | None:
    """Scales all diffs, in place, so that their common L2 norm is at most ``limit``.

    Args:
        diffs: of all learnable parameters, summed over iter_size passes.
        limit: clip_gradients; negative does nothing, and a norm that is NaN neither.
    Returns:
        The norm and the factor where they were scaled, else None.
    """
    if limit < 0 or not diffs:
        return None
    norm = float(torch.stack([diff.flatten().dot(diff.flatten()) for diff in diffs]).sum().sqrt())
    if not norm > limit:  # NaN included
        return None
    for diff in diffs:
        diff.mul_(limit / norm)
    return norm, limit / norm


def regularize(diff: Tensor, data: Tensor, decay: float, kind: str) -> None:
    """Adds weight decay to a diff, in place: ``decay * w`` (L2) or ``decay * sign(w)`` (L1).

    Raises:
        UsageError: another regularization_type.
    """
    if kind not in ("L1", "L2"):
        raise UsageError(f"regularization_type is '{kind}'; expected L1 or L2")
    if decay:
        diff.add_(data if kind == "L2" else data.sign(), alpha=decay)


def in_pieces(*tensors: Tensor) -> Iterator[list[Tensor]]:
    """Tensors of equal size cut alike, so that several steps go over each piece while it is near.

    Args:
        tensors: contiguous, of equal size; on a GPU they are one piece.
    Yields:
        Flat views.
    """
    flat = [tensor.view(-1) for tensor in tensors]
    piece = _PIECE if flat[0].device.type == "cpu" else max(len(flat[0]), 1)
    for start in range(0, len(flat[0]), piece):
        yield [tensor[start : start + piece] for tensor in flat]


# The parameters that a solver updates, wherever they are.


class Learnable:
    """A parameter that the solver updates.

    Attributes:
        blob: its data and diff.
        lr_mult, decay_mult: its factors.
        away: the parameter, while it is on a GPU and the blob waits.
    """

    def __init__(self, blob: Blob, lr_mult: float, decay_mult: float) -> None:
        self.blob, self.lr_mult, self.decay_mult = blob, lr_mult, decay_mult
        self.away: Parameter | None = None

    @property
    def data(self) -> Tensor:
        """Its values, live."""
        return self.away.detach() if self.away is not None else torch.from_numpy(self.blob.data)

    @property
    def diff(self) -> Tensor:
        """Its diff, live."""
        if self.away is None:
            return torch.from_numpy(self.blob.diff)
        if self.away.grad is None:
            self.away.grad = torch.zeros_like(self.away)
        return self.away.grad

    def come_home(self) -> None:
        """Takes the diff back into the blob."""
        self.blob.take_diff(self.diff.cpu())
        self.away = None


def learnable(net: LiveNet) -> list[Learnable]:
    """A net's parameters in order, shared ones once."""
    return [
        Learnable(net._own_params[layer.name][i], param.lr_mult, param.decay_mult)
        for layer in net._net.spec.layers
        for i, param in enumerate(layer.params)
        if param.owner is None
    ]


# The layers of a net as a training runs them, one after the other.

Tensors = dict[str, Tensor]
_FULL = (torch.float32, torch.float64)


class Step:
    """One layer, to be run by ``run_steps``.

    Args:
        net: whose layer.
        layer: which.
    Attributes:
        free: blobs that nothing needs afterwards.
        own: parameters to use in the module's place, over the same memory; see ``own_params``.
        place: brings what a data layer reads where the net computes, in the layout it wants.
    """

    def __init__(self, net: Net, layer: LayerSpec) -> None:
        self.net, self.layer = net, layer
        self.module = net.module(layer.name)
        self.free: tuple[str, ...] = ()
        self.own: dict[str, Tensor] = {}
        self.place: Callable[[Tensor], Tensor] | None = None

    @property
    def is_exact(self) -> bool:
        """Whether it computes in float32 also where others do not: losses, and what reports."""
        layer = self.layer
        return any(layer.loss_weights) or layer.op.kind != "plain" or layer.type.endswith("Loss")

    @property
    def losses(self) -> list[tuple[str, float]]:
        """Tops that count in the loss, with their weights."""
        pairs = zip(self.layer.tops, self.layer.loss_weights, strict=True)
        return [(top, weight) for top, weight in pairs if weight]

    @property
    def bottoms(self) -> tuple[str, ...]:
        """The layer's bottoms."""
        return self.layer.bottoms

    @property
    def tops(self) -> tuple[str, ...]:
        """The layer's tops."""
        return self.layer.tops

    def compute(self, bottoms: Sequence[Tensor]) -> Sequence[Tensor]:
        """Computes the tops, with gradients and in the precision that the layer needs."""
        layer = self.layer
        bottoms = [
            bottom if needed else bottom.detach()
            for bottom, needed in zip(bottoms, layer.bottom_needs_backward, strict=True)
        ]
        with torch.set_grad_enabled(layer.needs_backward):
            if self.is_exact and torch.is_autocast_enabled(self._kind(bottoms)):
                with torch.autocast(self._kind(bottoms), enabled=False):
                    tops = self.run([_exact(bottom) for bottom in bottoms])
            else:
                tops = self.run(bottoms)
        return tops if self.place is None else [self.place(top) for top in tops]

    def run(self, bottoms: Sequence[Tensor]) -> Sequence[Tensor]:
        """Runs the layer's module."""
        if self.own:
            found: Sequence[Tensor] = torch.func.functional_call(
                self.module, dict(self.own), tuple(bottoms)
            )
            return found
        return self.net.run_layer(self.layer.name, bottoms)

    def _kind(self, bottoms: Sequence[Tensor]) -> str:
        return bottoms[0].device.type if bottoms else "cpu"


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype in _FULL or not x.is_floating_point() else x.float()


def set_frees(steps: Sequence[Step], kept: Sequence[str]) -> None:
    """Sets what each step frees: all blobs but some, after their last reader."""
    for step, free in zip(steps, freed_after(steps, kept), strict=True):
        step.free = free


def own_params(net: Net) -> Iterator[tuple[str, dict[str, nn.Parameter]]]:
    """Layers that share parameters, each with its own ones over the same memory.

    Caffe adds each layer's part to the diff by itself, the last layer's first; autograd would add
    up the parts before. It comes to the last layer first, so each part is added when it is there.
    """
    specs = net.spec.layers
    users = [layer for layer in specs if any(param.owner for param in layer.params)]
    owners = {param.owner[0] for layer in users for param in layer.params if param.owner}
    names = {layer.name for layer in users} | owners
    for layer in specs:
        if layer.name in names:
            module = net.module(layer.name)
            params = {param.name: module.get_parameter(param.name) for param in layer.params}
            yield layer.name, _over_the_same_memory(params)


def _over_the_same_memory(params: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    made = {name: nn.Parameter(p.detach(), p.requires_grad) for name, p in params.items()}
    for name, own in made.items():
        if own.requires_grad:
            own.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                _adding_to(params[name])
            )
    return made


def _adding_to(param: nn.Parameter) -> Callable[[Tensor], None]:
    def add(own: Tensor) -> None:
        assert own.grad is not None
        mine, own.grad = own.grad.view(param.shape), None
        param.grad = mine if param.grad is None else param.grad.add_(mine)

    return add
