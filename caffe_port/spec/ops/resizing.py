"""Options and shapes: TensorFlow's resizes."""

from __future__ import annotations

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
