"""SegAccuracy: pixel accuracy, mean recall, mean IoU."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from caffe_port.labels import checked
from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.layers.argmax import top_k
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops.seg_accuracy import SegAccuracy as Options


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
        op = self.spec.options(Options)
        scores, labels = (b.detach() for b in bottoms)
        with named(self.spec):
            new = confusion(scores, labels, op.ignore_labels)
        self.counts = new if op.reset else self.counts + new
        return (measures(self.counts).to(scores.dtype).reshape(1, 1, 1, 3),)
