"""Silence: reads blobs so that they are not outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from caffe_port.spec.ops._base import Op, Shape, register_op


@register_op
@dataclass(frozen=True)
class Silence(Op):
    """Options of Silence: none. Source: BVLC/caffe silence_layer.cpp."""

    type: ClassVar[str] = "Silence"
    bottoms: ClassVar[tuple[int, int | None]] = (1, None)
    tops: ClassVar[tuple[int, int | None]] = (0, 0)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return []
