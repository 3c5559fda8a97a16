"""LRN."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.layers.pooling import ave_pool
from caffe_port.spec.ops import lrn as options
from caffe_port.spec.ops.pooling import Pooling


def normalize_within_channel(x: Tensor, op: options.LRN) -> Tensor:
    """x * (1 + alpha * average of squares around it) ^ -beta.

    The average is AVE pooling's, so at the border it divides by the padded window. k is not used.

    Args:
        x: (N, C, H, W).
        op: options.
    Source: BVLC/caffe lrn_layer.cpp, WithinChannelForward.
    """
    size, pad = op.local_size, (op.local_size - 1) // 2
    window = Pooling("AVE", (size, size), (1, 1), (pad, pad), ceil=True)
    return x * (ave_pool(x.square(), window) * op.alpha + 1).pow(-op.beta)


@register_layer("LRN")
class LRN(Layer):
    """Across channels torch's function is Caffe's: alpha / size inside the sum, k added.

    Source: BVLC/caffe lrn_layer.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(options.LRN)
        (x,) = bottoms
        if op.within:
            return (normalize_within_channel(x, op),)
        width = op.width(x.shape[1])
        alpha = op.alpha * width / op.local_size
        return (functional.local_response_norm(x, width, alpha, op.beta, op.k),)
