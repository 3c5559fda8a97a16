"""Silence: reads blobs so that they are not outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.spec.ops._base import Op, Shape, register_op


@register_op
@dataclass(frozen=True)
class Silence(Op):
    """Options of Silence: none. Source: BVLC/caffe silence_layer.cpp."""

    type = "Silence"
    bottoms = (1, None)
    tops = (0, 0)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return []
