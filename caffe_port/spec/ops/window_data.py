"""WindowData: windows of images, for detection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op
from caffe_port.spec.ops._transform import Transform


@register_op
@dataclass(frozen=True)
class WindowData(Op):
    """Options of WindowData. Source: BVLC/caffe window_data_layer.cpp.

    Attributes:
        source, root_folder, batch_size: which windows, how many at a time.
        fg_threshold, bg_threshold: overlap from which a window is an object, and below which it
            is background; those between are left out.
        fg_fraction: the share of objects in a batch.
        context_pad: pixels of surroundings on each side of the crop.
        square: whether a window is widened to a square before it is warped.
        scale: multiplies the pixels; that of transform_param has no effect, as upstream.
        transform: crop_size is the size windows are warped to.
    """

    type = "WindowData"
    remark = (
        "No recording: checked by hand and against OpenCV's resize. As upstream, scale is "
        "window_data_param's and transform_param's has no effect."
    )
    bottoms = (0, 0)
    tops = (2, 2)
    kind = "source"

    source: str
    root_folder: str
    batch_size: int
    fg_threshold: float
    bg_threshold: float
    fg_fraction: float
    context_pad: int
    square: bool
    scale: float
    transform: Transform

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> WindowData:
        o, transform = layer.window_data_param, Transform.parse(layer.transform_param)
        expect(o.batch_size > 0, "batch_size is 0; expected 1 or more")
        crop = transform.crop_size
        expect(crop > 0, "crop_size is 0; it is the size windows are warped to")
        expect(
            2 * o.context_pad < crop, f"context_pad {o.context_pad} leaves nothing of crop {crop}"
        )
        expect(0 <= o.fg_fraction <= 1, f"fg_fraction is {o.fg_fraction}; expected 0 to 1")
        expect(
            o.crop_mode in ("warp", "square"), f"crop_mode '{o.crop_mode}'; expected warp or square"
        )
        return cls(
            o.source, o.root_folder, o.batch_size, o.fg_threshold, o.bg_threshold, o.fg_fraction,
            o.context_pad, o.crop_mode == "square", o.scale, transform,
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        crop = self.transform.crop_size
        return [(self.batch_size, 3, crop, crop), (self.batch_size,)]
