"""ContrastiveLoss: similar pairs near, dissimilar ones a margin apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op
from caffe_port.spec.ops._labels import same_batch


@register_op
@dataclass(frozen=True)
class ContrastiveLoss(Op):
    """Options of ContrastiveLoss. Source: BVLC/caffe contrastive_loss_layer.cpp.

    Attributes:
        margin: the distance that dissimilar pairs should have.
        legacy_version: whether the margin is held against the squared distance.
    """

    type = "ContrastiveLoss"
    remark = (
        "One label per pair is expected; Caffe reads the first N values, or beyond the blob. Also "
        "takes more than 4 axes, which Caffe refuses."
    )
    chooses = True
    bottoms = (3, 3)
    auto_top = True
    fixed_bottoms = frozenset({2})

    margin: float
    legacy_version: bool

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> ContrastiveLoss:
        options = layer.contrastive_loss_param
        return cls(options.margin, options.legacy_version)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        a, b, similar = bottoms
        for i, shape in enumerate((a, b)):
            expect(
                math.prod(shape[2:]) == 1,
                f"bottom {i} has shape {shape}; expected (N, C), (N, C, 1, 1) or (N)",
            )
        same_batch([a, b])
        expect(
            math.prod(a) == math.prod(b),
            f"bottom 0 has shape {a}, bottom 1 {b}; expected vectors of equal length",
        )
        expect(
            math.prod(similar[:1]) == math.prod(similar) == a[0],
            f"bottom 2 has shape {similar}; expected ({a[0]}), one label per pair",
        )
        return [()]
