"""Checks of the labels that layers and losses read."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor


class WrongLabelError(ValueError):
    """A label that is neither a class nor ignored.

    Args:
        label: its value.
        classes: number of classes.
        index: its index among all labels, in C order.
        count: number of labels.
    """

    def __init__(self, label: int, classes: int, index: int, count: int) -> None:
        self.label, self.index, self.count = label, index, count
        advice = "; set ignore_label: 255 where it is VOC's void" if label == 255 else ""
        expected = f"expected 0 to {classes - 1} or an ignored label"
        super().__init__(f"label {label}; {expected}{advice}")

    def item(self, items: int) -> int:
        """The item that it belongs to, of ``items`` items with equally many labels."""
        return self.index * items // self.count


def checked(
    labels: Tensor, classes: int, ignore_labels: Collection[int] = ()
) -> tuple[Tensor, Tensor]:
    """Labels as indices, and which of them count. For a wrong label Caffe reads out of bounds.

    Args:
        labels: whole numbers of any dtype; fractions are cut off.
        classes: number of classes.
        ignore_labels: labels that do not count.
    Returns:
        int64 labels, 0 where ignored, and a bool tensor, both shaped like ``labels``.
    Raises:
        WrongLabelError: a label that is neither ignored nor in [0, classes).
    """
    label = labels.detach().long()
    counted = torch.ones_like(label, dtype=torch.bool)
    for value in ignore_labels:
        counted &= label != value
    wrong = counted & ((label < 0) | (label >= classes))
    if bool(wrong.any()):
        index = int(wrong.flatten().nonzero()[0])
        raise WrongLabelError(int(label.flatten()[index]), classes, index, label.numel())
    return label.masked_fill(~counted, 0), counted


def divisor(normalization: str | float, counted: Tensor, like: Tensor) -> Tensor:
    """The divisor of a sum over positions, at least 1.

    Args:
        normalization: 'VALID' counted positions, 'FULL' all positions, 'BATCH_SIZE' the size of
            the first axis, 'NONE' 1; or a number (R-FCN's PRE_FIXED).
        counted: (N, ...) bool; N is the product of the axes before the class axis.
        like: a tensor of the result's dtype and device.
    Source: BVLC/caffe softmax_loss_layer.cpp, get_normalizer.
    """
    if not isinstance(normalization, str):
        return like.new_tensor(max(normalization, 1))
    if normalization == "VALID":
        return counted.sum().to(like.dtype).clamp(min=1)
    sizes = {"FULL": counted.numel(), "BATCH_SIZE": counted.shape[0], "NONE": 1}
    return like.new_tensor(max(sizes[normalization], 1))
