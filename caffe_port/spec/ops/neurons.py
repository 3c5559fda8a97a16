"""Options and shapes: layers that compute each element from the same element of the bottom."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import (
    Op,
    ParamShape,
    Reads,
    Shape,
    Values,
    Writes,
    above_zero,
    expect,
    register_op,
)


@dataclass(frozen=True)
class Neuron(Op):
    """A type whose top has one element for each element of its bottom, at the same place."""

    in_place = True
    itemwise = True
    keeps_index = True
    keeps_places = True


@register_op
@dataclass(frozen=True)
class ReLU(Neuron):
    """ReLU, plain and leaky. Source: BVLC/caffe relu_layer.cpp."""

    type = "ReLU"
    backward_bottoms = Reads.SIGN
    kink_at_zero = True

    negative_slope: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> ReLU:
        return cls(layer.relu_param.negative_slope)

    def writes(self, phase: str) -> Writes:
        if self.negative_slope < 0:
            return Writes.ANYTHING
        return Writes.SAME_SIGN if self.negative_slope else Writes.SAME


@register_op
@dataclass(frozen=True)
class PReLU(Neuron):
    """PReLU: ReLU with learned slopes for negative values.

    Source: BVLC/caffe prelu_layer.cpp, LayerSetUp.

    Attributes:
        channel_shared: whether one slope serves all channels.
        filler: of the slopes, 0.25 unless given.
    """

    type = "PReLU"
    kink_at_zero = True

    channel_shared: bool
    filler: caffe_pb2.FillerParameter

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> PReLU:
        o = layer.prelu_param
        quarter = caffe_pb2.FillerParameter(type="constant", value=0.25)
        return cls(o.channel_shared, o.filler if o.HasField("filler") else quarter)

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        shape = () if self.channel_shared else bottoms[0][1:2]
        return [ParamShape("weight", shape, self.filler)]

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        expect(len(bottoms[0]) >= 2, f"a bottom of shape {bottoms[0]}; expected (N, C, ...)")
        return [bottoms[0]]

    def reads_bottom(self, index: int, in_place: bool) -> Reads:
        return Reads.NOTHING if in_place else Reads.EVERYTHING


@register_op
@dataclass(frozen=True)
class ELU(Neuron):
    """ELU: exponential linear unit. Source: BVLC/caffe elu_layer.cpp.

    Attributes:
        alpha: minus the limit for large negative values.
    """

    type = "ELU"
    backward_bottoms = Reads.SIGN
    backward_tops = Reads.ELEMENTS
    kink_at_zero = True

    alpha: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> ELU:
        return cls(layer.elu_param.alpha)

    def writes(self, phase: str) -> Writes:
        return Writes.SAME_SIGN if self.alpha >= 0 else Writes.ANYTHING


@register_op
@dataclass(frozen=True)
class Swish(Neuron):
    """Swish: x / (1 + exp(-beta x)). Source: BVLC/caffe swish_layer.cpp.

    Attributes:
        beta: the sigmoid's steepness.
    """

    type = "Swish"
    backward_bottoms = Reads.NOTHING
    backward_tops = Reads.ELEMENTS

    beta: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Swish:
        return cls(layer.swish_param.beta)

    def writes(self, phase: str) -> Writes:
        return Writes.SAME_SIGN if self.beta >= 0 else Writes.ANYTHING


@register_op
@dataclass(frozen=True)
class Sigmoid(Neuron):
    """Sigmoid has no options. Source: BVLC/caffe sigmoid_layer.cpp."""

    type = "Sigmoid"
    backward_bottoms = Reads.NOTHING
    backward_tops = Reads.ELEMENTS


@register_op
@dataclass(frozen=True)
class TanH(Neuron):
    """TanH has no options. Source: BVLC/caffe tanh_layer.cpp."""

    type = "TanH"
    backward_bottoms = Reads.NOTHING
    backward_tops = Reads.ELEMENTS

    def writes(self, phase: str) -> Writes:
        return Writes.SAME_SIGN


@register_op
@dataclass(frozen=True)
class BNLL(Neuron):
    """BNLL has no options. Source: BVLC/caffe bnll_layer.cpp."""

    type = "BNLL"
    backward_bottoms = Reads.ELEMENTS


@register_op
@dataclass(frozen=True)
class AbsVal(Neuron):
    """AbsVal has no options. Source: BVLC/caffe absval_layer.cpp, LayerSetUp."""

    type = "AbsVal"
    backward_bottoms = Reads.ELEMENTS
    in_place = False
    chooses = True

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> AbsVal:
        expect(layer.top[:1] != layer.bottom[:1], "top equals bottom; AbsVal never works in place")
        return cls()


@register_op
@dataclass(frozen=True)
class Power(Neuron):
    """Power: (shift + scale x) ^ power. Source: BVLC/caffe power_layer.cpp.

    Attributes:
        power, scale, shift: of (shift + scale x) ^ power.
    """

    type = "Power"
    option_ranges = {"power": (-2, 3)}

    power: float
    scale: float
    shift: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Power:
        o = layer.power_param
        return cls(o.power, o.scale, o.shift)

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values() if self.power in (0, 1, 2, 3) else above_zero(self.scale, self.shift)

    def reads_bottom(self, index: int, in_place: bool) -> Reads:
        if self.power == 1 or self.power * self.scale == 0:
            return Reads.NOTHING
        return Reads.EVERYTHING if in_place else Reads.ELEMENTS

    def reads_top(self, index: int, in_place: bool) -> Reads:
        return Reads.NOTHING if self.power == 2 else self.reads_bottom(index, in_place)

    def writes(self, phase: str) -> Writes:
        if self.power != 1 or self.shift or self.scale <= 0:
            return Writes.ANYTHING
        return Writes.NOTHING if self.scale == 1 else Writes.SAME_SIGN


@register_op
@dataclass(frozen=True)
class Exp(Neuron):
    """Exp: base ^ (shift + scale x). Source: BVLC/caffe exp_layer.cpp, LayerSetUp.

    Attributes:
        inner: of outer * exp(inner * x); log(base) * scale.
        outer: base ^ shift; infinite where that overflows.
    """

    type = "Exp"
    backward_bottoms = Reads.NOTHING
    backward_tops = Reads.ELEMENTS
    option_ranges = {"base": (0.2, 3), "scale": (-1, 1), "shift": (-1, 1)}

    inner: float
    outer: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Exp:
        o = layer.exp_param
        log_base = read_log_base(o.base)
        try:
            outer = math.exp(log_base * o.shift)
        except OverflowError:
            outer = math.inf
        return cls(log_base * o.scale, outer)


def read_log_base(base: float) -> float:
    """Logarithm of a base; -1 means e."""
    expect(base == -1 or 0 < base < math.inf, f"base is {base}; expected a number above 0, or -1")
    return 1.0 if base == -1 else math.log(base)


@register_op
@dataclass(frozen=True)
class Log(Neuron):
    """Log: logarithm of shift + scale x. Source: BVLC/caffe log_layer.cpp, LayerSetUp.

    Attributes:
        log_base: natural logarithm of the base; 1 for the default base e.
        scale, shift: of log(shift + scale x).
    """

    type = "Log"
    option_ranges = {"base": (1.5, 10)}

    log_base: float
    scale: float
    shift: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Log:
        o = layer.log_param
        expect(o.base != 1, "base is 1, which no logarithm has")
        return cls(read_log_base(o.base), o.scale, o.shift)

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return above_zero(self.scale, self.shift)

    def reads_bottom(self, index: int, in_place: bool) -> Reads:
        return Reads.EVERYTHING if in_place else Reads.ELEMENTS


@register_op
@dataclass(frozen=True)
class Clip(Neuron):
    """Clip: values limited to a range. Source: BVLC/caffe clip_layer.cpp.

    Attributes:
        low, high: the range, both ends included; where low is above high, low wins.
    """

    type = "Clip"
    backward_bottoms = Reads.ELEMENTS
    chooses = True

    low: float
    high: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Clip:
        o = layer.clip_param
        expect(o.HasField("min") and o.HasField("max"), "clip_param needs both min and max")
        return cls(o.min, o.max)

    def writes(self, phase: str) -> Writes:
        return Writes.SAME_SIGN if self.low <= 0 < self.high else Writes.ANYTHING


@register_op
@dataclass(frozen=True)
class ReLU6(Clip):
    """ReLU6: values limited to 0 .. 6. Source: eric612/MobileNet-YOLO relu6_layer.cpp."""

    type = "ReLU6"

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> ReLU6:
        return cls(0, 6)


@register_op
@dataclass(frozen=True)
class Threshold(Neuron):
    """Threshold: 1 above a value, else 0. Source: BVLC/caffe threshold_layer.cpp.

    Attributes:
        threshold: what a value must exceed.
    """

    type = "Threshold"
    backward_bottoms = Reads.NOTHING
    discrete = True
    fixed_bottoms = frozenset({0})

    threshold: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Threshold:
        return cls(layer.threshold_param.threshold)


@register_op
@dataclass(frozen=True)
class Dropout(Neuron):
    """Dropout.

    Attributes:
        ratio: the share of elements set to 0, 0 <= ratio < 1.
        in_test: whether elements are dropped in phase TEST too (Bayesian SegNet's
            sample_weights_test).
        scale_train: whether what is kept is scaled up where elements are dropped; False (Faster
            R-CNN) scales all elements down where none is.

    Source: BVLC/caffe dropout_layer.cpp; alexgkendall/caffe-segnet and rbgirshick/caffe-fast-rcnn
    for their options.
    """

    type = "Dropout"
    backward_bottoms = Reads.NOTHING
    remark = "Also Bayesian SegNet's sample_weights_test and Faster R-CNN's scale_train."

    ratio: float
    in_test: bool = False
    scale_train: bool = True

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Dropout:
        o = layer.dropout_param
        ratio = o.dropout_ratio
        expect(0 <= ratio < 1, f"dropout_ratio is {ratio}; expected 0 or more and less than 1")
        return cls(ratio, o.sample_weights_test, o.scale_train)

    def drops(self, phase: str) -> bool:
        """Whether elements are dropped in that phase."""
        return phase == "TRAIN" or self.in_test

    @property
    def scale(self) -> float:
        """What kept elements are multiplied by; in float32, as Caffe's member scale_ is."""
        (scale,) = struct.unpack("f", struct.pack("f", 1.0 / (1.0 - self.ratio)))
        return float(scale)

    def keeps_values(self, phase: str) -> bool:
        """Whether the top equals the bottom in that phase."""
        return not self.drops(phase) and self.scale_train

    def writes(self, phase: str) -> Writes:
        if self.ratio == 0 or self.keeps_values(phase):
            return Writes.NOTHING
        return Writes.SAME_SIGN if self.scale_train or not self.drops(phase) else Writes.SAME
