"""Modules: layers that compute each element from the same element of the bottom."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.data import rng
from caffe_port.data.rng import bernoulli
from caffe_port.layers._registry import Layer, learns, register_layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops import neurons as ops

# Caffe's neuron layers read the data of their bottom or top in backward. Where a layer in place, or
# a script, has overwritten that data since, the diff is not the derivative; to train as Caffe did,
# the functions below compute the same diff.


class _GivenDiff(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, top: Tensor, factor: Tensor, chained: bool) -> Tensor:
        ctx.save_for_backward(factor)
        ctx.chained = chained
        return top.clone()

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = ctx.saved_tensors
        return (diffs[0] * factor if ctx.chained else factor), None, None, None


def with_diff(x: Tensor, top: Tensor, factor: Tensor, *, chained: bool = True) -> Tensor:
    """A top whose diff with respect to x is a given one.

    Args:
        x: the bottom.
        top: the layer's result.
        factor: of x's shape; the diff to x is the top's diff times the factor.
        chained: False where the diff to x is the factor alone, because Caffe wrote the factor over
            the top's diff before it read that.
    Returns:
        The top's values.
    """
    if not learns(x):
        return top
    return _GivenDiff.apply(x, top.detach(), factor, chained)  # type: ignore[no-any-return,no-untyped-call]


class Elementwise(Layer):
    """A layer whose top has the bottom's shape and depends on it element by element.

    Class attributes:
        reads_bottom: backward reads the bottom's data, which the top has replaced in place.
        overwrites_diff: in place, backward writes its factor over the top's diff before it reads
            that, so that the bottom's diff is the square of the factor, whatever the top's is.
    """

    reads_bottom: ClassVar[bool] = False
    overwrites_diff: ClassVar[bool] = False

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        top = self.top(x)
        return (self.in_place_top(x, top) if self.in_place and self.reads_bottom else top,)

    def top(self, x: Tensor) -> Tensor:
        """The top, from the bottom."""
        raise TypeError(f"{type(self).__name__} defines no top")

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        """The factor by which Caffe's backward multiplies the top's diff.

        Args:
            x, y: the data of the bottom and of the top at that time; in place both are one.
        """
        raise TypeError(f"{type(self).__name__} defines no factor")

    def in_place_top(self, x: Tensor, top: Tensor) -> Tensor:
        """The top, with the diff that backward computes where the top replaces the bottom."""
        with torch.no_grad():
            factor = self.factor(top, top)
        if self.overwrites_diff:
            return with_diff(x, top, factor * factor, chained=False)
        return with_diff(x, top, factor)


@register_layer("ReLU")
class ReLU(Elementwise):
    """max(x, 0) + negative_slope * min(x, 0).

    In place, backward reads the top's sign as the bottom's; a slope below 0 has reversed it.

    Source: BVLC/caffe relu_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        slope = self.spec.options(ops.ReLU).negative_slope
        (x,) = bottoms
        top = functional.leaky_relu(x, slope) if slope else functional.relu(x)
        return (self.in_place_top(x, top) if self.in_place and slope < 0 else top,)

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(x > 0, 1.0, self.spec.options(ops.ReLU).negative_slope).to(x.dtype)


@register_layer("PReLU")
class PReLU(Layer):
    """x above 0, else slope * x. Source: BVLC/caffe prelu_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        return (functional.prelu(x, self.param("weight").reshape(-1)),)


@register_layer("ELU")
class ELU(Elementwise):
    """x above 0, else alpha (exp(x) - 1), whose difference is rounded as Caffe rounds it.

    Backward adds alpha to the top. Source: BVLC/caffe elu_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        alpha = self.spec.options(ops.ELU).alpha
        (x,) = bottoms
        top = x.clamp(min=0) + alpha * (x.clamp(max=0).exp() - 1)
        if self.in_place and alpha < 0:  # backward reads the top's sign as the bottom's
            return (self.in_place_top(x, top),)
        return (with_diff(x, top, self.factor(x, top)),)

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(x > 0, torch.ones_like(y), self.spec.options(ops.ELU).alpha + y)


@register_layer("Swish")
class Swish(Elementwise):
    """x sigmoid(beta x). Source: BVLC/caffe swish_layer.cpp."""

    def top(self, x: Tensor) -> Tensor:
        return x * (x * self.spec.options(ops.Swish).beta).sigmoid()

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        beta = self.spec.options(ops.Swish).beta
        sigmoid = (x * beta).sigmoid()
        return beta * y + sigmoid * (1 - beta * y)


@register_layer("Sigmoid")
class Sigmoid(Elementwise):
    """1 / (1 + exp(-x)). Source: BVLC/caffe sigmoid_layer.cpp."""

    def top(self, x: Tensor) -> Tensor:
        return x.sigmoid()

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        return y * (1 - y)


@register_layer("TanH")
class TanH(Elementwise):
    """The hyperbolic tangent. Source: BVLC/caffe tanh_layer.cpp."""

    def top(self, x: Tensor) -> Tensor:
        return x.tanh()

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        return 1 - y * y


def bnll(x: Tensor) -> Tensor:
    """log(1 + exp(x)) for any x; torch's softplus gives x itself beyond a threshold."""
    return -functional.logsigmoid(-x)


@register_layer("BNLL")
class BNLL(Elementwise):
    """In place, backward reads the top as the bottom. Source: BVLC/caffe bnll_layer.cpp."""

    reads_bottom = True

    def top(self, x: Tensor) -> Tensor:
        return bnll(x)

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.sigmoid(x)


