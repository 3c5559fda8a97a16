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
    Values,
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
class BatchNorm(OfChannels):
    """BatchNorm: normalization by the batch's or by stored statistics.

    Source: BVLC/caffe batch_norm_layer.cpp, LayerSetUp.

    Its three parameters are statistics, never learned. As in Caffe, a `param` that gives one a rate
    is an error, except where all three are there: the upgrade of old files sets those to 0.

    Attributes:
        use_global_stats: whether the stored statistics normalize; None leaves it to the phase.
        fraction: what is kept of the stored statistics at each update.
        eps: added to the variance.
        update_global_stats: DeepLab v2: whether stored statistics that normalize are updated too.
    """

    type = "BatchNorm"
    backward_bottoms = Reads.NOTHING
    itemwise = True
    in_place = True
    option_ranges = {"eps": (1e-05, 0.1), "moving_average_fraction": (0, 1)}
    frozen_params = True

    use_global_stats: bool | None
    fraction: float
    eps: float
    update_global_stats: bool

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> BatchNorm:
        o = layer.batch_norm_param
        rates = [param.lr_mult for param in layer.param]
        expect(
            len(rates) == 3 or not any(rates),
            f"param with lr_mult {', '.join(f'{rate:g}' for rate in rates)}; the statistics are "
            "not learned: expected lr_mult 0",
        )
        given = o.use_global_stats if o.HasField("use_global_stats") else None
        return cls(given, o.moving_average_fraction, o.eps, o.update_global_stats)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        expect(len(bottoms[0]) >= 2, f"a bottom of shape {bottoms[0]}; expected (N, C, ...)")
        return [bottoms[0]]

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        channels = bottoms[0][1:2]
        return [
            ParamShape("mean", channels),
            ParamShape("variance", channels, values=Values(0.05, 4)),
            ParamShape("factor", (1,), values=Values(0.5, 2, also=(0,))),
        ]  # fmt: skip


_SEGNETS = ("scale_filler", "shift_filler", "bn_mode")
_PSPNETS = ("slope_filler", "bias_filler", "momentum", "eps", "frozen", "engine")


@register_op
@dataclass(frozen=True)
class BN(OfChannels):
    """BN of SegNet, ENet and DeconvNet: batch normalization with scale and shift, two parameters.

    ``parse`` gives a ``RunningBN`` for the layer of that name in PSPNet, ICNet and TSN, with four
    parameters. Options that only one of the two has tell them apart, else more than two `param`.

    Source: alexgkendall/caffe-segnet and HyeonwooNoh/caffe bn_layer.cpp, which are the same.

    Attributes:
        learn: whether the batch's statistics normalize first, in either phase; False (INFERENCE)
            only scales and shifts, with the statistics folded into both beforehand.
    """

    type = "BN"
    tops = (1, 3)
    remark = (
        "Two layers of one name: SegNet's, ENet's and DeconvNet's has two parameters, PSPNet's, "
        "ICNet's and TSN's four; their options tell them apart. PSPNet's keeps its CPU version's "
        "biased variance; its cuDNN version stores the unbiased one."
    )

    learn: bool
    scale_filler: caffe_pb2.FillerParameter
    shift_filler: caffe_pb2.FillerParameter

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Op:
        o = layer.bn_param
        segnets = [name for name in _SEGNETS if o.HasField(name)]
        pspnets = [name for name in _PSPNETS if o.HasField(name)]
        expect(
            not (segnets and pspnets),
            f"bn_param with {segnets[0] if segnets else ''}, of SegNet's BN, and "
            f"{pspnets[0] if pspnets else ''}, of PSPNet's; a layer is one or the other",
        )
        if pspnets or (not segnets and len(layer.param) > 2):
            return RunningBN.parse(layer)
        learn = o.bn_mode == caffe_pb2.BNParameter.LEARN
        expect(learn or len(layer.top) == 1, "tops for mean and variance; INFERENCE computes none")
        return cls(learn, o.scale_filler, o.shift_filler)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        expect(len(shape) == 4, f"a bottom of shape {shape}; expected (N, C, H, W)")
        return [shape, (1, shape[1], 1, 1), (1, shape[1], 1, 1)]

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        shape = (1, bottoms[0][1], 1, 1)
        return [
            ParamShape("scale", shape, self.scale_filler),
            ParamShape("shift", shape, self.shift_filler),
        ]

    def reads_bottom(self, index: int, in_place: bool) -> Reads:
        return Reads.NOTHING if self.learn else Reads.EVERYTHING


@dataclass(frozen=True)
class RunningBN(OfChannels):
    """BN of PSPNet, ICNet and TSN: with scale, shift, running mean and running variance.

    Source: hszhao/PSPNet bn_layer.cpp, LayerSetUp; yjxiong/caffe bn_layer.cpp, whose blobs are
        (1, C) and load too.

    Attributes:
        stored: whether the running statistics normalize in TRAIN too, and nothing is learned
            (`frozen`).
        momentum: what is kept of the running statistics at each update.
        eps: added to the variance.
    """

    type = "BN"
    backward_bottoms = Reads.NOTHING
    frozen_params = True
    option_ranges = {"eps": (1e-05, 0.1), "momentum": (0, 1)}

    stored: bool
    momentum: float
    eps: float
    slope_filler: caffe_pb2.FillerParameter
    bias_filler: caffe_pb2.FillerParameter

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> RunningBN:
        o = layer.bn_param
        expect(len(layer.top) < 2, "tops for mean and variance, which PSPNet's BN does not have")
        return cls(o.frozen, o.momentum, o.eps, o.slope_filler, o.bias_filler)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        expect(2 <= len(shape) <= 4, f"a bottom of shape {shape}; expected (N, C, H, W) or (N, C)")
        return [shape]

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        shape = (1, bottoms[0][1], 1, 1)
        start = caffe_pb2.FillerParameter(type="constant", value=float(self.stored))
        return [
            ParamShape("scale", shape, self.slope_filler),
            ParamShape("shift", shape, self.bias_filler),
            ParamShape("mean", shape),
            ParamShape("variance", shape, start, values=Values(0.05, 4)),
        ]

    def frozen(self, index: int) -> bool:
        return self.stored or index > 1

    def is_itemwise(self, bottoms: Sequence[Shape]) -> bool:
        return self.stored


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
