"""Eltwise: product, weighted sum or maximum of equal-shaped blobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op


@register_op
@dataclass(frozen=True)
class Eltwise(Op):
    """Options of Eltwise. Source: BVLC/caffe eltwise_layer.cpp.

    Attributes:
        operation: 'PROD', 'SUM' or 'MAX'.
        coeff: SUM: one factor per bottom.
        stable_prod_grad: PROD: whether the diff multiplies the other bottoms (stable) or divides
            the top by the bottom (faster in Caffe, undefined where a bottom is 0).
    """

    type = "Eltwise"
    chooses = True
    bottoms = (2, None)

    operation: str
    coeff: tuple[float, ...]
    stable_prod_grad: bool

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Eltwise:
        options = layer.eltwise_param
        operation = caffe_pb2.EltwiseParameter.EltwiseOp.Name(options.operation)
        coeff = tuple(options.coeff)
        expect(
            len(coeff) in (0, len(layer.bottom)),
            f"{len(coeff)} coeff for {len(layer.bottom)} bottoms; expected one each or none",
        )
        expect(not coeff or operation != "PROD", "coeff is given with PROD; only SUM takes it")
        return cls(operation, coeff or (1.0,) * len(layer.bottom), options.stable_prod_grad)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        for i, shape in enumerate(bottoms):
            expect(
                shape == bottoms[0],
                f"bottom {i} has shape {shape}, bottom 0 {bottoms[0]}; expected equal shapes",
            )
        return [bottoms[0]]
