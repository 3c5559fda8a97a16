"""Options and shapes: layers with weights that are multiplied and summed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from caffe_port.proto import caffe_pb2
from caffe_port.proto.caffe_pb2 import ConvolutionParameter, FillerParameter, LayerParameter
from caffe_port.spec.ops._base import (
    AxisMap,
    Op,
    ParamShape,
    Reads,
    Shape,
    Values,
    axis_index,
    expect,
    off_first_axis,
    register_op,
)

MAX_SPATIAL_AXES = 3  # the most that torch convolves
_DEFAULTS = {"kernel": 0, "stride": 1, "pad": 0, "dilation": 1}


@dataclass(frozen=True)
class Window:
    """A sliding window, one number per spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]

    def extent(self, i: int) -> int:
        """What the kernel spans along spatial axis i, holes included."""
        return self.dilation[i] * (self.kernel[i] - 1) + 1

    def overhang(self, size: int, i: int) -> int:
        """Zeros that the window reads behind the padding of spatial axis i of that size."""
        return max(self.extent(i) - size - 2 * self.pad[i], 0)

    def count(self, size: int, i: int) -> int:
        """Positions of the window along spatial axis i of that size.

        (padded size - extent) / stride + 1, rounded down. Where the window is larger than the
        padded axis, but by less than the stride, there is one position: C's division rounds
        towards zero.
        """
        overhang, padded = self.overhang(size, i), size + 2 * self.pad[i]
        expect(
            overhang < self.stride[i],
            f"an axis of {size} (padded {padded}) is below the kernel {self.extent(i)} by the "
            f"stride {self.stride[i]} or more",
        )
        return (padded + overhang - self.extent(i)) // self.stride[i] + 1


@dataclass(frozen=True)
class Windowed(Op):
    """Options of a layer that slides a window: Convolution, Deconvolution, Im2col.

    Source: BVLC/caffe base_conv_layer.cpp, LayerSetUp and Reshape.

    Attributes:
        given: the window's numbers as the prototxt has them: one for all spatial axes, or one each.
        planar: whether some were given as `_h` and `_w`, which takes two spatial axes.
        axis: the channel axis; those after it are spatial, those before it are looped over.
    """

    is_itemwise = off_first_axis

    given: Window
    planar: bool
    axis: int

    def axis_map(self, bottom: Shape, i: int) -> AxisMap | None:
        if self.channel_axis(bottom) != 1:
            return None  # behind another axis only the width is spatial
        window = self.window(bottom)
        return Fraction(window.stride[i]), Fraction(window.extent(i) - 1, 2) - window.pad[i]

    def channel_axis(self, bottom: Shape) -> int:
        """The channel axis of this bottom."""
        return axis_index(self.axis, len(bottom))

    def window(self, bottom: Shape) -> Window:
        """The window for this bottom, with one number per spatial axis."""
        axes = len(bottom) - self.channel_axis(bottom) - 1
        expect(
            not self.planar or axes == 2,
            f"_h and _w options with {axes} spatial axes; they go with 2",
        )
        g = self.given
        window = Window(
            _each("kernel_size", g.kernel, axes), _each("stride", g.stride, axes),
            _each("pad", g.pad, axes), _each("dilation", g.dilation, axes),
        )  # fmt: skip
        for name, numbers in (("kernel size", window.kernel), ("stride", window.stride),
                              ("dilation", window.dilation)):  # fmt: skip
            expect(min(numbers, default=1) > 0, f"{name} is {numbers}; expected 1 or more")
        return window


def _each(name: str, given: tuple[int, ...], axes: int) -> tuple[int, ...]:
    expect(
        len(given) in (1, axes),
        f"{name} is given {len(given)} times for {axes} spatial axes; expected once or once each",
    )
    return given * axes if len(given) == 1 else given


def read_window(o: ConvolutionParameter) -> tuple[Window, bool]:
    """Reads the window's numbers, and whether some of them were given as `_h` and `_w`."""
    kernel, flat_kernel = _numbers(o, "kernel", o.kernel_size)
    stride, flat_stride = _numbers(o, "stride", o.stride)
    pad, flat_pad = _numbers(o, "pad", o.pad)
    dilation = tuple(o.dilation) or (1,)
    return Window(kernel, stride, pad, dilation), flat_kernel or flat_stride or flat_pad


