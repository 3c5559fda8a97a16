"""SigmoidCrossEntropyLoss: one yes-or-no question per element."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, Values, expect, register_op
from caffe_port.spec.ops._labels import normalization, same_batch


@register_op
@dataclass(frozen=True)
class SigmoidCrossEntropyLoss(Op):
    """Options. Source: BVLC/caffe sigmoid_cross_entropy_loss_layer.cpp.

    Attributes:
        ignore_label: a target that does not count, or None; the DeepLab forks do not know it.
        normalization: 'FULL', 'VALID', 'BATCH_SIZE' (the default here, and all that the DeepLab
            forks know) or 'NONE'.
    """

    type = "SigmoidCrossEntropyLoss"
    bottoms = (2, 2)
    auto_top = True
    fixed_bottoms = frozenset({1})

    ignore_label: int | None
    normalization: str

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> SigmoidCrossEntropyLoss:
        loss = layer.loss_param
        ignored = loss.ignore_label if loss.HasField("ignore_label") else None
        return cls(ignored, normalization(loss, "BATCH_SIZE"))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        same_batch(list(bottoms))
        scores, targets = bottoms
        expect(
            math.prod(scores) == math.prod(targets),
            f"targets of shape {targets} for scores of shape {scores}; expected as many",
        )
        return [()]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        ignored = () if self.ignore_label is None else (self.ignore_label,)
        return Values(0, 1, also=ignored) if index else Values()
