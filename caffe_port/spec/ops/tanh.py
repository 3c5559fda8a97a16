"""TanH: the hyperbolic tangent."""

from __future__ import annotations

from dataclasses import dataclass

from caffe_port.spec.ops._base import Op, register_op


@register_op
@dataclass(frozen=True)
class TanH(Op):
    """TanH has no options. Source: BVLC/caffe tanh_layer.cpp."""

    type = "TanH"
    in_place = True
