"""Interp: DeepLab's align-corners bilinear resize."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec.ops.interp import Interp as Options


@register_layer("Interp")
class Interp(Layer):
    """Crops, then resizes with corner on corner; torch's arithmetic is DeepLab's.

    Source: DeepLab v2 interp_layer.cpp, interp.cpp.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        (x,) = bottoms
        size = op.top_shapes([tuple(x.shape)])[0][2:]
        begin, height, width = -op.pad_beg, x.shape[2] + op.pad_end, x.shape[3] + op.pad_end
        x = x[:, :, begin:height, begin:width]
        if tuple(x.shape[2:]) == size:
            return (x.clone(),)
        if x.dtype == torch.float64:
            return (_resized_exactly(x, size),)
        return (functional.interpolate(x, size, mode="bilinear", align_corners=True),)


def _resized_exactly(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """In float64, at the positions that Caffe computes in float32: they belong to its definition.

    torch would compute the positions in float64 too, which moves them by up to 1e-6 of a map.
    """
    rows, columns = (_weights(x.shape[2 + i], size[i]).to(x.device) for i in (0, 1))
    return torch.einsum("oh,nchw,pw->ncop", rows, x, columns)


def _weights(size: int, wanted: int) -> Tensor:
    """Bilinear weights as a matrix (wanted, size), float64."""
    ratio = np.float32(size - 1) / np.float32(wanted - 1) if wanted > 1 else np.float32(0)
    positions = ratio * np.arange(wanted, dtype=np.float32)
    first = positions.astype(np.int64)
    share = (positions - first.astype(np.float32)).astype(np.float64)
    weights = np.zeros((wanted, size))
    places = np.arange(wanted)
    weights[places, first] = 1 - share
    weights[places, np.minimum(first + 1, size - 1)] += share
    return torch.from_numpy(weights)
