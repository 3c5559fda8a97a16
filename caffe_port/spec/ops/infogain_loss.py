"""InfogainLoss: cross entropy weighted by a matrix of gains."""

from __future__ import annotations

import math
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
class InfogainLoss(Op):
    """Options of InfogainLoss. Source: BVLC/caffe infogain_loss_layer.cpp.

    Attributes:
        axis: the axis of the classes.
        ignore_label: a label that does not count, or None.
        normalization: 'FULL', 'VALID', 'BATCH_SIZE' or 'NONE'.
        source: a binaryproto with the matrix, or '' where it is the third bottom.
    """

    type = "InfogainLoss"
    bottoms = (2, 3)
    tops = (1, 2)
    auto_top = True
    fixed_bottoms = frozenset({1, 2})

    axis: int
    ignore_label: int | None
    normalization: str
    source: str

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> InfogainLoss:
        options, loss = layer.infogain_loss_param, layer.loss_param
        expect(not loss.HasField("normalize"), "normalize is not read here; use normalization")
        source = "" if len(layer.bottom) == 3 else options.source
        expect(
            bool(source) or len(layer.bottom) == 3,
            "no matrix; expected a third bottom or infogain_loss_param { source: .. }",
        )
        ignored = loss.ignore_label if loss.HasField("ignore_label") else None
        return cls(options.axis, ignored, normalization(loss, "VALID"), source)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottoms[:2]
        axis = axis_index(self.axis, len(scores))
        same_batch([scores, labels])
        one_label_per_position(scores, labels, axis)
        if len(bottoms) == 3:
            classes, gains = scores[axis], bottoms[2]
            expect(
                math.prod(gains) == classes**2,
                f"a matrix of shape {gains}; expected {classes} x {classes} values",
            )
        return [(), scores]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        if index == 1:
            ignored = () if self.ignore_label is None else (self.ignore_label,)
            return class_indices(bottoms[0][axis_index(self.axis, len(bottoms[0]))], ignored)
        return Values(0, 1) if index == 2 else Values()
