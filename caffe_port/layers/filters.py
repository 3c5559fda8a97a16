"""Modules: Convolution, Deconvolution, Im2col, InnerProduct and Embed."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from caffe_port.errors import LayerError
from caffe_port.layers._registry import Layer, checks, register_layer
from caffe_port.spec.ops import filters as ops

# (x, weight, bias, window, groups) -> result, with x of one batch axis
Apply = Callable[[Tensor, Tensor, Tensor | None, ops.Window, int], Tensor]


def cover(x: Tensor, window: ops.Window) -> Tensor:
    """Appends the zeros that a window larger than the padded axis reads after its end.

    Args:
        x: (..., *sizes), the spatial axes last.
        window: one number per spatial axis.
    Source: BVLC/caffe util/im2col.cpp, im2col_cpu: every place outside of the image reads 0.
    """
    axes = len(window.kernel)
    behind = [window.overhang(x.shape[x.dim() - axes + i], i) for i in range(axes)]
    if not any(behind):
        return x
    return functional.pad(x, [side for zeros in reversed(behind) for side in (0, zeros)])


class FilterLayer(Layer):
    """Applies the same filters to each bottom.

    The axes before the channel axis become one batch axis; a bottom without spatial axes gets one
    of size 1.
    """

    def apply_filters(self, *bottoms: Tensor, function: Apply) -> tuple[Tensor, ...]:
        """Runs ``function`` on each bottom and gives the tops Caffe's axes back."""
        op = self.spec.options(ops.Filtered)
        weight, bias = self.param("weight"), self.blob(1)
        tops = []
        for x in bottoms:
            axis, window = op.channel_axis(tuple(x.shape)), op.window(tuple(x.shape))
            batch = x.reshape(math.prod(x.shape[:axis]), *x.shape[axis:]) if axis != 1 else x
            if window.kernel:
                top = function(batch, weight, bias, window, op.group)
            else:
                one = ops.Window((1,), (1,), (0,), (1,))
                top = function(batch[..., None], weight[..., None], bias, one, op.group)[..., 0]
            tops.append(top.reshape(*x.shape[:axis], *top.shape[1:]) if axis != 1 else top)
        return tuple(tops)


_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, window: ops.Window, group: int
) -> Tensor:
    """Correlation of (N, C, ...) with (O, C / group, ...), 1 to 3 spatial axes."""
    run = _CONVOLUTIONS[weight.dim() - 2]
    return run(cover(x, window), weight, bias, window.stride, window.pad, window.dilation, group)


@register_layer("Convolution")
@register_layer("ConvolutionDepthwise")
@register_layer("DepthwiseConvolution")
class Convolution(FilterLayer):
    """Each bottom correlated with the same filters.

    Source: BVLC/caffe conv_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return self.apply_filters(*bottoms, function=convolve)


_TRANSPOSED = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def deconvolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, window: ops.Window, group: int
) -> Tensor:
    """Transpose of the convolution with (C, O / group, ...), 1 to 3 spatial axes."""
    run = _TRANSPOSED[weight.dim() - 2]
    return run(x, weight, bias, window.stride, window.pad, 0, group, window.dilation)


@register_layer("Deconvolution")
class Deconvolution(FilterLayer):
    """Each bottom spread by the same filters; torch's transposed convolution is Caffe's.

    Source: BVLC/caffe deconv_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return self.apply_filters(*bottoms, function=deconvolve)


def im2col(x: Tensor, window: ops.Window, axis: int) -> Tensor:
    """Puts the values of each window on the channel axis; torch's unfold takes 2 axes only.

    Args:
        x: (..., C, *sizes), the channels at ``axis``.
        window: one number per spatial axis.
        axis: the channel axis.
    Returns:
        (..., C * kernel elements, *positions).
    Source: BVLC/caffe util/im2col.cpp, im2col_nd_cpu.
    """
    axes = len(window.kernel)
    frame = [p for pad in reversed(window.pad) for p in (pad, pad)]
    columns = cover(x, window)
    columns = functional.pad(columns, frame) if any(frame) else columns
    for i in range(axes):
        columns = columns.unfold(axis + 1 + i, window.extent(i), window.stride[i])
        columns = columns[..., :: window.dilation[i]]
    # (..., C, *positions, *kernel): the kernel's axes go next to the channels
    columns = columns.movedim(
        tuple(range(axis + 1 + axes, axis + 1 + 2 * axes)), tuple(range(axis + 1, axis + 1 + axes))
    )
    return columns.flatten(axis, axis + axes)


@register_layer("Im2col")
class Im2col(Layer):
    """Source: BVLC/caffe im2col_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.Im2col)
        (x,) = bottoms
        shape = tuple(x.shape)
        return (im2col(x, op.window(shape), op.channel_axis(shape)),)


@register_layer("InnerProduct")
class InnerProduct(Layer):
    """Source: BVLC/caffe inner_product_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.InnerProduct)
        (x,) = bottoms
        (shape,) = op.top_shapes([tuple(x.shape)])
        rows = x.reshape(math.prod(shape[:-1]), math.prod(x.shape[len(shape) - 1 :]))
        weight = self.param("weight")
        top = functional.linear(rows, weight.t() if op.transpose else weight, self.blob(1))
        return (top.reshape(shape),)


@register_layer("Embed")
class Embed(Layer):
    """Source: BVLC/caffe embed_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Looks up whole-numbered indices of any shape.

        Raises:
            LayerError: an index outside of the table.
        """
        op = self.spec.options(ops.Embed)
        index = bottoms[0].detach().long()
        wrong = (index < 0) | (index >= op.input_dim)
        if checks() and bool(wrong.any()):
            message = f"index {int(index[wrong][0])}; expected 0 to {op.input_dim - 1}"
            raise LayerError(self.spec.name, self.spec.type, message)
        rows, bias = functional.embedding(index, self.param("weight")), self.blob(1)
        return (rows if bias is None else rows + bias,)
