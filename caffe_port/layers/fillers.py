"""How parameters start before training.

Source: BVLC/caffe filler.hpp.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caffe_port.proto import caffe_pb2

_NORMS = caffe_pb2.FillerParameter


def _fan(blob: Tensor, norm: int) -> float:
    fan_in = blob.numel() / blob.shape[0]
    fan_out = blob.numel() / blob.shape[1] if blob.dim() > 1 else float(blob.numel())
    if norm == _NORMS.AVERAGE:
        return (fan_in + fan_out) / 2
    return fan_out if norm == _NORMS.FAN_OUT else fan_in


def _gaussian(blob: Tensor, filler: caffe_pb2.FillerParameter) -> None:
    if not filler.std >= 0:
        raise ValueError(f"filler 'gaussian' has std {filler.std}; expected 0 or more")
    blob.normal_(filler.mean, filler.std)
    if filler.sparse >= 0:
        # on average `sparse` non-zero inputs per output
        blob.mul_(torch.rand_like(blob) < filler.sparse / blob.shape[0])


def _bilinear(blob: Tensor) -> None:
    if blob.dim() != 4 or blob.shape[2] != blob.shape[3]:
        raise ValueError(f"filler 'bilinear' needs square 4-D filters, found {tuple(blob.shape)}")
    size = blob.shape[3]
    factor = math.ceil(size / 2)
    centre = (size - 1) / (2.0 * factor)
    ramp = 1 - (torch.arange(size, dtype=blob.dtype) / factor - centre).abs()
    blob.copy_((ramp[:, None] * ramp[None, :]).expand_as(blob))


def fill(blob: Tensor, filler: caffe_pb2.FillerParameter | None) -> None:
    """Fills a parameter in place, with torch's generator.

    Args:
        blob: the parameter.
        filler: None is zeros.
    Raises:
        ValueError: an unknown filler type, or one that does not fit the blob.
    """
    if blob.numel() == 0:
        return
    with torch.no_grad():
        if filler is None or filler.type == "constant":
            blob.fill_(filler.value if filler is not None else 0.0)
        elif filler.type == "uniform":
            if not filler.min <= filler.max:
                raise ValueError(f"filler 'uniform' from {filler.min} to {filler.max}")
            blob.uniform_(filler.min, filler.max)
        elif filler.type == "gaussian":
            _gaussian(blob, filler)
        elif filler.type == "xavier":
            scale = math.sqrt(3.0 / _fan(blob, filler.variance_norm))
            blob.uniform_(-scale, scale)
        elif filler.type == "msra":
            blob.normal_(0, math.sqrt(2.0 / _fan(blob, filler.variance_norm)))
        elif filler.type == "positive_unitball":
            rows = blob.uniform_(0, 1).flatten(1)
            rows.div_(rows.sum(1, keepdim=True))
        elif filler.type == "bilinear":
            _bilinear(blob)
        else:
            raise ValueError(f"unknown filler '{filler.type}'")
