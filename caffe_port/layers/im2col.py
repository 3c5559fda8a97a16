"""Im2col."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from caffe_port.layers._conv import cover
from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops._conv import Window
from caffe_port.spec.ops.im2col import Im2col as Options


def im2col(x: Tensor, window: Window, axis: int) -> Tensor:
    """Lays each window's values out along the channel axis; torch's unfold takes 2 axes only.

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
        op = self.spec.options(Options)
        (x,) = bottoms
        shape = tuple(x.shape)
        return (im2col(x, op.window(shape), op.channel_axis(shape)),)
