"""BNLL: log(1 + exp(x)), a smooth ReLU."""

from __future__ import annotations

from dataclasses import dataclass

from caffe_port.spec.ops._base import Op, register_op


@register_op
@dataclass(frozen=True)
class BNLL(Op):
    """BNLL has no options. Source: BVLC/caffe bnll_layer.cpp."""

    type = "BNLL"
    in_place = True