@register_layer("AbsVal")
class AbsVal(Elementwise):
    """The absolute value, with diff 0 at 0. Source: BVLC/caffe absval_layer.cpp."""

    def top(self, x: Tensor) -> Tensor:
        return x.abs()

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        return x.sign()


def power(x: Tensor, op: ops.Power) -> Tensor:
    """(shift + scale x) ^ power; where scale or power is 0, a constant with diff 0.

    A negative base gives NaN unless the power is whole. Where the base is 0 and shift is 0 Caffe's
    diff is 0 / 0; ours is the derivative.
    """
    if op.power * op.scale == 0:
        top = torch.full_like(x, op.shift).pow(op.power)
        return with_diff(x, top, torch.zeros_like(x))
    top = x if op.scale == 1 else x * op.scale
    top = top if op.shift == 0 else top + op.shift
    return top if op.power == 1 else top.pow(op.power)


@register_layer("Power")
class Power(Elementwise):
    """In place, Caffe's backward reads the top as the bottom, and overwrites the top's diff before
    reading it: the diff is the squared derivative, whatever the top's diff is.

    Source: BVLC/caffe power_layer.cpp.
    """

    reads_bottom = overwrites_diff = True

    def top(self, x: Tensor) -> Tensor:
        return power(x, self.spec.options(ops.Power))

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        op = self.spec.options(ops.Power)
        if op.power * op.scale == 0 or op.power == 1:
            return torch.full_like(x, op.power * op.scale)
        base = x * op.scale + op.shift
        return (base if op.power == 2 else y / base) * (op.power * op.scale)


@register_layer("Exp")
class Exp(Elementwise):
    """base ^ shift * exp(log(base) scale x). Source: BVLC/caffe exp_layer.cpp."""

    def top(self, x: Tensor) -> Tensor:
        op = self.spec.options(ops.Exp)
        top = (x if op.inner == 1 else x * op.inner).exp()
        return top if op.outer == 1 else top * op.outer

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        return y * self.spec.options(ops.Exp).inner


@register_layer("Log")
class Log(Elementwise):
    """log(shift + scale x) / log(base): -inf at 0, NaN below.

    In place, Caffe's backward reads the top as the bottom, and overwrites the top's diff before it
    reads it: the diff is the squared derivative at the top, whatever the top's diff is.

    Source: BVLC/caffe log_layer.cpp.
    """

    reads_bottom = overwrites_diff = True

    def top(self, x: Tensor) -> Tensor:
        op = self.spec.options(ops.Log)
        return (x * op.scale + op.shift).log() * (1 / op.log_base)

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        op = self.spec.options(ops.Log)
        return op.scale / op.log_base / (x * op.scale + op.shift)


@register_layer("Clip")
class Clip(Elementwise):
    """The diff passes where the bottom is in range.

    In place, backward tests the top, which is always in range, except if min is above max.


    Source: BVLC/caffe clip_layer.cpp.
    """

    reads_bottom = True

    def top(self, x: Tensor) -> Tensor:
        op = self.spec.options(ops.Clip)
        # two steps, because in torch's clamp max has precedence over min
        return x.clamp(max=op.high).clamp(min=op.low)

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        op = self.spec.options(ops.Clip)
        return ((x >= op.low) & (x <= op.high)).to(x.dtype)


@register_layer("ReLU6")
class ReLU6(Clip):
    """No diff at 0 and at 6, where Clip has one. Source: eric612/MobileNet-YOLO relu6_layer.cpp."""

    def top(self, x: Tensor) -> Tensor:
        return functional.relu6(x)

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        op = self.spec.options(ops.ReLU6)
        return ((x > op.low) & (x < op.high)).to(x.dtype)


@register_layer("Threshold")
class Threshold(Layer):
    """1 where x exceeds the threshold, else 0; no diff. Source: BVLC/caffe threshold_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.Threshold)
        (x,) = bottoms
        return ((x > op.threshold).to(x.dtype),)


@register_layer("Dropout")
class Dropout(Layer):
    """Keeps an element with probability 1 - ratio and scales it by 1 / (1 - ratio).

    Elements are dropped in TRAIN, and in TEST if the options say so.

    ratio is float32, as in Caffe: 0.2 is 0.20000000298. The mask comes from Caffe's generator if
    the net was built under one (caffe_port.data.rng), else from torch's.

    Attributes:
        part: (index, count): the layer gets this one of ``count`` equal parts of each batch, and
            uses that part of the whole batch's mask; None if it gets the whole batch.
    Source: BVLC/caffe dropout_layer.cpp.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.random = rng.current()
        self.part: tuple[int, int] | None = None

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        op = self.spec.options(ops.Dropout)
        keep = 1.0 - op.ratio
        if not op.drops(self.spec.phase):
            return (x.view_as(x) if op.scale_train else x * (1.0 / op.scale),)
        dropped = x * self._mask(x, keep)
        return (dropped * (1.0 / keep) if op.scale_train else dropped,)

    def skip(self, x: Tensor) -> None:
        """Takes the draws of a pass that another process computes; ``x`` has the bottom's shape."""
        op = self.spec.options(ops.Dropout)
        if op.drops(self.spec.phase):
            self._mask(x, 1.0 - op.ratio)

    def _mask(self, x: Tensor, keep: float) -> Tensor:
        which, count = self.part or (0, 1)
        shape = (count * len(x), *x.shape[1:]) if x.dim() else x.shape
        if self.random is None:
            kept = torch.rand(shape, dtype=x.dtype, device=x.device) < keep
        else:
            drawn = bernoulli(self.random, count * x.numel(), keep)
            kept = torch.from_numpy(drawn).view(shape)
        if self.part is not None:
            kept = kept[which * len(x) : (which + 1) * len(x)]
        return kept.to(x.device)
