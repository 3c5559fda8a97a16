"""Accuracy: the share of positions whose true class is among the k best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, axis_index, expect, register_op
from caffe_port.spec.ops._labels import class_indices, one_label_per_position


@register_op
@dataclass(frozen=True)
class Accuracy(Op):
    """Options of Accuracy. Source: BVLC/caffe accuracy_layer.cpp.

    Attributes:
        top_k: among how many of the best the true class must be.
        axis: the axis of the classes.
        ignore_label: a label that does not count, or None.
    """

    type = "Accuracy"
    discrete = True
    bottoms = (2, 2)
    tops = (1, 2)
    kind = "sink"
    fixed_bottoms = frozenset({0, 1})

    top_k: int
    axis: int
    ignore_label: int | None

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Accuracy:
        options = layer.accuracy_param
        expect(options.top_k >= 1, f"top_k is {options.top_k}; expected 1 or more")
        ignored = options.ignore_label if options.HasField("ignore_label") else None
        return cls(options.top_k, options.axis, ignored)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottoms
        axis = axis_index(self.axis, len(scores))
        classes = scores[axis]
        expect(self.top_k <= classes, f"top_k is {self.top_k}, more than the {classes} classes")
        one_label_per_position(scores, labels, axis)
        return [(), (classes,)]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        if index == 0:
            return Values()
        ignored = () if self.ignore_label is None else (self.ignore_label,)
        return class_indices(bottoms[0][axis_index(self.axis, len(bottoms[0]))], ignored)
