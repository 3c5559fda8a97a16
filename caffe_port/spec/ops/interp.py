"""Interp: DeepLab's align-corners bilinear resize."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, expect, register_op


@register_op
@dataclass(frozen=True)
class Interp(Op):
    """Options of Interp. Source: DeepLab v2 interp_layer.cpp, Reshape.

    Attributes:
        height, width, zoom_factor, shrink_factor: as given; None where absent. Their order of
            precedence: shrink alone, zoom alone, height and width, shrink then zoom.
        pad_beg, pad_end: 0 or below: how much is cut at the top and left, bottom and right.
    """

    type = "Interp"

    height: int | None
    width: int | None
    zoom_factor: int | None
    shrink_factor: int | None
    pad_beg: int
    pad_end: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Interp:
        options = layer.interp_param
        names = ("height", "width", "zoom_factor", "shrink_factor")
        given = {n: getattr(options, n) if options.HasField(n) else None for n in names}
        for name, value in given.items():
            expect(value is None or value >= 1, f"{name} is {value}; expected 1 or more")
        for name, pad in (("pad_beg", options.pad_beg), ("pad_end", options.pad_end)):
            expect(pad <= 0, f"{name} is {pad}; Interp can only crop, expected 0 or below")
        sized = given["height"] is not None and given["width"] is not None
        expect(
            sized or given["zoom_factor"] is not None or given["shrink_factor"] is not None,
            "no size is given; expected zoom_factor, shrink_factor, or height and width",
        )
        return cls(**given, pad_beg=options.pad_beg, pad_end=options.pad_end)

    def output_size(self, size: int, fixed: int | None) -> int:
        """The new length of an axis of ``size`` (after cropping) elements."""
        shrunk = None if self.shrink_factor is None else (size - 1) // self.shrink_factor + 1
        if shrunk is not None and self.zoom_factor is None:
            return shrunk
        if self.zoom_factor is not None and shrunk is None:
            return size + (size - 1) * (self.zoom_factor - 1)
        if self.height is not None and self.width is not None:
            assert fixed is not None
            return fixed
        assert shrunk is not None
        assert self.zoom_factor is not None
        return shrunk + (shrunk - 1) * (self.zoom_factor - 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        expect(len(shape) == 4, f"a bottom of shape {shape}; expected (N, C, H, W)")
        cropped = [size + self.pad_beg + self.pad_end for size in shape[2:]]
        expect(min(cropped) > 0, f"cropping leaves {cropped} of a bottom of shape {shape}")
        height = self.output_size(cropped[0], self.height)
        width = self.output_size(cropped[1], self.width)
        return [(shape[0], shape[1], height, width)]
