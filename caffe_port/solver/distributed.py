"""Training in several processes: the steps of a net whose batches they share.

A blob is either split, each process having its own items, or whole, equal on all processes. The
diff of a split blob is split in the same way; the diff of a whole blob is complete on each process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from caffe_port.errors import UsageError
from caffe_port.layers.batch_norm import BatchNorm, channel_mean
from caffe_port.layers.data import SourceLayer
from caffe_port.layers.neurons import Dropout
from caffe_port.net import Net
from caffe_port.ranks import BatchRanks
from caffe_port.solver.step import LayerStep
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops.batch_norm import BatchNorm as BatchNormOptions
from caffe_port.spec.ops.losses import SoftmaxWithLoss


class _Gather(torch.autograd.Function):
    """The whole blob of a split one. Each process computes the whole diff and keeps its items."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, ranks: BatchRanks) -> Tensor:
        ctx.ranks = ranks
        return ranks.gather(part)

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.ranks.part(diffs[0]), None


def _summed(values: Tensor, ranks: BatchRanks) -> Tensor:
    """The sum over the processes, which is no part of an autograd graph."""
    total = values.detach().clone()
    ranks.sum(total)
    return total


class _Total(torch.autograd.Function):
    """The sum of each process's share of a loss; the diff of each share is that of the sum."""

    @staticmethod
    def forward(ctx: Any, share: Tensor, ranks: BatchRanks) -> Tensor:
        return _summed(share, ranks)

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        return diffs[0], None


class _Mean(torch.autograd.Function):
    """The mean over the processes, forward and backward."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, ranks: BatchRanks) -> Tensor:
        ctx.ranks = ranks
        return _summed(own, ranks) / ranks.count

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        return _summed(diffs[0], ctx.ranks) / ctx.ranks.count, None


class _RankStep(LayerStep):
    def __init__(self, net: Net, layer: LayerSpec, ranks: BatchRanks) -> None:
        super().__init__(net, layer)
        self.ranks = ranks


class SourceStep(_RankStep):
    """Takes the draws of whole batches, as a single process does, and keeps this process's items.

    The others are not decoded where the layer's reader can leave them out.
    """

    def __init__(self, net: Net, layer: LayerSpec, ranks: BatchRanks) -> None:
        super().__init__(net, layer, ranks)
        if isinstance(self.module, SourceLayer):
            self.module.part = (ranks.rank, ranks.count)

    def run(self, bottoms: Sequence[Tensor]) -> Sequence[Tensor]:
        return [self.ranks.part(top) for top in super().run(bottoms)]


class WholeStep(_RankStep):
    """Runs on the whole batch on each process; a layer that only writes files, on the root.

    Each process computes the diffs of the parameters; they are summed later, so each is divided by
    the number of processes.
    """

    def __init__(
        self, net: Net, layer: LayerSpec, ranks: BatchRanks, split: Sequence[bool]
    ) -> None:
        super().__init__(net, layer, ranks)
        self._split = split
        self._divide_diffs([self.module.get_parameter(param.name) for param in layer.params])

    def _divide_diffs(self, params: Iterable[Tensor]) -> None:
        for param in params:
            if param.requires_grad:
                param.register_hook(lambda diff: diff / self.ranks.count)  # type: ignore[no-untyped-call]

    def run(self, bottoms: Sequence[Tensor]) -> Sequence[Tensor]:
        wholes = [
            _Gather.apply(bottom, self.ranks) if split else bottom  # type: ignore[no-untyped-call]
            for bottom, split in zip(bottoms, self._split, strict=True)
        ]
        if not (self.layer.tops or self.ranks.is_root):
            return []
        self._divide_diffs(self.params.values())  # other objects in each pass
        return super().run(wholes)


class SoftmaxLossStep(_RankStep):
    """The loss of this process's items, with the divisor of the whole batch."""

    def run(self, bottoms: Sequence[Tensor]) -> Sequence[Tensor]:
        loss, *rest = super().run(bottoms)
        share = loss * self._factor(*bottoms)
        return [_Total.apply(share, self.ranks), *rest]  # type: ignore[no-untyped-call]

    def _factor(self, scores: Tensor, labels: Tensor) -> Tensor | float:
        """The divisor of this process's items over that of the whole batch."""
        op = self.layer.op
        assert isinstance(op, SoftmaxWithLoss)
        if op.normalization == "NONE":
            return 1.0
        if op.normalization != "VALID":
            return 1 / self.ranks.count
        label, counts = labels.detach().long(), torch.ones_like(labels, dtype=torch.bool)
        for ignored in op.ignore_labels:
            counts &= label != ignored
        counted = counts.sum().to(scores.dtype)
        total = _summed(counted, self.ranks)
        share: Tensor = counted.clamp(min=1) / total.clamp(min=1)
        return share


def make_steps(net: Net, ranks: BatchRanks) -> tuple[list[LayerStep], list[str]]:
    """Makes the steps of this process.

    Returns:
        The steps, and the names of the split blobs.
    Raises:
        UsageError: a batch that cannot be shared evenly.
    """
    split: dict[str, bool] = {}
    steps = []
    for layer in net.spec.layers:
        steps.append(_step(net, layer, ranks, [split[name] for name in layer.bottoms]))
        for i, top in enumerate(layer.tops):
            is_loss = i == 0 and isinstance(steps[-1], SoftmaxLossStep)
            split[top] = not (is_loss or isinstance(steps[-1], WholeStep))
    return steps, [name for name, is_split in split.items() if is_split]


