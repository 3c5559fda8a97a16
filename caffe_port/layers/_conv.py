"""What Convolution and Deconvolution share: Caffe's axes as torch's functions want them."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from caffe_port.layers._registry import Layer
from caffe_port.spec.ops._conv import Filtered, Window

# (x, weight, bias, window, groups) -> result, with x of one batch axis
Apply = Callable[[Tensor, Tensor, Tensor | None, Window, int], Tensor]


def cover(x: Tensor, window: Window) -> Tensor:
    """Appends the zeros that a window larger than the padded axis reads behind it.

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
        op = self.spec.options(Filtered)
        weight, bias = self.param("weight"), self.blob(1)
        tops = []
        for x in bottoms:
            axis, window = op.channel_axis(tuple(x.shape)), op.window(tuple(x.shape))
            batch = x.reshape(math.prod(x.shape[:axis]), *x.shape[axis:]) if axis != 1 else x
            if window.kernel:
                top = function(batch, weight, bias, window, op.group)
            else:
                one = Window((1,), (1,), (0,), (1,))
                top = function(batch[..., None], weight[..., None], bias, one, op.group)[..., 0]
            tops.append(top.reshape(*x.shape[:axis], *top.shape[1:]) if axis != 1 else top)
        return tuple(tops)
