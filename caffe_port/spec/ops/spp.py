"""SPP: spatial pyramid pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op
from caffe_port.spec.ops.pooling import Pooling


@register_op
@dataclass(frozen=True)
class SPP(Op):
    """Options of SPP. Source: BVLC/caffe spp_layer.cpp.

    Attributes:
        pyramid_height: levels; level l has 2^l x 2^l bins.
        method: 'MAX' or 'AVE'.
    """

    type = "SPP"
    chooses = True

    pyramid_height: int
    method: str

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> SPP:
        options = layer.spp_param
        method = caffe_pb2.SPPParameter.PoolMethod.Name(options.pool)
        expect(
            options.pyramid_height >= 1,
            f"pyramid_height is {options.pyramid_height}; expected 1 or more",
        )
        expect(method != "STOCHASTIC", "STOCHASTIC pooling; Caffe has it on GPUs only")
        return cls(options.pyramid_height, method)

    def levels(self, bottom: Shape) -> list[Pooling]:
        """The pooling of each level, whose windows together cover a bottom (N, C, H, W)."""
        expect(len(bottom) == 4, f"a bottom of shape {bottom}; expected (N, C, H, W)")
        return [self._level(2**level, bottom) for level in range(self.pyramid_height)]

    def _level(self, bins: int, bottom: Shape) -> Pooling:
        layer = caffe_pb2.LayerParameter()
        pooling = layer.pooling_param
        kinds = caffe_pb2.PoolingParameter
        pooling.pool = kinds.AVE if self.method == "AVE" else kinds.MAX
        kernel = [-(-size // bins) for size in bottom[2:]]
        # a window is its own stride; both sides get half of what the windows hang over
        pad = [(k * bins - size + 1) // 2 for k, size in zip(kernel, bottom[2:], strict=True)]
        pooling.kernel_h, pooling.kernel_w = pooling.stride_h, pooling.stride_w = kernel
        pooling.pad_h, pooling.pad_w = pad
        try:
            return Pooling.parse(layer)
        except ValueError as error:
            message = f"{bins} x {bins} bins do not fit a bottom of shape {bottom}: {error}"
            raise ValueError(message) from error

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shapes = [level.top_shapes(bottoms)[0] for level in self.levels(bottoms[0])]
        if len(shapes) == 1:  # a single level stays as it is pooled
            return shapes
        return [(bottoms[0][0], sum(math.prod(shape[1:]) for shape in shapes))]

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return math.prod(bottoms[0][2:])
