"""Training in several processes: the steps of a net whose batches they share.

A blob is there either in parts, each process having its own items, or whole, equal on all of
them. The diff of a part is that part of the diff; the diff of a whole blob is complete on every
process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from caffe_port.errors import UsageError
from caffe_port.layers.neurons import Dropout
from caffe_port.layers.normalization import BatchNorm, channel_mean
from caffe_port.net import Net
from caffe_port.ranks import BatchRanks
from caffe_port.solver.steps import Step
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops.losses import SoftmaxWithLoss
from caffe_port.spec.ops.normalization import BatchNorm as BatchNormOptions


class _Gather(torch.autograd.Function):
    """Parts to a whole. Every process computes the whole's diff, and keeps its part of it."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, ranks: BatchRanks) -> Tensor:
        ctx.ranks = ranks
        return ranks.gather(part)

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.ranks.part(diffs[0]), None


class _Total(torch.autograd.Function):
    """The sum of what each process has of a loss; its diff is that of each share."""

    @staticmethod
    def forward(ctx: Any, share: Tensor, ranks: BatchRanks) -> Tensor:
        total = share.detach().clone()
        ranks.sum(total)
        return total

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        return diffs[0], None


class _Mean(torch.autograd.Function):
    """The mean over the processes of what each works on with; their diffs' mean goes back."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, ranks: BatchRanks) -> Tensor:
        ctx.ranks = ranks
        mean = own.detach().clone()
        ranks.sum(mean)
        return mean / ranks.count

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        mean = diffs[0].clone()
        ctx.ranks.sum(mean)
        return mean / ctx.ranks.count, None


class _RankStep(Step):
    def __init__(self, net: Net, layer: LayerSpec, ranks: BatchRanks) -> None:
        super().__init__(net, layer)
        self.ranks = ranks


class SourceStep(_RankStep):
    """Makes whole batches, as one process would, and keeps this one's items."""

    def run(self, bottoms: Sequence[Tensor]) -> Sequence[Tensor]:
        return [self.ranks.part(top) for top in super().run(bottoms)]


class WholeStep(_RankStep):
    """Runs on the whole batch, on every process. What only writes files does so on the root.

    Every process computes its parameters' diffs; they are added up, so each gives its share.
    """

    def __init__(
        self, net: Net, layer: LayerSpec, ranks: BatchRanks, parts: Sequence[bool]
    ) -> None:
        super().__init__(net, layer, ranks)
        self._parts = parts
        self._share([self.module.get_parameter(param.name) for param in layer.params])

    def _share(self, params: Iterable[Tensor]) -> None:
        for param in params:
            if param.requires_grad:
                param.register_hook(lambda diff: diff / self.ranks.count)  # type: ignore[no-untyped-call]

    def run(self, bottoms: Sequence[Tensor]) -> Sequence[Tensor]:
        wholes = [
            _Gather.apply(bottom, self.ranks) if part else bottom  # type: ignore[no-untyped-call]
            for bottom, part in zip(bottoms, self._parts, strict=True)
        ]
        if not (self.layer.tops or self.ranks.is_root):
            return []
        self._share(self.own.values())  # made anew for each pass
        return super().run(wholes)


class SoftmaxLossStep(_RankStep):
    """The loss of this process's items, divided by what divides the whole batch's."""

    def run(self, bottoms: Sequence[Tensor]) -> Sequence[Tensor]:
        loss, *rest = super().run(bottoms)
        share = loss * self._factor(*bottoms)
        return [_Total.apply(share, self.ranks), *rest]  # type: ignore[no-untyped-call]

    def _factor(self, scores: Tensor, labels: Tensor) -> Tensor | float:
        """What the layer has divided by, over what it should have."""
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
        total = counted.clone()
        self.ranks.sum(total)
        share: Tensor = counted.clamp(min=1) / total.clamp(min=1)
        return share


def make_steps(net: Net, ranks: BatchRanks) -> tuple[list[Step], list[str]]:
    """The steps of this process.

    Returns:
        The steps; and the blobs that are there in parts at the end.
    Raises:
        UsageError: a batch that cannot be shared evenly.
    """
    parted: dict[str, bool] = {}
    steps = []
    for layer in net.spec.layers:
        steps.append(_step(net, layer, ranks, [parted[name] for name in layer.bottoms]))
        parts = not isinstance(steps[-1], WholeStep)
        for i, top in enumerate(layer.tops):
            parted[top] = parts and not (i == 0 and isinstance(steps[-1], SoftmaxLossStep))
    return steps, [name for name, part in parted.items() if part]


def _step(net: Net, layer: LayerSpec, ranks: BatchRanks, parts: Sequence[bool]) -> Step:
    module = net.module(layer.name)
    if layer.op.kind == "source" and layer.type != "Parameter":
        for shape in layer.top_shapes:
            if not shape or shape[0] % ranks.count:
                raise UsageError(
                    f"layer '{layer.name}' ({layer.type}) gives batches of shape {shape}, which "
                    f"{ranks.count} processes cannot share evenly; batch_size must be a multiple "
                    f"of {ranks.count}"
                )
        return SourceStep(net, layer, ranks)
    op = layer.op
    if isinstance(op, SoftmaxWithLoss) and all(parts):
        if op.normalization != "WEIGHTS" and op.axis % len(layer.bottom_shapes[0]):
            return SoftmaxLossStep(net, layer, ranks)
    elif all(parts) and layer.is_itemwise(ranks.count):
        if isinstance(module, Dropout):
            module.part = (ranks.rank, ranks.count)
        if isinstance(module, BatchNorm) and isinstance(op, BatchNormOptions):
            module.parts = ranks.count
            module.mean_of = lambda x: _Mean.apply(channel_mean(x), ranks)  # type: ignore[no-untyped-call]
        return Step(net, layer)
    return WholeStep(net, layer, ranks, parts)
