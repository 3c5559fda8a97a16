"""What layers that read labels share: how many there must be, and what losses divide by."""

from __future__ import annotations

import math
from collections.abc import Iterable

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Shape, Values, expect


def normalization(loss: caffe_pb2.LossParameter, default: str) -> str:
    """'FULL', 'VALID', 'BATCH_SIZE' or 'NONE'; the old flag counts only without the new field."""
    if loss.HasField("normalization"):
        return caffe_pb2.LossParameter.NormalizationMode.Name(loss.normalization)
    if loss.HasField("normalize"):
        return "VALID" if loss.normalize else "BATCH_SIZE"
    return default


def class_indices(classes: int, ignored: Iterable[int] = ()) -> Values:
    """Labels of so many classes, and those that do not count."""
    return Values(0, classes - 1, whole=True, also=tuple(ignored))


def same_batch(bottoms: list[Shape]) -> None:
    """Refuses bottoms whose first axes differ, as every loss layer of Caffe does.

    Accuracy and SegAccuracy are not loss layers in Caffe and compare the number of values only.

    Source: BVLC/caffe loss_layer.cpp, Reshape.
    """
    for i, shape in enumerate(bottoms):
        expect(len(shape) > 0, f"bottom {i} is a scalar; expected one item per row")
        expect(
            shape[0] == bottoms[0][0],
            f"bottom {i} has {shape[0]} items (shape {shape}), bottom 0 has {bottoms[0][0]}; "
            "expected as many",
        )


def one_label_each(scores: Shape, labels: Shape) -> None:
    """Refuses labels that are not one per item of ``scores``."""
    same_batch([scores, labels])
    expect(
        math.prod(labels) == scores[0],
        f"labels of shape {labels} for scores of shape {scores}; expected one per item",
    )


def one_label_per_position(scores: Shape, labels: Shape, axis: int) -> None:
    """Refuses labels that are not one per position of ``scores`` off its class axis."""
    wanted = math.prod(scores[:axis]) * math.prod(scores[axis + 1 :])
    expect(
        math.prod(labels) == wanted,
        f"{math.prod(labels)} labels (shape {labels}) for scores of shape {scores}; expected "
        f"{wanted}, one per position",
    )


def labels_of_items(scores: Shape, labels: Shape) -> None:
    """Refuses labels other than a list (N, L, 1, 1) or (N, L), L not 0, per item of scores."""
    fits = len(labels) in (2, 4) and labels[0] == scores[0] and labels[1] >= 1
    expect(
        fits and labels[2:] in ((), (1, 1)),
        f"labels of shape {labels}; expected ({scores[0]}, L, 1, 1)",
    )


def label_map(scores: Shape, labels: Shape) -> None:
    """Refuses labels that are not one plane over scores (N, C, H, W)."""
    expect(len(scores) == 4, f"scores of shape {scores}; expected (N, C, H, W)")
    wanted = (scores[0], 1, *scores[2:])
    expect(labels == wanted, f"labels of shape {labels}; expected {wanted}")
