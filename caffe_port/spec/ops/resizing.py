"""Options and shapes: TensorFlow's resizes, and YOLO's exchange of pixels for channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Reads, Shape, expect, register_op


@dataclass(frozen=True)
class Resized(Op):
    """TensorFlow's resizes: positions are multiples of the ratio of sizes.

    Source: foss-for-synopsys-dwc-arc-processors/synopsys-caffe resize_bilinear_layer.cpp and
        resize_nearest_neighbor_layer.cpp.

    Attributes:
        sizes: (height, width) of the top; None where it follows from ``factors``.
        factors: of the bottom's height and width; the product is rounded down.
        aligned: whether the corners of both are at the same place.
        shift: added to a top's place before, and subtracted from the bottom's after, as pixel
            centres: (before, after).
        channels_last: whether the axes are (N, H, W, C), the default of these layers.
    """

    backward_bottoms = Reads.NOTHING
    itemwise = True

    sizes: tuple[int | None, int | None]
    factors: tuple[float, float]
    aligned: bool
    shift: tuple[float, float]
    channels_last: bool

    @classmethod
    def of(cls, o: caffe_pb2.ResizeImageParameter, centres: bool) -> Resized:
        """The options; ``centres``: whether half_pixel_centers and half_pixel_onnx are read."""
        expect(o.data_format in ("NHWC", "NCHW"), f"data_format is '{o.data_format}'")
        flags = [o.align_corners, o.half_pixel_centers, o.half_pixel_onnx]
        expect(sum(flags) <= 1 and (centres or not any(flags[1:])), "at most one of align_corners, "
               "half_pixel_centers and half_pixel_onnx; ResizeBilinear has the first")  # fmt: skip
        sizes = [
            getattr(o, name) if o.HasField(name) else None
            for name in ("output_height", "output_width")
        ]
        expect(all(size is None or size > 0 for size in sizes), f"the size is {sizes}")
        given = [
            sizes[i] or o.HasField(name) for i, name in enumerate(("scale_height", "scale_width"))
        ]
        expect(all(given), "no size; expected output_height and output_width, or scales")
        shift = (0.5 if any(flags[1:]) else 0.0, 0.5 if flags[2] else 0.0)
        factors = (o.scale_height, o.scale_width)
        finite = all(map(math.isfinite, factors))
        expect(finite, f"scale_height, scale_width are {factors}; expected finite numbers")
        return cls((sizes[0], sizes[1]), factors, flags[0], shift, o.data_format == "NHWC")

    @property
    def first(self) -> int:
        """The axis of the height; the width's is next."""
        return 1 if self.channels_last else 2

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = list(bottoms[0])
        expect(len(shape) == 4, f"a bottom of shape {bottoms[0]}; expected 4 axes")
        for i, size in enumerate(self.sizes, self.first):
            new = int(shape[i] * self.factors[i - self.first]) if size is None else size
            expect(new > 0 and shape[i] > 0, f"axis {i} of {bottoms[0]} would become {new}")
            shape[i] = new
        return [tuple(shape)]


@register_op
@dataclass(frozen=True)
class ResizeBilinear(Resized):
    """ResizeBilinear. Source: synopsys-caffe resize_bilinear_layer.cpp."""

    type = "ResizeBilinear"
    remark = "NCHW is computed too, which upstream leaves undone."

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Resized:
        return cls.of(layer.resize_bilinear_param, False)


@register_op
@dataclass(frozen=True)
class ResizeNearestNeighbor(Resized):
    """ResizeNearestNeighbor. Source: synopsys-caffe resize_nearest_neighbor_layer.cpp."""

    type = "ResizeNearestNeighbor"

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Resized:
        return cls.of(layer.resize_nearest_neighbor_param, True)


@register_op
@dataclass(frozen=True)
class Reorg(Op):
    """Reorg of YOLO v2: fewer pixels and more channels, or the reverse.

    Most forks compute what darknet does: without ``reverse`` the bottom's memory is read as
    (N, C / stride^2, H stride, W stride), whose pixels at each offset within stride become
    channels.

    Source: pjreddie/darknet blas.c, reorg_cpu; gklz1982/caffe-yolov2 and BirdeeChen/caffe_yolo_v2
        reorg_layer.cpp.

    Attributes:
        stride: the factor between heights, and between widths.
        reverse: whether the top has more pixels.
    """

    type = "Reorg"
    backward_bottoms = Reads.NOTHING
    itemwise = True
    remark = (
        "The order of darknet and most forks (gklz1982, BirdeeChen, eric612, MSRCCS, Cambricon); "
        "syshensyshen/pva-mobilenet-v2 and MichalBusta/Ristretto-caffe mean another by the same "
        "text; the options `up_down` and `flatten` of others are refused. Backward is darknet's "
        "and BirdeeChen's, the inverse; in gklz1982, eric612 and Cambricon it gives no diffs."
    )

    stride: int
    reverse: bool

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Reorg:
        o = layer.reorg_param
        expect(o.HasField("stride"), "no reorg_param { stride: ... }; forks differ in its default")
        refused = [name for name in ("up_down", "flatten") if o.HasField(name)]
        expect(not refused, f"{' and '.join(refused)}: another order of values, of another fork")
        expect(0 < o.stride < 2**15, f"stride is {o.stride}; expected 1 or more")
        return cls(o.stride, o.reverse)

    def moves(self, bottom: Shape) -> tuple[Shape, tuple[int, ...]]:
        """The bottom's shape with axes of their own for offsets, and their order in the top."""
        n, c, h, w = bottom
        s, fewer = self.stride, c // self.stride**2
        if self.reverse:
            return (n, s, s, fewer, h, w), (0, 3, 4, 1, 5, 2)
        return (n, fewer, h, s, w, s), (0, 3, 5, 1, 2, 4)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        expect(len(bottoms[0]) == 4, f"a bottom of shape {bottoms[0]}; expected 4 axes")
        (n, c, h, w), s = bottoms[0], self.stride
        expect(c % s**2 == 0, f"{c} channels; expected a multiple of {s**2}, stride squared")
        if self.reverse:
            return [(n, c // s**2, h * s, w * s)]
        expect(h % s == 0 == w % s, f"{h} x {w} pixels; expected multiples of stride {s}")
        return [(n, c * s**2, h // s, w // s)]
