"""SoftmaxWithLoss: cross entropy of scores against a label map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, axis_index, register_op
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

    Source: BVLC/caffe softmax_loss_layer.cpp; DeepLab v1's softmaxloss_param.
    """

    type = "SoftmaxWithLoss"
    remark = "DeepLab v1: 0 where no pixel counts; upstream gives NaN."
    bottoms = (2, 2)
    tops = (1, 2)
    auto_top = True
    fixed_bottoms = frozenset({1})

    axis: int
    ignore_labels: tuple[int, ...]
    normalization: str
    weight_source: str

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> SoftmaxWithLoss:
        axis = layer.softmax_param.axis
        if layer.HasField("softmaxloss_param"):
            v1 = layer.softmaxloss_param
            return cls(axis, tuple(v1.ignore_label), "WEIGHTS", v1.weight_source)
        loss = layer.loss_param
        ignored = (loss.ignore_label,) if loss.HasField("ignore_label") else ()
        return cls(axis, ignored, normalization(loss, "VALID"), "")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottoms
        axis = axis_index(self.axis, len(scores))
        same_batch([scores, labels])
        one_label_per_position(scores, labels, axis)
        return [(), scores]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        scores = bottoms[0]
        classes = scores[axis_index(self.axis, len(scores))]
        return class_indices(classes, self.ignore_labels) if index else Values()
