"""AdaptiveBiasChannel: scores shifted until each present label wins its share of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, expect, register_op
from caffe_port.spec.ops._labels import class_indices, labels_of_items


@register_op
@dataclass(frozen=True)
class AdaptiveBiasChannel(Op):
    """Options of AdaptiveBiasChannel. Source: DeepLab v2 adaptive_bias_channel_layer.cpp.

    Attributes:
        num_iter: rounds over the labels.
        bg_portion, fg_portion: the share of pixels that label 0 and any other label is to win.
        suppress_others: whether absent labels are pressed below the present ones first.
        margin_others: how far below.
    """

    type = "AdaptiveBiasChannel"
    remark = "Several foreground tags are taken in ascending order; upstream shuffles them."
    bottoms = (2, 2)
    fixed_bottoms = frozenset({0, 1})

    num_iter: int
    bg_portion: float
    fg_portion: float
    suppress_others: bool
    margin_others: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> AdaptiveBiasChannel:
        o = layer.adaptive_bias_channel_param
        expect(o.num_iter > 0, f"num_iter is {o.num_iter}; expected 1 or more")
        expect(o.margin_others >= 0, f"margin_others is {o.margin_others}; expected 0 or more")
        for name, portion in (("bg_portion", o.bg_portion), ("fg_portion", o.fg_portion)):
            expect(0 <= portion <= 1, f"{name} is {portion}; expected 0 to 1")
        return cls(o.num_iter, o.bg_portion, o.fg_portion, o.suppress_others, o.margin_others)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottoms
        expect(
            len(scores) == 4 and scores[1] > 1 and scores[2] * scores[3] > 0,
            f"scores of shape {scores}; expected (N, C, H, W) with two channels or more",
        )
        labels_of_items(scores, labels)
        return [scores]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return class_indices(bottoms[0][1], (-1,)) if index else Values()
