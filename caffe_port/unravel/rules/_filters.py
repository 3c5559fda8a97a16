"""What the rules of Convolution and Deconvolution share."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from caffe_port.spec.ops.filters import Filtered, Window
from caffe_port.unravel.rules._axes import coordinates
from caffe_port.unravel.rules._registry import Passage, Shift

_POINT = Window((1,), (1,), (0,), (1,))


class Filters(NamedTuple):
    """A layer of filters and the points in one of its tops.

    Attributes:
        x: the bottom as (images, channels, axes...), at least one of them spatial.
        weight: as Caffe stores it, its taps made one axis.
        window: of the filters.
        image, out, place: the points' coordinates; place has one tensor per spatial axis.
    """

    x: Tensor
    weight: Tensor
    window: Window
    image: Tensor
    out: Tensor
    place: list[Tensor]


def read_filters(passage: Passage, op: Filtered, points: Tensor) -> Filters:
    """Brings any number of axes into one form."""
    x, top = passage.bottoms[passage.top], passage.tops[passage.top]
    axis, window = op.channel_axis(tuple(x.shape)), op.window(tuple(x.shape))
    images, spatial = math.prod(x.shape[:axis]), tuple(x.shape[axis + 1 :])
    sizes = tuple(top.shape[axis + 1 :]) or (1,)
    image, out, *place = coordinates(points, (images, op.num_output, *sizes))
    weight = passage.module.param("weight").detach()
    return Filters(
        x.reshape(images, x.shape[axis], *(spatial or (1,))),
        weight.reshape(*weight.shape[:2], -1),
        window if window.kernel else _POINT,
        image, out, place,
    )  # fmt: skip


def shifts(window: Window, shift: Shift) -> bool:
    """Whether a point goes to the largest product, not to the window's centre."""
    dilated = max(window.dilation) > 1
    return shift == "full_shift" or (shift == "partial_shift" and not dilated)
