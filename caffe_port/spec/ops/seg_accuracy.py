"""SegAccuracy: pixel accuracy, mean recall and mean IoU of a score map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, register_op
from caffe_port.spec.ops._labels import class_indices, label_map


@register_op
@dataclass(frozen=True)
class SegAccuracy(Op):
    """Options of SegAccuracy. Source: DeepLab v1 and v2 seg_accuracy_layer.cpp.

    Attributes:
        ignore_labels: labels that do not count.
        reset: whether each forward pass starts a new confusion matrix.
    """

    type = "SegAccuracy"
    discrete = True
    bottoms = (2, 2)
    kind = "sink"
    fixed_bottoms = frozenset({0, 1})

    ignore_labels: tuple[int, ...]
    reset: bool

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> SegAccuracy:
        options = layer.seg_accuracy_param
        return cls(tuple(options.ignore_label), options.reset)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottoms
        label_map(scores, labels)
        return [(1, 1, 1, 3)]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return class_indices(bottoms[0][1], self.ignore_labels) if index else Values()
