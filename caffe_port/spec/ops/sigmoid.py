"""Sigmoid: 1 / (1 + exp(-x))."""

from __future__ import annotations

from dataclasses import dataclass

from caffe_port.spec.ops._base import Op, register_op


@register_op
@dataclass(frozen=True)
class Sigmoid(Op):
    """Sigmoid has no options. Source: BVLC/caffe sigmoid_layer.cpp."""

    type = "Sigmoid"
    in_place = True
