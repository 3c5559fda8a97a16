"""Options and shapes: what is measured or reported, without a diff."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import (
    Op,
    Shape,
    Values,
    axis_index,
    expect,
    off_first_axis,
    register_op,
)
from caffe_port.spec.ops.losses import class_indices, label_map, one_label_per_position


@register_op
@dataclass(frozen=True)
class Accuracy(Op):
    """Accuracy: the share of positions whose true class is among the k best.

    Source: BVLC/caffe accuracy_layer.cpp.

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


@register_op
@dataclass(frozen=True)
class EltwiseAccuracy(Accuracy):
    """EltwiseAccuracy of DeconvNet: the share of pixels whose true class is among the k best.

    Source: HyeonwooNoh/caffe eltwise_accuracy_layer.cpp.
    """

    type = "EltwiseAccuracy"
    tops = (1, 1)
    remark = "0 where no label counts; upstream gives NaN."

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> EltwiseAccuracy:
        options = layer.eltwise_accuracy_param
        expect(options.top_k >= 1, f"top_k is {options.top_k}; expected 1 or more")
        ignored = options.ignore_label if options.HasField("ignore_label") else None
        return cls(options.top_k, 1, ignored)


@register_op
@dataclass(frozen=True)
class ArgMax(Op):
    """ArgMax: the k largest values' indices, or the values. Source: BVLC/caffe argmax_layer.cpp.

    Attributes:
        axis: the axis searched; None is all axes after the first together.
        top_k: how many.
        out_max_val: values instead of indices (with axis), or both (without).
    """

    type = "ArgMax"
    is_itemwise = off_first_axis
    discrete = True
    fixed_bottoms = frozenset({0})

    axis: int | None
    top_k: int
    out_max_val: bool

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> ArgMax:
        options = layer.argmax_param
        expect(options.top_k >= 1, f"top_k is {options.top_k}; expected 1 or more")
        axis = options.axis if options.HasField("axis") else None
        return cls(axis, options.top_k, options.out_max_val)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        expect(len(shape) > 0, "the bottom is a scalar; expected a batch")
        if self.axis is None:
            size = math.prod(shape[1:])
            top = [1] * max(len(shape), 3)
            top[0], top[2] = shape[0], self.top_k
            top[1] = 2 if self.out_max_val else 1
        else:
            axis = axis_index(self.axis, len(shape))
            size = shape[axis]
            top = list(shape)
            top[axis] = self.top_k
        expect(self.top_k <= size, f"top_k is {self.top_k}, more than the {size} values searched")
        return [tuple(top)]


@register_op
@dataclass(frozen=True)
class SegAccuracy(Op):
    """SegAccuracy: pixel accuracy, mean recall and mean IoU of a score map.

    Source: DeepLab v1 and v2 seg_accuracy_layer.cpp.

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


@register_op
@dataclass(frozen=True)
class Silence(Op):
    """Options of Silence: none. Source: BVLC/caffe silence_layer.cpp."""

    type = "Silence"
    itemwise = True
    bottoms = (1, None)
    tops = (0, 0)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return []
