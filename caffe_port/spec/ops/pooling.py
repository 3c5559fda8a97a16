"""Options and shapes: windows without weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from caffe_port.proto import caffe_pb2
from caffe_port.proto.caffe_pb2 import PoolingParameter
from caffe_port.spec.ops._base import (
    AxisMap,
    Op,
    Reads,
    Shape,
    expect,
    register_op,
)


@register_op
@dataclass(frozen=True)
class Pooling(Op):
    """Pooling, with Caffe's output size.

    Source: BVLC/caffe pooling_layer.cpp, LayerSetUp and Reshape.

    Attributes:
        method: 'MAX' or 'AVE'.
        kernel, stride, pad: (height, width); kernel is None when it covers the whole bottom.
        ceil: whether the output size is rounded up (Caffe's default) or down.
    """

    type = "Pooling"
    backward_bottoms = Reads.NOTHING
    itemwise = True
    chooses = True
    remark = (
        "STOCHASTIC is refused (Caffe has it on GPUs only). A last window wholly outside of the "
        "bottom, which needs a stride above the kernel, is as in Caffe: MAX gives -FLT_MAX, AVE "
        "gives 0. An AVE window that starts at the bottom's end is refused: Caffe divides 0 by 0 "
        "and gives NaN. No diff comes from windows outside; Caffe's MAX writes it out of bounds."
    )
    tops = (1, 2)

    method: str
    kernel: tuple[int, int] | None
    stride: tuple[int, int]
    pad: tuple[int, int]
    ceil: bool

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Pooling:
        o = layer.pooling_param
        method = PoolingParameter.PoolMethod.Name(o.pool)
        expect(method != "STOCHASTIC", "STOCHASTIC pooling; Caffe has it on GPUs only")
        expect(len(layer.top) < 2 or method == "MAX", "a mask top goes with MAX only")
        pad = _two(o, "pad", "pad_h", "pad_w", 0)
        stride = _two(o, "stride", "stride_h", "stride_w", 1)
        expect(min(stride) > 0, f"stride is {stride}; expected 1 or more")
        ceil = _rounds_up(o)
        if o.global_pooling:
            sizes = any(o.HasField(f) for f in ("kernel_size", "kernel_h", "kernel_w"))
            expect(not sizes, "global_pooling with a kernel size; they exclude one another")
            expect(max(pad) == 0 and max(stride) == 1, "global_pooling takes pad 0 and stride 1")
            return cls(method, None, stride, pad, ceil)
        kernel = _two(o, "kernel_size", "kernel_h", "kernel_w", 0)
        return cls(method, kernel, stride, pad, ceil).checked()

    def checked(self) -> Pooling:
        """The same. Raises ValueError where the kernel is empty, or not above the padding."""
        kernel = self.kernel or (0, 0)
        expect(min(kernel) > 0, "the kernel size is missing or 0; expected kernel_size or both")
        for p, k in zip(self.pad, kernel, strict=True):
            expect(p < k, f"pad {p} is not below the kernel size {k}")
        return self

    def window(self, bottom: Shape) -> tuple[int, int]:
        """The kernel for this bottom."""
        return self.kernel or (bottom[2], bottom[3])

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        expect(len(shape) == 4, f"a bottom of shape {shape}; expected (N, C, H, W)")
        kernel = self.window(shape)
        sizes = [self._output_size(shape[2 + i], kernel[i], i) for i in (0, 1)]
        return [(shape[0], shape[1], *sizes)] * 2

    def axis_map(self, bottom: Shape, i: int) -> AxisMap:
        return Fraction(self.stride[i]), Fraction(self.window(bottom)[i] - 1, 2) - self.pad[i]

    def _output_size(self, size: int, kernel: int, i: int) -> int:
        stride, pad = self.stride[i], self.pad[i]
        span = size + 2 * pad - kernel
        expect(
            span >= 0 or (self.ceil and span > -stride),
            f"an axis of {size} (padded {size + 2 * pad}) is below the kernel {kernel}",
        )
        out = (-(-span // stride) if self.ceil else span // stride) + 1
        # the last window must start inside of the bottom or its left padding
        if max(self.pad) > 0 and (out - 1) * stride >= size + pad:
            out -= 1
        if self.method == "AVE":
            expect(
                (out - 1) * stride != size + pad,
                f"the last AVE window of an axis of {size} starts at its end, where Caffe divides "
                "0 by 0 and gives NaN; round_mode: FLOOR leaves this window out",
            )
        return out

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return math.prod(tops[0]) * math.prod(self.window(bottoms[0])) if tops else 0

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return math.prod(self.window(bottoms[0]))

    def reads_top(self, index: int, in_place: bool) -> Reads:
        return Reads.EVERYTHING if index else Reads.NOTHING


def _rounds_up(o: PoolingParameter) -> bool:
    """BVLC's round_mode, or ceil_mode, as several forks call it."""
    ceil = o.round_mode == PoolingParameter.CEIL
    both = o.HasField("round_mode") and o.HasField("ceil_mode")
    expect(not both or ceil == o.ceil_mode, "round_mode and ceil_mode that contradict each other")
    return o.ceil_mode if o.HasField("ceil_mode") else ceil


def _two(o: PoolingParameter, one: str, height: str, width: str, default: int) -> tuple[int, int]:
    sides = o.HasField(height) or o.HasField(width)
    expect(not (sides and o.HasField(one)), f"{one} and {height}/{width} exclude one another")
    if not sides:
        value = getattr(o, one) if o.HasField(one) else default
        return (value, value)
    expect(o.HasField(height) and o.HasField(width), f"{height} and {width} go together")
    return (getattr(o, height), getattr(o, width))


@register_op
@dataclass(frozen=True)
class SPP(Op):
    """SPP: spatial pyramid pooling. Source: BVLC/caffe spp_layer.cpp.

    Attributes:
        pyramid_height: levels; level l has 2^l x 2^l bins.
        method: 'MAX' or 'AVE'.
    """

    type = "SPP"
    backward_bottoms = Reads.NOTHING
    itemwise = True
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
        height, width = (-(-size // bins) for size in bottom[2:])
        # a window is its own stride; both sides get half of what the windows hang over
        pad = (height * bins - bottom[2] + 1) // 2, (width * bins - bottom[3] + 1) // 2
        kernel = (height, width)
        try:
            return Pooling(self.method, kernel, kernel, pad, ceil=True).checked()
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


@register_op
@dataclass(frozen=True)
class LRN(Op):
    """LRN: local response normalization. Source: BVLC/caffe lrn_layer.cpp, LayerSetUp.

    Attributes:
        local_size: channels, or pixels per side, of a neighbourhood; odd.
        alpha, beta: of (k + alpha * mean of squares) ^ beta.
        k: used across channels only; within a channel it is 1.
        within: whether the neighbourhood is within a channel.
    """

    type = "LRN"
    itemwise = True
    keeps_index = True
    keeps_places = True
    option_ranges = {"alpha": (0, 2), "beta": (0.2, 1.5), "k": (0.5, 2)}

    local_size: int
    alpha: float
    beta: float
    k: float
    within: bool

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> LRN:
        o = layer.lrn_param
        expect(o.local_size % 2 == 1, f"local_size is {o.local_size}; expected an odd number")
        within = o.norm_region == caffe_pb2.LRNParameter.WITHIN_CHANNEL
        return cls(o.local_size, o.alpha, o.beta, o.k, within)

    def width(self, channels: int) -> int:
        """How many of so many channels a neighbourhood across them can hold: odd."""
        return min(self.local_size, max(2 * channels - 1, 1))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        expect(len(bottoms[0]) == 4, f"a bottom of shape {bottoms[0]}; expected (N, C, H, W)")
        return [bottoms[0]]

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return math.prod(bottoms[0]) * self.local_size ** (2 if self.within else 1)

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        # across channels Caffe keeps one running sum, which every channel enters and leaves
        return self.local_size**2 if self.within else 2 * bottoms[0][1]

    def reads_top(self, index: int, in_place: bool) -> Reads:
        return Reads.NOTHING if self.within else Reads.ELEMENTS
