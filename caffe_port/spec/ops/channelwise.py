"""Options and shapes: layers that treat each channel of an item as one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op
from caffe_port.spec.ops.neurons import Dropout
from caffe_port.spec.ops.python_layer import settings


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
        jtetrea/caffe-enet spatial_dropout_layer.cpp for spatial_dropout_param;
        TimoSaemann/caffe-enet python/spatial_dropout.py for the Python layer.

    Attributes:
        phase: in which phase the layer is, whatever the net's phase; "" for the net's.
        always_scales: whether values are scaled by 1 / (1 - ratio) where none is dropped too.
    """

    type = "SpatialDropout"
    remark = (
        "After the paper: one draw for each channel of each item; the forks differ here. ENet's "
        "Python layer spatial_dropout.SpatialDropoutLayer too, which scales in TEST as in TRAIN."
    )

    phase: str = ""
    always_scales: bool = False

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Dropout:
        if layer.HasField("python_param"):
            return cls._of_python(settings(layer.python_param.param_str))
        plain = caffe_pb2.LayerParameter()
        plain.CopyFrom(layer)
        if layer.HasField("spatial_dropout_param"):
            both = layer.HasField("dropout_param")
            expect(not both, "spatial_dropout_param and dropout_param exclude one another")
            plain.dropout_param.CopyFrom(layer.spatial_dropout_param)
        return super().parse(plain)

    @classmethod
    def _of_python(cls, given: Mapping[str, object]) -> Dropout:
        known = set(given) == {"phase", "p"} and given["phase"] in ("TRAIN", "TEST")
        expect(known, f"param_str {dict(given)}; expected 'phase': 'TRAIN' or 'TEST', and 'p'")
        try:
            ratio = float(str(given["p"]))
        except ValueError:
            ratio = math.nan
        expect(0 < ratio < 1, f"p is {given['p']}; expected more than 0 and less than 1")
        return cls(ratio, phase=str(given["phase"]), always_scales=True)

    def drops(self, phase: str) -> bool:
        return super().drops(self.phase or phase)

    def keeps_values(self, phase: str) -> bool:
        return not self.always_scales and super().keeps_values(phase)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        expect(len(bottoms[0]) >= 2, f"a bottom of shape {bottoms[0]}; expected (N, C, ...)")
        return [bottoms[0]]
