"""Modules: metrics and ArgMax, which have no diff."""

from __future__ import annotations

import warnings
from collections.abc import Collection

import torch
from torch import Tensor

from caffe_port.labels import checked
from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.layers.losses import by_item
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops import metrics as ops


def top_k(x: Tensor, k: int, axis: int) -> tuple[Tensor, Tensor]:
    """The k largest values along an axis, largest first; among equals the highest index first.

    Args:
        x: any shape.
        k: how many, at most the axis's size.
        axis: the axis searched.
    Returns:
        Values and int64 indices, shaped like x with k elements on the axis.
    Source: BVLC/caffe argmax_layer.cpp, whose sort compares (value, index) pairs.
    """
    flipped = x.flip(axis)
    values, order = torch.sort(flipped, dim=axis, descending=True, stable=True)
    values, order = values.narrow(axis, 0, k), order.narrow(axis, 0, k)
    return values, x.shape[axis] - 1 - order


@register_layer("ArgMax")
class ArgMax(Layer):
    """Has no backward, as in Caffe."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.ArgMax)
        x = bottoms[0].detach()
        shape = op.top_shapes([tuple(x.shape)])[0]
        if op.axis is not None:
            values, index = top_k(x, op.top_k, op.axis)
            return (values if op.out_max_val else index.to(x.dtype),)
        values, index = top_k(by_item(x), op.top_k, 1)
        both = [index.to(x.dtype), values] if op.out_max_val else [index.to(x.dtype)]
        return (torch.stack(both, 1).reshape(shape),)


def among_best(scores: Tensor, label: Tensor, k: int, *, ties_lose: bool) -> Tensor:
    """Whether the true class is one of the k best.

    Args:
        scores: (P, C).
        label: (P,) int64.
        k: how many are best.
        ties_lose: True, BVLC's rule: a class with an equal score counts as better. False, the
            older forks' rule: of equal scores the highest class is better.
    Returns:
        (P,) bool.
    Source: BVLC/caffe accuracy_layer.cpp, Forward_cpu; DeepLab v2's for ties_lose=False.
    """
    if ties_lose:
        true = scores.gather(1, label[:, None])
        # the true class itself is one of those that are at least as good
        return (scores >= true).sum(1) - 1 < k
    return (top_k(scores, k, 1)[1] == label[:, None]).any(1)


@register_layer("Accuracy")
class Accuracy(Layer):
    """Tops: the accuracy, and the accuracy of each class where a second top is given.

    Without any counted label it is 0, as in BVLC's (the forks divide 0 by 0). Labels that are not
    classes do not count, with one warning: release builds of Caffe read beyond the scores for
    them, and continue. SegNet's published nets have them (void is 11 of 11 classes).
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self._warned = False

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.Accuracy)
        scores, labels = bottoms[0].detach().movedim(op.axis, -1), bottoms[1]
        classes = scores.shape[-1]
        label = labels.detach().flatten().long()
        known = (label >= 0) & (label < classes)
        wanted = torch.ones_like(known) if op.ignore_label is None else label != op.ignore_label
        self._warn_of(label[wanted & ~known], label.numel(), classes)
        counted = wanted & known
        label, rows = label[counted], scores.reshape(-1, classes)[counted]
        right = among_best(rows, label, op.top_k, ties_lose=self.spec.dialect == "bvlc")
        accuracy = right.sum() / max(len(label), 1)
        present = torch.bincount(label, minlength=classes)
        hits = torch.bincount(label[right], minlength=classes)
        tops = (accuracy, hits / present.clamp(min=1))
        return tuple(top.to(scores.dtype) for top in tops[: len(self.spec.tops)])

    def _warn_of(self, outside: Tensor, labels: int, classes: int) -> None:
        """Warns once, with the numbers of the first batch, of labels that are not classes."""
        if self._warned or not len(outside):
            return
        self._warned, value = True, int(outside[0])
        warnings.warn(
            f"layer '{self.spec.name}' (Accuracy): {len(outside)} of {labels} labels are not "
            f"classes, 0 to {classes - 1}, such as {value}; they do not count. Caffe reads beyond "
            "the scores for them, so its accuracy differs. If they are to be ignored: "
            f"accuracy_param {{ ignore_label: {value} }}",
            stacklevel=2,
        )


@register_layer("EltwiseAccuracy")
class EltwiseAccuracy(Layer):
    """Of equal scores the highest class is better; a label that is no class is wrong.

    Source: HyeonwooNoh/caffe eltwise_accuracy_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.EltwiseAccuracy)
        scores = bottoms[0].detach().movedim(1, -1)
        label = bottoms[1].detach().flatten().long()
        counted = torch.ones_like(label, dtype=torch.bool)
        if op.ignore_label is not None:
            counted = label != op.ignore_label
        rows = scores.reshape(-1, scores.shape[-1])[counted]
        right = among_best(rows, label[counted], op.top_k, ties_lose=False)
        return ((right.sum() / counted.sum().clamp(min=1)).to(scores.dtype),)


def confusion(scores: Tensor, labels: Tensor, ignore_labels: Collection[int]) -> Tensor:
    """Counts of (truth, prediction); of equal scores the highest class is predicted.

    Args:
        scores: (N, C, H, W).
        labels: (N, 1, H, W) of whole numbers, any dtype.
        ignore_labels: labels that do not count.
    Returns:
        (C, C) int64: rows truth, columns prediction.
    Raises:
        ValueError: a label that is neither ignored nor in [0, C).
    """
    classes = scores.shape[1]
    truth, counted = checked(labels.flatten(), classes, ignore_labels)
    predicted = top_k(scores, 1, 1)[1].flatten()
    truth, predicted = truth[counted], predicted[counted]
    counts = torch.bincount(truth * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def measures(counts: Tensor) -> Tensor:
    """(pixel accuracy, mean recall, mean IoU) of a confusion matrix.

    Recall is averaged over the classes present in the truth; IoU over all classes, where one absent
    from truth and prediction counts as 1.

    Source: DeepLab v2 confusion_matrix.cpp: accuracy, avgRecall(false), avgJaccard.
    """
    c = counts.double()
    hits, truth, predicted = c.diagonal(), c.sum(1), c.sum(0)
    union = truth + predicted - hits
    present = truth > 0
    recall = (hits / truth)[present].mean() if bool(present.any()) else c.new_tensor(0.0)
    jaccard = torch.where(union > 0, hits / union.clamp(min=1), 1.0).mean()
    return torch.stack([hits.sum() / c.sum().clamp(min=1), recall, jaccard])


@register_layer("SegAccuracy")
class SegAccuracy(Layer):
    """Accumulates over forward passes where ``reset`` is false. Source: seg_accuracy_layer.cpp."""

    counts: Tensor

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        classes = spec.bottom_shapes[0][1]
        counts = torch.zeros(classes, classes, dtype=torch.int64)
        self.register_buffer("counts", counts, persistent=False)

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.SegAccuracy)
        scores, labels = (b.detach() for b in bottoms)
        with named(self.spec):
            new = confusion(scores, labels, op.ignore_labels)
        self.counts = new if op.reset else self.counts + new
        return (measures(self.counts).to(scores.dtype).reshape(1, 1, 1, 3),)


@register_layer("Silence")
class Silence(Layer):
    """Its bottoms get zero diffs. Source: BVLC/caffe silence_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return ()
