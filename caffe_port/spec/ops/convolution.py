"""Convolution, with DeepLab's `hole` under its later name `dilation`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import (
    Op,
    ParamShape,
    Shape,
    axis_index,
    expect,
    pairs,
    register_op,
)


@register_op
@dataclass(frozen=True)
class Convolution(Op):
    """Options of Convolution. Source: BVLC/caffe base_conv_layer.cpp, LayerSetUp.

    Attributes:
        num_output: channels of the tops.
        kernel, stride, pad, dilation: (height, width).
        group: groups of channels.
        bias: whether a bias is added.
        axis: the channel axis.
    """

    type: ClassVar[str] = "Convolution"
    bottoms: ClassVar[tuple[int, int | None]] = (1, None)
    tops: ClassVar[tuple[int, int | None]] = (1, None)

    num_output: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilation: tuple[int, int]
    group: int
    bias: bool
    axis: int
    weight_filler: caffe_pb2.FillerParameter
    bias_filler: caffe_pb2.FillerParameter

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Convolution:
        o = layer.convolution_param

        def side(field: str) -> int | None:
            return getattr(o, field) if o.HasField(field) else None

        kernel = pairs("kernel", o.kernel_size, side("kernel_h"), side("kernel_w"), 0)
        stride = pairs("stride", o.stride, side("stride_h"), side("stride_w"), 1)
        pad = pairs("pad", o.pad, side("pad_h"), side("pad_w"), 0)
        dilation = pairs("dilation", o.dilation, None, None, 1)
        expect(min(kernel) > 0, "the kernel size is missing or 0; expected kernel_size or both")
        expect(min(stride) > 0, f"stride is {stride}; expected 1 or more")
        expect(min(dilation) > 0, f"dilation is {dilation}; expected 1 or more")
        expect(o.num_output > 0, "num_output is missing or 0")
        expect(
            o.group > 0 and o.num_output % o.group == 0,
            f"num_output is {o.num_output}; expected a multiple of group {o.group}",
        )
        return cls(
            o.num_output, kernel, stride, pad, dilation, o.group, o.bias_term, o.axis,
            o.weight_filler, o.bias_filler,
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        for i, shape in enumerate(bottoms):
            expect(
                shape == bottoms[0],
                f"bottom {i} has shape {shape}, bottom 0 {bottoms[0]}; expected equal shapes",
            )
        shape = bottoms[0]
        expect(
            len(shape) == 4 and axis_index(self.axis, 4) == 1,
            f"a bottom of shape {shape}, axis {self.axis}; expected (N, C, H, W) and axis 1",
        )
        expect(
            shape[1] % self.group == 0,
            f"{shape[1]} channels; expected a multiple of group {self.group}",
        )
        sizes = [self._output_size(shape[2 + i], i) for i in (0, 1)]
        return [(shape[0], self.num_output, *sizes)] * len(bottoms)

    def _output_size(self, size: int, i: int) -> int:
        extent = self.dilation[i] * (self.kernel[i] - 1) + 1
        padded = size + 2 * self.pad[i]
        message = f"an axis of {size} (padded {padded}) is below the kernel {extent}"
        expect(padded >= extent, message)
        return (padded - extent) // self.stride[i] + 1

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        shape = (self.num_output, bottoms[0][1] // self.group, *self.kernel)
        weight = ParamShape("weight", shape, self.weight_filler)
        return [weight, ParamShape("bias", shape[:1], self.bias_filler)] if self.bias else [weight]

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        each = bottoms[0][1] // self.group * math.prod(self.kernel)
        return sum(math.prod(top) for top in tops) * each
