"""Options and shapes: layers that treat each channel of an item as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op
from caffe_port.spec.ops.neurons import Dropout


@register_op
@dataclass(frozen=True)
class Axpy(Op):
    """Axpy of SENet: a scale per item and channel times a blob, plus another blob.

    Source: hujie-frank/SENet axpy_layer.cpp, Reshape.
    """

    type = "Axpy"
    itemwise = True
    chooses = True
    bottoms = (3, 3)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scale, x, y = bottoms
        expect(len(x) >= 2, f"a bottom of shape {x}; expected (N, C, ...)")
        wanted = (*x[:2], *[1] * (len(scale) - 2))
        expect(scale == wanted and len(scale) in (2, len(x)),
               f"a scale of shape {scale} for {x}; expected (N, C) or (N, C, 1, 1)")  # fmt: skip
        expect(x == y, f"bottom 2 has shape {y}, bottom 1 {x}; expected equal shapes")
        return [x]

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return math.prod(bottoms[1])


@register_op
@dataclass(frozen=True)
class SpatialDropout(Dropout):
    """SpatialDropout: Dropout of whole channels of an item.

    Source: Tompson et al., Efficient Object Localization Using Convolutional Networks, 2015;
        jtetrea/caffe-enet spatial_dropout_layer.cpp for spatial_dropout_param.
    """

    type = "SpatialDropout"
    remark = "After the paper: one draw for each channel of each item; the forks differ here."

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Dropout:
        plain = caffe_pb2.LayerParameter()
        plain.CopyFrom(layer)
        if layer.HasField("spatial_dropout_param"):
            both = layer.HasField("dropout_param")
            expect(not both, "spatial_dropout_param and dropout_param exclude one another")
            plain.dropout_param.CopyFrom(layer.spatial_dropout_param)
        return super().parse(plain)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        expect(len(bottoms[0]) >= 2, f"a bottom of shape {bottoms[0]}; expected (N, C, ...)")
        return [bottoms[0]]
