"""Modules: normalization, and scales and biases of channels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from caffe_port.layers._registry import Layer, learns, register_layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops import Shape
from caffe_port.spec.ops import normalization as ops


def assigns_diff(layer: LayerSpec, bottom: Shape) -> bool:
    """Whether Caffe's backward overwrites the diff of a learned scale instead of adding to it.

    It does if the axes before the scale's have one element in all, such as a batch of one item,
    except for a scale of one element over more than one. The diffs of other layers that share the
    scale, and of earlier passes of the same iteration (iter_size), are lost.

    Args:
        layer: of any type.
        bottom: shape of the scaled bottom.
    Source: BVLC/caffe scale_layer.cpp, Backward_cpu, where outer_dim_ is 1.
    """
    if layer.type != "Scale" or len(layer.bottoms) > 1:
        return False
    weight = layer.params[0].shape
    before = bottom[: len(bottom) - len(layer.options(ops.Scale).spread(bottom, weight))]
    return math.prod(before) == 1 and (math.prod(weight) > 1 or math.prod(bottom) == 1)


@register_layer("Scale")
class Scale(Layer):
    """If Caffe overwrites the diff of a shared scale, the owner's, computed last, remains.

    So the other layers add nothing here; the owner is assumed to scale a bottom of the same leading
    axes.

    Source: BVLC/caffe scale_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.Scale)
        x = bottoms[0]
        weight = bottoms[1] if len(bottoms) > 1 else self.param("weight")
        shape = op.spread(tuple(x.shape), tuple(weight.shape))
        shared = len(bottoms) == 1 and self.spec.params[0].owner is not None
        if shared and assigns_diff(self.spec, tuple(x.shape)):
            weight = weight.detach()
        top = x * weight.reshape(shape)
        return (top + self.param("bias").reshape(shape) if op.bias else top,)


@register_layer("Bias")
class Bias(Layer):
    """Source: BVLC/caffe bias_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.Bias)
        x = bottoms[0]
        bias = bottoms[1] if len(bottoms) > 1 else self.param("bias")
        return (x + bias.reshape(op.spread(tuple(x.shape), tuple(bias.shape))),)


def _normalized(rows: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(x - mean) / (standard deviation + eps) of each row, and the divisor."""
    deviation = rows - rows.mean(1, keepdim=True)
    divisor = deviation.square().mean(1, keepdim=True).sqrt() + eps
    return deviation / divisor, divisor


class _Normalize(torch.autograd.Function):
    """``_normalized`` with Caffe's diff.

    Backward uses the divisor in place of the standard deviation, as Caffe does: autograd would
    divide by the standard deviation alone and give NaN for a constant row.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, eps: float) -> Tensor:
        top, divisor = _normalized(rows, eps)
        ctx.save_for_backward(top, divisor)
        return top

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        top, divisor = ctx.saved_tensors
        (diff,) = diffs
        along = top * (top * diff).mean(1, keepdim=True)
        return (diff - diff.mean(1, keepdim=True) - along) / divisor, None


@register_layer("MVN")
class MVN(Layer):
    """Source: BVLC/caffe mvn_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.MVN)
        (x,) = bottoms
        (shape,) = op.top_shapes([tuple(x.shape)])
        lead = 1 if op.across_channels else 2
        rows = x.reshape(math.prod(shape[:lead]), math.prod(shape[lead:]))
        if not op.normalize_variance:
            top = rows - rows.mean(1, keepdim=True)
        elif learns(rows):
            top = _Normalize.apply(rows, op.eps)  # type: ignore[no-untyped-call]
        else:
            top, _ = _normalized(rows, op.eps)
        return (top.reshape(shape),)


@register_layer("Normalize")
class Normalize(Layer):
    """scale * x / sqrt(eps + sum of squares); torch's normalize limits the norm instead.

    Source: weiliu89/caffe normalize_layer.cpp; Liu et al., ParseNet, 2015.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.Normalize)
        (x,) = bottoms
        axes = tuple(range(1, x.dim())) if op.across_spatial else (1,)
        norm = (x.square().sum(axes, keepdim=True) + op.eps).sqrt()
        scale = self.param("weight")
        if not op.channel_shared:
            scale = scale.reshape(-1, *[1] * (x.dim() - 2))
        return (x / norm * scale,)
