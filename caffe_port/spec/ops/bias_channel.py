"""BiasChannel: scores raised where labels say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, expect, register_op
from caffe_port.spec.ops._labels import class_indices, label_map, labels_of_items


@register_op
@dataclass(frozen=True)
class BiasChannel(Op):
    """Options of BiasChannel. Source: DeepLab v2 bias_channel_layer.cpp.

    Attributes:
        bg_bias, fg_bias: added to the background's and to another label's score.
        ignore_labels: labels that do nothing, -1 among them.
        label_type: 'IMAGE' (labels of the whole item) or 'PIXEL' (a label map).
        background: for PIXEL, the label that every counted pixel raises too, or None.
    """

    type = "BiasChannel"
    bottoms = (2, 2)
    fixed_bottoms = frozenset({1})

    bg_bias: float
    fg_bias: float
    ignore_labels: frozenset[int]
    label_type: str
    background: int | None

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> BiasChannel:
        o = layer.bias_channel_param
        expect(o.bg_bias >= 0, f"bg_bias is {o.bg_bias}; expected 0 or more")
        expect(o.fg_bias >= 0, f"fg_bias is {o.fg_bias}; expected 0 or more")
        named = o.HasField("background_label") or o.HasField("bg_bias")
        return cls(
            o.bg_bias, o.fg_bias, frozenset({-1, *o.ignore_label}),
            caffe_pb2.BiasChannelParameter.LabelType.Name(o.label_type),
            o.background_label if named else None,
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, labels = bottoms
        expect(len(scores) == 4, f"scores of shape {scores}; expected (N, C, H, W)")
        if self.label_type == "IMAGE":
            # v1 and v2 read the number of labels off the second axis
            labels_of_items(scores, labels)
            return [scores]
        label_map(scores, labels)
        expect(
            self.background is None or 0 <= self.background < scores[1],
            f"background_label is {self.background}; expected 0 to {scores[1] - 1}",
        )
        return [scores]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return class_indices(bottoms[0][1], self.ignore_labels) if index else Values()
