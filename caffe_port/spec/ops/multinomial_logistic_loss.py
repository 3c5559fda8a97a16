"""MultinomialLogisticLoss: cross entropy of probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.spec.ops._base import Op, Shape, Values, register_op
from caffe_port.spec.ops._labels import class_indices, one_label_each


@register_op
@dataclass(frozen=True)
class MultinomialLogisticLoss(Op):
    """Options: none. Source: BVLC/caffe multinomial_logistic_loss_layer.cpp."""

    type = "MultinomialLogisticLoss"
    bottoms = (2, 2)
    auto_top = True
    fixed_bottoms = frozenset({1})

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        one_label_each(*bottoms)
        return [()]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return class_indices(math.prod(bottoms[0][1:])) if index else Values(0.05, 1)
