"""Accuracy: the share of positions whose true class is among the k best."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.layers.argmax import top_k
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops.accuracy import Accuracy as Options


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
    them, and go on. SegNet's published nets have them (void is 11 of 11 classes).
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self._warned = False

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
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
            "the scores for them, so its accuracy is another. If they are meant to be left out: "
            f"accuracy_param {{ ignore_label: {value} }}",
            stacklevel=2,
        )
