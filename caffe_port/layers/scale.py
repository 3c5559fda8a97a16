"""Scale."""

from __future__ import annotations

from torch import Tensor

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.scale import Scale as Options


def assigns_diff(bottom: Tensor, weight: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether Caffe's backward sets a learned scale's diff where it should add to it.

    It does where nothing lies before the scale's axes, such as a batch of one item, except for a
    scale of one element over more than one.

    Args:
        bottom: what is scaled.
        weight: the scale.
        shape: the scale's, padded with 1s to broadcast over the bottom.
    Source: BVLC/caffe scale_layer.cpp, Backward_cpu, where outer_dim_ is 1.
    """
    before = bottom.shape[: bottom.dim() - len(shape)]
    return before.numel() == 1 and (weight.numel() > 1 or bottom.numel() == 1)


@register_layer("Scale")
class Scale(Layer):
    """Where Caffe sets a shared scale's diff, the owner's, which comes last in backward, stays.

    So the other layers' parts are left out here, with the owner taken to scale a bottom of the same
    leading axes.

    Source: BVLC/caffe scale_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        x = bottoms[0]
        weight = bottoms[1] if len(bottoms) > 1 else self.param("weight")
        shape = op.spread(tuple(x.shape), tuple(weight.shape))
        shared = len(bottoms) == 1 and self.spec.params[0].owner is not None
        if shared and assigns_diff(x, weight, shape):
            weight = weight.detach()
        top = x * weight.reshape(shape)
        return (top + self.param("bias").reshape(shape) if op.bias else top,)
