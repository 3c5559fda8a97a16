"""MatWrite: a MATLAB file per forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op


@register_op
@dataclass(frozen=True)
class MatWrite(Op):
    """Options of MatWrite. Source: DeepLab v2 mat_write_layer.cpp.

    Attributes:
        prefix: what file names start with.
        source: a list whose n-th line names the n-th file, or '' to count.
        strip: characters cut from the end of each name of the list.
        period: a file every that many passes.
    """

    type = "MatWrite"
    bottoms = (1, None)
    tops = (0, 0)
    kind = "sink"

    prefix: str
    source: str
    strip: int
    period: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> MatWrite:
        o = layer.mat_write_param
        expect(o.period > 0, f"period is {o.period}; expected 1 or more")
        expect(o.strip >= 0, f"strip is {o.strip}; expected 0 or more")
        return cls(o.prefix, o.source, o.strip, o.period)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        for i, shape in enumerate(bottoms):
            expect(len(shape) <= 4, f"bottom {i} has shape {shape}; a file holds up to 4 axes")
        return []
