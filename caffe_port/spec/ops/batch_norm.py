"""Options and shapes: normalization by statistics of a batch, with scale and shift or without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, ParamShape, Reads, Shape, Values, expect, register_op
from caffe_port.spec.ops.normalization import OfChannels


@register_op
@dataclass(frozen=True)
class BatchNorm(OfChannels):
    """BatchNorm: normalization by the batch's or by stored statistics.

    Source: BVLC/caffe batch_norm_layer.cpp, LayerSetUp; intel/caffe's for stats_batch_size.

    Its three parameters are statistics, never learned. As in Caffe, a `param` that gives one a rate
    is an error, except where all three are there: the upgrade of old files sets those to 0.

    Attributes:
        use_global_stats: whether the stored statistics normalize; None leaves it to the phase.
        fraction: what is kept of the stored statistics at each update.
        eps: added to the variance.
        update_global_stats: DeepLab v2: whether stored statistics that normalize are updated too.
        group: Intel's Caffe: of how many items the statistics are; 0 is the whole batch.
    """

    type = "BatchNorm"
    remark = (
        "NVCaffe's scale_bias too, with five parameters; its CPU version adds eps to the variance "
        "that it stores."
    )
    backward_bottoms = Reads.NOTHING
    itemwise = True
    in_place = True
    option_ranges = {"eps": (1e-05, 0.1), "moving_average_fraction": (0, 1)}
    frozen_params = True

    use_global_stats: bool | None
    fraction: float
    eps: float
    update_global_stats: bool
    group: int = 0

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> BatchNorm:
        o = layer.batch_norm_param
        if o.scale_bias or o.HasField("scale_filler") or o.HasField("bias_filler"):
            return ScaledBatchNorm.parse(layer)
        rates = [param.lr_mult for param in layer.param]
        expect(
            len(rates) == 3 or not any(rates),
            f"param with lr_mult {', '.join(f'{rate:g}' for rate in rates)}; the statistics are "
            "not learned: expected lr_mult 0",
        )
        given = o.use_global_stats if o.HasField("use_global_stats") else None
        return cls(
            given, o.moving_average_fraction, o.eps, o.update_global_stats, o.stats_batch_size
        )

    def groups(self, phase: str, items: int) -> int:
        """How many parts of a batch have statistics of their own in that phase."""
        stored = phase == "TEST" if self.use_global_stats is None else self.use_global_stats
        if stored or not self.group:
            return 1
        expect(
            items % self.group == 0,
            f"a batch of {items} for stats_batch_size {self.group}; expected a multiple of it",
        )
        return items // self.group

    def is_itemwise(self, bottoms: Sequence[Shape]) -> bool:
        return not self.group

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


@dataclass(frozen=True)
class ScaledBatchNorm(BatchNorm):
    """BatchNorm of NVCaffe with scale_bias: with a scale and a bias, five parameters.

    The batch's statistics normalize in TRAIN, the running ones in TEST; the factor is not read.

    Source: NVIDIA/caffe batch_norm_layer.cpp, LayerSetUp.
    """

    scale_filler: caffe_pb2.FillerParameter = field(default_factory=caffe_pb2.FillerParameter)
    bias_filler: caffe_pb2.FillerParameter = field(default_factory=caffe_pb2.FillerParameter)

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> ScaledBatchNorm:
        o = layer.batch_norm_param
        learned = [(param.lr_mult, param.decay_mult) for param in layer.param[3:]]
        expect(
            all(rates == (1, 1) for rates in learned),
            "param with other rates than 1 for scale and bias; with scale_bias NVCaffe sets 1",
        )
        expect(
            not (o.use_global_stats or o.stats_batch_size or o.update_global_stats),
            "scale_bias with use_global_stats, update_global_stats or stats_batch_size; NVCaffe's "
            "layer reads none of these: take them out",
        )
        one = caffe_pb2.FillerParameter(type="constant", value=1)
        return cls(
            None, o.moving_average_fraction, max(o.eps, 1e-5), False, 0,
            o.scale_filler if o.HasField("scale_filler") else one, o.bias_filler,
        )  # fmt: skip

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        channels = bottoms[0][1:2]
        one = caffe_pb2.FillerParameter(type="constant", value=1)
        mean, variance, _ = super().params(bottoms)
        return [
            mean, variance, ParamShape("factor", (1,), one, values=Values(1, 1)),
            ParamShape("scale", channels, self.scale_filler),
            ParamShape("shift", channels, self.bias_filler),
        ]  # fmt: skip

    def frozen(self, index: int) -> bool:
        return index < 3


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
