"""SoftmaxWithLoss: cross entropy of scores against a label map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, axis_index, expect, register_op
from caffe_port.spec.ops._labels import (
    class_indices,
    normalization,
    one_label_per_position,
    same_batch,
)


@register_op
@dataclass(frozen=True)
class SoftmaxWithLoss(Op):
    """Options of SoftmaxWithLoss.

    Attributes:
        axis: the axis of the classes.
        ignore_labels: labels that do not count.
        normalization: 'FULL', 'VALID', 'BATCH_SIZE' or 'NONE' (BVLC and DeepLab v2), or 'WEIGHTS',
            DeepLab v1's division by the sum of the class weights of the counted pixels.
        weight_source: v1: a text file with one weight per class, or ''.
        class_weights: SegNet: one weight per class, or none. They weigh the sum, not its divisor.

    Source: BVLC/caffe softmax_loss_layer.cpp; DeepLab v1's softmaxloss_param;
    alexgkendall/caffe-segnet softmax_loss_layer.cpp for class_weights.
    """

    type = "SoftmaxWithLoss"
    remark = (
        "DeepLab v1 and SegNet: 0 where no pixel counts; upstream gives NaN. SegNet's "
        "weight_by_label_freqs and class_weighting are there too."
    )
    bottoms = (2, 2)
    tops = (1, 2)
    auto_top = True
    fixed_bottoms = frozenset({1})

    axis: int
    ignore_labels: tuple[int, ...]
    normalization: str
    weight_source: str
    class_weights: tuple[float, ...] = ()

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> SoftmaxWithLoss:
        axis = layer.softmax_param.axis
        if layer.HasField("softmaxloss_param"):
            v1 = layer.softmaxloss_param
            return cls(axis, tuple(v1.ignore_label), "WEIGHTS", v1.weight_source)
        loss = layer.loss_param
        ignored = (loss.ignore_label,) if loss.HasField("ignore_label") else ()
        weights = tuple(loss.class_weighting) if loss.weight_by_label_freqs else ()
        expect(
            not loss.weight_by_label_freqs or len(weights) > 0,
            "weight_by_label_freqs without class_weighting; expected one for each class",
        )
        return cls(axis, ignored, normalization(loss, "VALID"), "", weights)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottoms
        axis = axis_index(self.axis, len(scores))
        same_batch([scores, labels])
        one_label_per_position(scores, labels, axis)
        count = len(self.class_weights)
        expect(
            count in (0, scores[axis]),
            f"{count} class_weighting for {scores[axis]} classes; expected one for each",
        )
        return [(), scores]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        scores = bottoms[0]
        classes = scores[axis_index(self.axis, len(scores))]
        return class_indices(classes, self.ignore_labels) if index else Values()
