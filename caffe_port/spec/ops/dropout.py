"""Dropout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, expect, register_op


@register_op
@dataclass(frozen=True)
class Dropout(Op):
    """Options of Dropout.

    Attributes:
        ratio: the share of elements set to 0, 0 <= ratio < 1.
        in_test: whether elements are dropped in phase TEST too (Bayesian SegNet's
            sample_weights_test).
        scale_train: whether what is kept is scaled up where elements are dropped; False (Faster
            R-CNN) scales all elements down where none is.

    Source: BVLC/caffe dropout_layer.cpp; alexgkendall/caffe-segnet and rbgirshick/caffe-fast-rcnn
    for their options.
    """

    type = "Dropout"
    remark = "Also Bayesian SegNet's sample_weights_test and Faster R-CNN's scale_train."
    in_place = True

    ratio: float
    in_test: bool = False
    scale_train: bool = True

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Dropout:
        o = layer.dropout_param
        ratio = o.dropout_ratio
        expect(0 <= ratio < 1, f"dropout_ratio is {ratio}; expected 0 or more and less than 1")
        return cls(ratio, o.sample_weights_test, o.scale_train)

    def drops(self, phase: str) -> bool:
        """Whether elements are dropped in that phase."""
        return phase == "TRAIN" or self.in_test

    @property
    def scale(self) -> float:
        """What kept elements are multiplied by; in float32, as Caffe's member scale_ is."""
        return float(np.float32(1.0 / (1.0 - self.ratio)))

    def keeps_values(self, phase: str) -> bool:
        """Whether the top equals the bottom in that phase."""
        return not self.drops(phase) and self.scale_train