def _numbers(
    o: ConvolutionParameter, name: str, given: Sequence[int]
) -> tuple[tuple[int, ...], bool]:
    height, width = f"{name}_h", f"{name}_w"
    if o.HasField(height) or o.HasField(width):
        expect(not given, f"{name} and {height}/{width} exclude one another")
        return (getattr(o, height), getattr(o, width)), True
    return tuple(given) or (_DEFAULTS[name],), False


@dataclass(frozen=True)
class Filtered(Windowed):
    """Options of Convolution and Deconvolution.

    Attributes:
        num_output: channels of the tops.
        group: groups of channels.
        bias: whether a bias is added.
    """

    num_output: int
    group: int
    bias: bool
    weight_filler: FillerParameter
    bias_filler: FillerParameter

    @classmethod
    def parse(cls, layer: LayerParameter) -> Filtered:
        o, bottoms, tops = layer.convolution_param, len(layer.bottom), len(layer.top)
        expect(bottoms == tops, f"{tops} tops for {bottoms} bottoms; expected one each")
        expect(o.num_output > 0, "num_output is missing or 0")
        expect(
            o.group > 0 and o.num_output % o.group == 0,
            f"num_output is {o.num_output}; expected a multiple of group {o.group}",
        )
        given, planar = read_window(o)
        return cls(
            given, planar, o.axis, o.num_output, o.group, o.bias_term, o.weight_filler,
            o.bias_filler,
        )  # fmt: skip

    def top_size(self, window: Window, size: int, i: int) -> int:
        """A top's size along spatial axis i."""
        return window.count(size, i)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        for i, other in enumerate(bottoms):
            expect(
                other == shape, f"bottom {i} has shape {other}, bottom 0 {shape}; expected the same"
            )
        window, axis = self.window(shape), self.channel_axis(shape)
        spatial = shape[axis + 1 :]
        expect(
            len(spatial) <= MAX_SPATIAL_AXES,
            f"{len(spatial)} spatial axes after axis {axis}; at most {MAX_SPATIAL_AXES} can be "
            "convolved",
        )
        expect(
            shape[axis] % self.group == 0,
            f"{shape[axis]} channels; expected a multiple of group {self.group}",
        )
        sizes = [self.top_size(window, size, i) for i, size in enumerate(spatial)]
        return [(*shape[:axis], self.num_output, *sizes)] * len(bottoms)

    def _param_shapes(self, rows: int, columns: int, bottom: Shape) -> list[ParamShape]:
        kernel = self.window(bottom).kernel
        weight = ParamShape("weight", (rows, columns // self.group, *kernel), self.weight_filler)
        bias = ParamShape("bias", (self.num_output,), self.bias_filler)
        return [weight, bias] if self.bias else [weight]


@register_op
@dataclass(frozen=True)
class Convolution(Filtered):
    """Convolution, with DeepLab's `hole` under its later name `dilation`.

    Source: BVLC/caffe base_conv_layer.cpp, conv_layer.cpp.
    """

    type = "Convolution"
    sums_products = True
    bottoms = (1, None)
    tops = (1, None)

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        channels = bottoms[0][self.channel_axis(bottoms[0])]
        return self._param_shapes(self.num_output, channels, bottoms[0])

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        channels = bottoms[0][self.channel_axis(bottoms[0])]
        each = channels // self.group * math.prod(self.window(bottoms[0]).kernel)
        return sum(math.prod(top) for top in tops) * each


@register_op
@dataclass(frozen=True)
class DepthwiseConvolution(Convolution):
    """DepthwiseConvolution: a Convolution of one group per channel, which the text says.

    Source: yonghenglh6/DepthwiseConvolution depthwise_conv_layer.cpp.
    """

    type = "DepthwiseConvolution"

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        channels = bottoms[0][self.channel_axis(bottoms[0])]
        expect(self.group == channels, f"group is {self.group}, for {channels} channels; expected "
               "one group per channel")  # fmt: skip
        return super().top_shapes(bottoms)


@register_op
@dataclass(frozen=True)
class ConvolutionDepthwise(Convolution):
    """ConvolutionDepthwise: one filter per channel, whatever num_output and group say.

    Source: farmingyard/caffe-mobilenet conv_dw_layer.cpp, LayerSetUp.
    """

    type = "ConvolutionDepthwise"

    @classmethod
    def parse(cls, layer: LayerParameter) -> Filtered:
        plain = LayerParameter()
        plain.CopyFrom(layer)
        plain.convolution_param.num_output = plain.convolution_param.group = 1
        return super().parse(plain)

    def fitted(self, bottoms: Sequence[Shape]) -> Op:
        shape = bottoms[0]
        expect(len(shape) == 4, f"a bottom of shape {shape}; expected (N, C, H, W)")
        return replace(self, num_output=shape[1], group=shape[1])


@register_op
@dataclass(frozen=True)
class Deconvolution(Filtered):
    """Deconvolution: Convolution's transpose.

    Source: BVLC/caffe base_conv_layer.cpp, deconv_layer.cpp.
    """

    type = "Deconvolution"
    sums_products = True
    bottoms = (1, None)
    tops = (1, None)

    def top_size(self, window: Window, size: int, i: int) -> int:
        out = window.stride[i] * (size - 1) + window.extent(i) - 2 * window.pad[i]
        expect(
            out > 0,
            f"an axis of {size} would become {out}: pad {window.pad[i]} takes more than there is",
        )
        return out

    def axis_map(self, bottom: Shape, i: int) -> AxisMap | None:
        transposed = super().axis_map(bottom, i)
        return transposed and (1 / transposed[0], -transposed[1] / transposed[0])

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        channels = bottoms[0][self.channel_axis(bottoms[0])]
        return self._param_shapes(channels, self.num_output, bottoms[0])

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        each = self.num_output // self.group * math.prod(self.window(bottoms[0]).kernel)
        return sum(math.prod(bottom) for bottom in bottoms) * each


@register_op
@dataclass(frozen=True)
class Im2col(Windowed):
    """Options of Im2col, which are those of a convolution. Source: BVLC/caffe im2col_layer.cpp."""

    type = "Im2col"
    backward_bottoms = Reads.NOTHING

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Im2col:
        return cls(*read_window(layer.convolution_param), layer.convolution_param.axis)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape, axis = bottoms[0], self.channel_axis(bottoms[0])
        window = self.window(shape)
        expect(len(shape) > axis + 1, f"a bottom of shape {shape} has no axis after axis {axis}")
        sizes = [window.count(size, i) for i, size in enumerate(shape[axis + 1 :])]
        return [(*shape[:axis], shape[axis] * math.prod(window.kernel), *sizes)]


@register_op
@dataclass(frozen=True)
class InnerProduct(Op):
    """InnerProduct: a fully connected layer. Source: BVLC/caffe inner_product_layer.cpp.

    Attributes:
        num_output: length of the results.
        axis: the first of the axes that are taken as one vector.
        transpose: whether the weight is stored (in, out) instead of (out, in).
        bias: whether a bias is added.
    """

    type = "InnerProduct"
    is_itemwise = off_first_axis
    sums_products = True

    num_output: int
    axis: int
    transpose: bool
    bias: bool
    weight_filler: caffe_pb2.FillerParameter
    bias_filler: caffe_pb2.FillerParameter

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> InnerProduct:
        o = layer.inner_product_param
        expect(o.num_output > 0, "num_output is missing or 0")
        return cls(o.num_output, o.axis, o.transpose, o.bias_term, o.weight_filler, o.bias_filler)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [(*bottoms[0][: axis_index(self.axis, len(bottoms[0]))], self.num_output)]

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        length = math.prod(bottoms[0][axis_index(self.axis, len(bottoms[0])) :])
        shape = (length, self.num_output) if self.transpose else (self.num_output, length)
        weight = ParamShape("weight", shape, self.weight_filler)
        bias = ParamShape("bias", (self.num_output,), self.bias_filler)
        return [weight, bias] if self.bias else [weight]

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return math.prod(bottoms[0]) * self.num_output


@register_op
@dataclass(frozen=True)
class Embed(Op):
    """Embed: looks rows of a table up by index. Source: BVLC/caffe embed_layer.cpp.

    Attributes:
        num_output: length of a row.
        input_dim: rows of the table.
        bias: whether a bias is added.
    """

    type = "Embed"
    itemwise = True
    fixed_bottoms = frozenset({0})

    num_output: int
    input_dim: int
    bias: bool
    weight_filler: caffe_pb2.FillerParameter
    bias_filler: caffe_pb2.FillerParameter

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Embed:
        o = layer.embed_param
        expect(o.num_output > 0, "num_output is missing or 0")
        expect(o.input_dim > 0, "input_dim is missing or 0")
        return cls(o.num_output, o.input_dim, o.bias_term, o.weight_filler, o.bias_filler)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [(*bottoms[0], self.num_output)]

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        weight = ParamShape("weight", (self.input_dim, self.num_output), self.weight_filler)
        bias = ParamShape("bias", (self.num_output,), self.bias_filler)
        return [weight, bias] if self.bias else [weight]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values(0, self.input_dim - 1, whole=True)