def _step(net: Net, layer: LayerSpec, ranks: BatchRanks, split: Sequence[bool]) -> LayerStep:
    module = net.module(layer.name)
    if layer.op.kind == "source" and layer.type != "Parameter":
        for shape in layer.top_shapes:
            if not shape or shape[0] % ranks.count:
                raise UsageError(
                    f"layer '{layer.name}' ({layer.type}) gives batches of shape {shape}, which "
                    f"{ranks.count} processes cannot share evenly; batch_size must be a multiple "
                    f"of {ranks.count}, or iter_size in a net without statistics of batches"
                )
        return SourceStep(net, layer, ranks)
    op = layer.op
    if isinstance(op, SoftmaxWithLoss) and all(split):
        if op.normalization != "WEIGHTS" and op.axis % len(layer.bottom_shapes[0]):
            return SoftmaxLossStep(net, layer, ranks)
    elif all(split) and layer.is_itemwise(ranks.count):
        if isinstance(module, Dropout):
            module.part = (ranks.rank, ranks.count)
        if isinstance(module, BatchNorm) and isinstance(op, BatchNormOptions):
            module.parts = ranks.count
            module.mean_of = lambda x: _Mean.apply(channel_mean(x), ranks)  # type: ignore[no-untyped-call]
        return LayerStep(net, layer)
    return WholeStep(net, layer, ranks, split)


#: Layers whose passes depend on nothing but bottoms, parameters and Dropout's draws.
_INDEPENDENT = {
    "Accuracy", "Bias", "Concat", "Convolution", "Crop", "Deconvolution", "Dropout", "ELU",
    "Eltwise", "EuclideanLoss", "Flatten", "InnerProduct", "Interp", "LRN", "Permute", "Pooling",
    "Power", "PReLU", "ReLU", "Reshape", "Scale", "Sigmoid", "Silence", "Slice", "Softmax",
    "SoftmaxWithLoss", "Split", "TanH",
}  # fmt: skip


class Turns:
    """The passes of each iteration (iter_size), which the processes compute in turn.

    Each process takes the random draws of all passes, reads its own batches only where the reader
    allows it, and adds up its own diffs, which are then added up over the processes.

    Args:
        net: one for which ``possible`` holds.
        ranks: the processes.
        passes: of an iteration, a multiple of their number.
    """

    def __init__(self, net: Net, ranks: BatchRanks, passes: int) -> None:
        self._net, self._ranks, self._passes = net, ranks, passes
        self._done, self._mine = 0, 0.0
        for layer in net.spec.layers:
            module = net.module(layer.name)
            if isinstance(module, SourceLayer):
                module.turn = (ranks.rank, ranks.count)

    @staticmethod
    def possible(net: Net, ranks: BatchRanks, passes: int) -> bool:
        """Whether turns are needed, as a batch cannot be shared, and give the same result."""
        modules = {layer.name: net.module(layer.name) for layer in net.spec.layers}
        sources = [layer for layer in net.spec.layers if layer.op.kind == "source"]
        return (
            passes > 1
            and passes % ranks.count == 0
            and any(shape[0] % ranks.count for x in sources for shape in x.top_shapes if shape)
            and all(isinstance(modules[layer.name], SourceLayer) for layer in sources)
            and all(_is_independent(layer) for layer in net.spec.layers if layer not in sources)
        )

    def is_mine(self) -> bool:
        """Whether this process computes the next pass."""
        return self._done % self._ranks.count == self._ranks.rank

    def skip(self, device: torch.device) -> None:
        """Takes the draws of a pass of another process; those of torch are on the device."""
        for layer in self._net.spec.layers:
            module = self._net.module(layer.name)
            if isinstance(module, SourceLayer):
                module()
            elif isinstance(module, Dropout):
                module.skip(torch.empty(layer.bottom_shapes[0], device=device))

    def finished(self, loss: float, outputs: Sequence[Tensor]) -> float:
        """Counts a pass.

        Args:
            loss: of the pass, 0 where another process computed it.
            outputs: the net's, which become those of the iteration's last pass.
        Returns:
            What to add to the iteration's loss so that it becomes that of all processes.
        """
        self._done += 1
        self._mine += loss
        if self._done < self._passes:
            return loss
        before, self._done = self._mine - loss, 0
        total = torch.tensor([self._mine], dtype=torch.float64)
        self._mine = 0.0
        self._ranks.sum(total)
        for values in outputs:
            flat = self._ranks.gather(values.reshape(1, -1))
            values.copy_(flat[-1].view_as(values))  # the last process computed the last pass
        return float(total) - before


def _is_independent(layer: LayerSpec) -> bool:
    op = layer.op
    if isinstance(op, BatchNormOptions):
        return bool(op.use_global_stats) and not op.update_global_stats
    return layer.type in _INDEPENDENT
