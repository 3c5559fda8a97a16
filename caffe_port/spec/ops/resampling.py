"""Options and shapes: blobs of another height and width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import (
    AxisMap,
    Op,
    Reads,
    Shape,
    Values,
    axis_index,
    expect,
    off_first_axis,
    register_op,
)


@register_op
@dataclass(frozen=True)
class Interp(Op):
    """Interp: DeepLab's align-corners bilinear resize.

    A second bottom gives the size (several forks); no factor and no size may then be given.

    Source: DeepLab v2 interp_layer.cpp, Reshape.

    Attributes:
        height, width, zoom_factor, shrink_factor: as given; None where absent. Their order of
            precedence: shrink alone, zoom alone, height and width, shrink then zoom.
        pad_beg, pad_end: 0 or below: how much is cut at the top and left, bottom and right.
        nearest: takes the nearest value above or left, as OpenCV's INTER_NEAREST.
    """

    type = "Interp"
    bottoms = (1, 2)
    fixed_bottoms = frozenset({1})
    backward_bottoms = Reads.NOTHING
    itemwise = True

    height: int | None
    width: int | None
    zoom_factor: int | None
    shrink_factor: int | None
    pad_beg: int
    pad_end: int
    nearest: bool = False

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
        two = len(layer.bottom) == 2
        expect(not two or not any(given.values()), "a second bottom and a factor or size")
        expect(
            two or sized or given["zoom_factor"] is not None or given["shrink_factor"] is not None,
            "no size is given; expected zoom_factor, shrink_factor, or height and width",
        )
        nearest = options.type == caffe_pb2.InterpParameter.NearestNeighbor
        return cls(**given, pad_beg=options.pad_beg, pad_end=options.pad_end, nearest=nearest)

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

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values()

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        expect(len(shape) == 4, f"a bottom of shape {shape}; expected (N, C, H, W)")
        cropped = [size + self.pad_beg + self.pad_end for size in shape[2:]]
        expect(min(cropped) > 0, f"cropping leaves {cropped} of a bottom of shape {shape}")
        if len(bottoms) == 2:
            expect(len(bottoms[1]) == 4, f"bottom 1 has shape {bottoms[1]}; expected 4 axes")
            expect(min(bottoms[1][2:]) > 0, f"bottom 1 has shape {bottoms[1]}: no size")
            return [(*shape[:2], *bottoms[1][2:])]
        height = self.output_size(cropped[0], self.height)
        width = self.output_size(cropped[1], self.width)
        return [(shape[0], shape[1], height, width)]


@register_op
@dataclass(frozen=True)
class Crop(Op):
    """Crop: cuts the first bottom to the second one's size. Source: BVLC/caffe crop_layer.cpp.

    Attributes:
        axis: the first axis that is cut; those after it are cut too.
        offset: what is left out in front: nothing, one number for all cut axes, or one each.
    """

    type = "Crop"
    backward_bottoms = Reads.NOTHING
    is_itemwise = off_first_axis
    remark = (
        "Without crop_param it cuts from 0 on; in the dialect longjon where the layers before say."
    )
    bottoms = (2, 2)
    fixed_bottoms = frozenset({1})

    axis: int
    offset: tuple[int, ...]

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Crop:
        return cls(layer.crop_param.axis, tuple(layer.crop_param.offset))

    def ranges(self, bottom: Shape, reference: Shape) -> list[tuple[int, int]]:
        """(start, size) of what is kept along each axis."""
        start = axis_index(self.axis, len(bottom))
        cut = len(bottom) - start
        expect(
            len(self.offset) in (0, 1, cut),
            f"{len(self.offset)} offsets for {cut} axes from axis {start} on; expected one or one "
            "each",
        )
        expect(
            len(reference) >= len(bottom),
            f"a reference of shape {reference} for a bottom of shape {bottom}; it has too few axes",
        )
        offsets = self.offset * cut if len(self.offset) == 1 else self.offset or (0,) * cut
        kept = [(0, size) for size in bottom[:start]]
        for i, offset in zip(range(start, len(bottom)), offsets, strict=True):
            expect(
                offset + reference[i] <= bottom[i],
                f"axis {i}: {reference[i]} from {offset} on, of only {bottom[i]}",
            )
            kept.append((offset, reference[i]))
        return kept

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [tuple(size for _, size in self.ranges(bottoms[0], bottoms[1]))]

    def axis_map(self, bottom: Shape, i: int) -> AxisMap:
        return Fraction(1), Fraction(self.ranges(bottom, (0,) * len(bottom))[2 + i][0])


@register_op
@dataclass(frozen=True)
class AutoCrop(Crop):
    """AutoCrop of RCF: a Crop whose offset follows from the layers before.

    Source: yun-liu/RCF auto_crop_layer.cpp, LayerSetUp.
    """

    type = "AutoCrop"
    remark = ""

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> AutoCrop:
        return cls(2, ())


@register_op
@dataclass(frozen=True)
class Padding(Op):
    """Padding of DeepLab v1: zeros around each plane, or planes that are cut.

    Source: DeepLab v1 padding_layer.cpp.

    Attributes:
        before, after: rows and columns added at the top and left, bottom and right; below 0 they
            are cut.
    """

    type = "Padding"
    backward_bottoms = Reads.NOTHING
    itemwise = True

    before: int
    after: int

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Padding:
        o = layer.padding_param
        expect(
            o.pad_beg * o.pad_end >= 0,
            f"pad_beg is {o.pad_beg} and pad_end {o.pad_end}; expected both to add or both to cut",
        )
        return cls(o.pad_beg, o.pad_end)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        expect(len(shape) == 4, f"a bottom of shape {shape}; expected (N, C, H, W)")
        sizes = [size + self.before + self.after for size in shape[2:]]
        expect(min(sizes) > 0, f"cutting leaves {sizes} of a bottom of shape {shape}")
        return [(*shape[:2], *sizes)]

    def axis_map(self, bottom: Shape, i: int) -> AxisMap:
        return Fraction(1), Fraction(-self.before)


@register_op
@dataclass(frozen=True)
class Unpooling(Op):
    """Unpooling of DeconvNet: the opposite of a pooling layer.

    Source: HyeonwooNoh/caffe unpooling_layer.cpp, LayerSetUp and Reshape.

    Attributes:
        method: 'MAX' puts each value where a mask says, or without one at the start of its window;
            'TILE' adds it to its whole window, 'AVE' after division by the window's area.
        kernel, stride: (height, width) of the windows.
        size: (height, width) of the top.
    """

    type = "Unpooling"
    kept_bottoms = frozenset({0})
    itemwise = True
    bottoms = (1, 2)
    fixed_bottoms = frozenset({1})
    remark = "AVE and TILE start from 0; upstream adds to what the last pass has left in the top."

    method: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Unpooling:
        o = layer.unpooling_param
        method = caffe_pb2.UnpoolingParameter.UnpoolMethod.Name(o.unpool)
        expect(not (o.pad or o.pad_h or o.pad_w), "padding; expected 0, as upstream does")
        kernel = _sides(o, "kernel_size", "kernel_h", "kernel_w")
        size = _sides(o, "unpool_size", "unpool_h", "unpool_w")
        stride = (1, 1)
        if any(o.HasField(name) for name in ("stride", "stride_h", "stride_w")):
            stride = _sides(o, "stride", "stride_h", "stride_w")
        return cls(method, kernel, stride, size)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        expect(len(shape) == 4, f"a bottom of shape {shape}; expected (N, C, H, W)")
        if len(bottoms) > 1 and self.method == "MAX":
            expect(bottoms[1] == shape, f"a mask of shape {bottoms[1]} for a bottom {shape}")
        return [(*shape[:2], *self.size)]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values(0, self.size[0] * self.size[1] - 1, whole=True) if index else Values()

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return 1 if self.method == "MAX" else self.kernel[0] * self.kernel[1]


def _sides(o: caffe_pb2.UnpoolingParameter, one: str, height: str, width: str) -> tuple[int, int]:
    given = o.HasField(height), o.HasField(width)
    expect(
        all(given) != o.HasField(one) and any(given) == all(given),
        f"expected either {one} or both {height} and {width}",
    )
    sides = (getattr(o, height), getattr(o, width)) if all(given) else (getattr(o, one),) * 2
    expect(min(sides) > 0, f"{one} is {sides}; expected 1 or more")
    return sides


@register_op
@dataclass(frozen=True)
class Upsample(Op):
    """Upsample of SegNet and ENet: puts values back where MAX pooling found them.

    Without a second bottom (forks with YOLO) each value is repeated scale x scale times.

    Source: alexgkendall/caffe-segnet upsample_layer.cpp, LayerSetUp; eric612/Caffe-YOLOv3-Windows
        upsample_layer.cpp.

    Attributes:
        size: (height, width) of the top, or None where it follows from scale.
        scale: (height, width) of the top per pixel of the bottom.
        less: (height, width) taken off at the end, 0 or 1 (pad_out_h, pad_out_w).
    """

    type = "Upsample"
    kept_bottoms = frozenset({0})
    itemwise = True
    bottoms = (1, 2)
    fixed_bottoms = frozenset({1})

    size: tuple[int, int] | None
    scale: tuple[int, int]
    less: tuple[int, int]

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Upsample:
        o = layer.upsample_param
        if o.HasField("upsample_h") and o.HasField("upsample_w"):
            size = (o.upsample_h, o.upsample_w)
            expect(min(size) > 1, f"upsample_h, upsample_w are {size}; expected 2 or more")
            expect(len(layer.bottom) == 2, "upsample_h and upsample_w go with a mask")
            return cls(size, (1, 1), (0, 0))
        sides = o.HasField("scale_h"), o.HasField("scale_w")
        expect(
            not any(sides) or (all(sides) and not o.HasField("scale")),
            "expected scale, or both scale_h and scale_w, or both upsample_h and upsample_w",
        )
        scale = (o.scale_h, o.scale_w) if all(sides) else (o.scale, o.scale)
        expect(min(scale) > 1, f"scale is {scale}; expected 2 or more")
        less = (int(o.pad_out_h), int(o.pad_out_w))
        for by, factor in zip(less, scale, strict=True):
            expect(not by or factor == 2, f"pad_out with scale {factor}; it goes with scale 2")
        return cls(None, scale, less)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape, mask = bottoms[0], bottoms[-1]
        expect(len(shape) == 4, f"a bottom of shape {shape}; expected (N, C, H, W)")
        expect(mask == shape, f"a mask of shape {mask} for a bottom of shape {shape}")
        height, width = self.size or (
            shape[2] * self.scale[0] - self.less[0],
            shape[3] * self.scale[1] - self.less[1],
        )
        return [(*shape[:2], height, width)]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        height, width = self.top_shapes(bottoms)[0][2:]
        return Values(0, height * width - 1, whole=True) if index else Values()
