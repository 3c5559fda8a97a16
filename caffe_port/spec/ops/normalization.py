"""Options and shapes: statistics, scales and biases of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import (
    Op,
    ParamShape,
    Reads,
    Shape,
    axis_index,
    expect,
    off_first_axis,
    register_op,
)


@dataclass(frozen=True)
class Overlaid(Op):
    """Options of Scale and Bias: which axes of the first bottom the blob covers.

    Attributes:
        axis: the first bottom's axis that the blob starts at.
        num_axes: how many axes a learned blob covers; -1 is all from ``axis`` on. A second bottom
            covers as many as it has.
    """

    bottoms = (1, 2)
    keeps_index = True
    keeps_places = True

    axis: int
    num_axes: int

    def covered(self, bottom: Shape) -> Shape:
        """Shape of a learned blob for this bottom."""
        start = axis_index(self.axis, len(bottom))
        expect(self.num_axes >= -1, f"num_axes is {self.num_axes}; expected -1 or more")
        if self.num_axes == -1:
            return bottom[start:]
        expect(
            start + self.num_axes <= len(bottom),
            f"{self.num_axes} axes from axis {start} on; a bottom of shape {bottom} has fewer",
        )
        return bottom[start : start + self.num_axes]

    def spread(self, bottom: Shape, blob: Shape) -> Shape:
        """The blob's shape, padded with 1s on the right so that it broadcasts over the bottom."""
        start = axis_index(self.axis, len(bottom)) if blob else 0
        expect(
            bottom[start : start + len(blob)] == blob,
            f"a blob of shape {blob} does not fit a bottom of shape {bottom} from axis {start} on",
        )
        return blob + (1,) * (len(bottom) - start - len(blob))

    def is_itemwise(self, bottoms: Sequence[Shape]) -> bool:
        return len(bottoms) == 1 and off_first_axis(self, bottoms)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self.spread(bottoms[0], bottoms[1] if len(bottoms) > 1 else self.covered(bottoms[0]))
        return [bottoms[0]]


class OfChannels(Op):
    """Ops that average each channel over all other axes."""

    keeps_index = True
    keeps_places = True

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return math.prod(bottoms[0]) // max(bottoms[0][1], 1)


@register_op
@dataclass(frozen=True)
class Scale(Overlaid):
    """Scale: multiplies by a learned blob or a second bottom along some axes, and may add a bias.

    Source: BVLC/caffe scale_layer.cpp.

    Attributes:
        bias: whether a learned bias of the scale's shape is added.
        filler: the scale's start, 1 unless given.
    """

    type = "Scale"
    in_place = True

    bias: bool
    filler: caffe_pb2.FillerParameter
    bias_filler: caffe_pb2.FillerParameter

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Scale:
        o = layer.scale_param
        one = caffe_pb2.FillerParameter(type="constant", value=1)
        filler = o.filler if o.HasField("filler") else one
        return cls(o.axis, o.num_axes, o.bias_term, filler, o.bias_filler)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        if self.bias:  # Caffe's inner Bias layer needs the axis, even for a scalar scale
            axis_index(self.axis, len(bottoms[0]))
        return super().top_shapes(bottoms)

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        given = len(bottoms) > 1
        shape = bottoms[1] if given else self.covered(bottoms[0])
        bias = [ParamShape("bias", shape, self.bias_filler)] if self.bias else []
        return bias if given else [ParamShape("weight", shape, self.filler), *bias]

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return math.prod(bottoms[0])

    def reads_bottom(self, index: int, in_place: bool) -> Reads:
        return Reads.NOTHING if in_place and index == 0 else Reads.EVERYTHING


@register_op
@dataclass(frozen=True)
class Bias(Overlaid):
    """Bias: adds a learned blob or a second bottom along some axes.

    Source: BVLC/caffe bias_layer.cpp.
    """

    type = "Bias"
    backward_bottoms = Reads.NOTHING
    in_place = True

    filler: caffe_pb2.FillerParameter

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Bias:
        o = layer.bias_param
        return cls(o.axis, o.num_axes, o.filler)

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        if len(bottoms) > 1:
            return []
        return [ParamShape("bias", self.covered(bottoms[0]), self.filler)]


@register_op
@dataclass(frozen=True)
class MVN(Op):
    """MVN: each item or plane shifted to mean 0 and scaled to variance 1.

    Source: BVLC/caffe mvn_layer.cpp.

    Attributes:
        normalize_variance: False only subtracts the mean.
        across_channels: whether mean and variance are an item's, not a plane's.
        eps: added to the standard deviation.
    """

    type = "MVN"
    backward_bottoms = Reads.NOTHING
    itemwise = True
    keeps_index = True
    keeps_places = True
    option_ranges = {"eps": (1e-09, 0.1)}

    normalize_variance: bool
    across_channels: bool
    eps: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> MVN:
        o = layer.mvn_param
        return cls(o.normalize_variance, o.across_channels, o.eps)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        expect(len(bottoms[0]) <= 4, f"a bottom of shape {bottoms[0]}; expected at most 4 axes")
        return [(bottoms[0] + (1, 1, 1, 1))[:4]]

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return math.prod(bottoms[0][1 if self.across_channels else 2 :])

    def reads_top(self, index: int, in_place: bool) -> Reads:
        return Reads.EVERYTHING if self.normalize_variance else Reads.NOTHING


@register_op
@dataclass(frozen=True)
class Normalize(Op):
    """Normalize of SSD: divides by the L2 norm and scales.

    Source: weiliu89/caffe normalize_layer.cpp, LayerSetUp.

    Attributes:
        across_spatial: whether the norm is an item's; else each pixel has its own.
        channel_shared: whether one scale serves all channels.
        eps: added to the sum of squares.
        filler: the scale's start, 1 unless given.
    """

    type = "Normalize"
    backward_tops = Reads.ELEMENTS
    itemwise = True
    keeps_index = True
    keeps_places = True
    option_ranges = {"eps": (1e-10, 0.1)}

    across_spatial: bool
    channel_shared: bool
    eps: float
    filler: caffe_pb2.FillerParameter

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Normalize:
        o = layer.norm_param
        one = caffe_pb2.FillerParameter(type="constant", value=1)
        filler = o.scale_filler if o.HasField("scale_filler") else one
        return cls(o.across_spatial, o.channel_shared, o.eps, filler)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        expect(2 <= len(bottoms[0]) <= 4, f"a bottom of shape {bottoms[0]}; expected 2 to 4 axes")
        return [bottoms[0]]

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        shape = () if self.channel_shared else bottoms[0][1:2]
        return [ParamShape("weight", shape, self.filler)]

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return math.prod(bottoms[0][1:]) if self.across_spatial else bottoms[0][1]
