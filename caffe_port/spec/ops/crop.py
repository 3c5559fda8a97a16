"""Crop: cuts the first bottom to the second one's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, Shape, axis_index, expect, register_op


@register_op
@dataclass(frozen=True)
class Crop(Op):
    """Options of Crop. Source: BVLC/caffe crop_layer.cpp.

    Attributes:
        axis: the first axis that is cut; those after it are cut too.
        offset: what is left out in front: nothing, one number for all cut axes, or one each.
    """

    type = "Crop"
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
