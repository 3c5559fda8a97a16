"""Options and shapes: sums, products and maxima of whole blobs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import (
    Op,
    Reads,
    Shape,
    axis_index,
    expect,
    off_first_axis,
    register_op,
)


@register_op
@dataclass(frozen=True)
class Eltwise(Op):
    """Eltwise: product, weighted sum or maximum of equal-shaped blobs.

    Source: BVLC/caffe eltwise_layer.cpp.

    Attributes:
        operation: 'PROD', 'SUM' or 'MAX'.
        coeff: SUM: one factor per bottom.
        stable_prod_grad: PROD: whether the diff multiplies the other bottoms (stable) or divides
            the top by the bottom (faster in Caffe, undefined where a bottom is 0).
    """

    type = "Eltwise"
    itemwise = True
    keeps_places = True
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

    def reads_bottom(self, index: int, in_place: bool) -> Reads:
        return Reads.EVERYTHING if self.operation == "PROD" else Reads.NOTHING

    def reads_top(self, index: int, in_place: bool) -> Reads:
        divides = self.operation == "PROD" and not self.stable_prod_grad
        return Reads.ELEMENTS if divides else Reads.NOTHING


@register_op
@dataclass(frozen=True)
class Reduction(Op):
    """Reduction: all axes from one on become one number. Source: BVLC/caffe reduction_layer.cpp.

    Attributes:
        operation: 'SUM', 'ASUM' (of absolute values), 'SUMSQ' (of squares) or 'MEAN'.
        axis: the first axis that goes.
        coeff: a factor on the result.
    """

    type = "Reduction"
    is_itemwise = off_first_axis

    operation: str
    axis: int
    coeff: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Reduction:
        options = layer.reduction_param
        name = caffe_pb2.ReductionParameter.ReductionOp.Name(options.operation)
        return cls(name, options.axis, options.coeff)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0][: axis_index(self.axis, len(bottoms[0]))]]

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return math.prod(bottoms[0][axis_index(self.axis, len(bottoms[0])) :])

    def reads_bottom(self, index: int, in_place: bool) -> Reads:
        return Reads.EVERYTHING if self.operation in ("ASUM", "SUMSQ") else Reads.NOTHING


@register_op
@dataclass(frozen=True)
class SpatialProduct(Op):
    """Options of SpatialProduct: none. Source: DeepLab v2 spatial_product_layer.cpp."""

    type = "SpatialProduct"
    itemwise = True
    bottoms = (2, 2)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        x, scale = bottoms
        expect(len(x) == 4, f"a bottom of shape {x}; expected (N, C, H, W)")
        wanted = (x[0], 1, *x[2:])
        expect(scale == wanted, f"a map of shape {scale}; expected {wanted}")
        return [x]


@register_op
@dataclass(frozen=True)
class MaskPooling(SpatialProduct):
    """MaskPooling of MNC: features times a mask of one channel; both get diffs.

    Source: daijifeng001/caffe-mnc mask_pooling_layer.cu.
    """

    type = "MaskPooling"
    remark = "No recording: upstream has CUDA code only; it equals SpatialProduct."
