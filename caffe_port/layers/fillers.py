"""Fillers: the initial values of parameters.

Source: BVLC/caffe filler.hpp.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from caffe_port.data import rng
from caffe_port.data.rng import CaffeRandom
from caffe_port.proto import caffe_pb2

_FLT_MAX = torch.finfo(torch.float32).max
_NORMS = caffe_pb2.FillerParameter


def fill(
    blob: Tensor, filler: caffe_pb2.FillerParameter | None, random: CaffeRandom | None = None
) -> None:
    """Fills a parameter in place.

    Args:
        blob: the parameter.
        filler: None is zeros.
        random: Caffe's generator; None uses torch's.
    Raises:
        ValueError: an unknown filler type, or one that does not fit the blob.
    """
    if blob.numel() == 0:
        return
    with torch.no_grad():
        if filler is None or filler.type == "constant":
            blob.fill_(filler.value if filler is not None else 0.0)
        elif filler.type == "uniform":
            if not 0 <= filler.max - filler.min <= _FLT_MAX:
                raise ValueError(f"filler 'uniform' from {filler.min} to {filler.max}")
            _uniform(blob, filler.min, filler.max, random)
        elif filler.type == "gaussian":
            _gaussian(blob, filler, random)
        elif filler.type == "xavier":
            # Caffe divides and takes the root in float32
            scale = float(np.sqrt(np.float32(3) / _fan(blob, filler.variance_norm)))
            _uniform(blob, -scale, scale, random)
        elif filler.type == "msra":
            std = float(np.sqrt(np.float32(2) / _fan(blob, filler.variance_norm)))
            _normal(blob, 0.0, std, random)
        elif filler.type == "positive_unitball":
            _unitball(blob, random)
        elif filler.type == "bilinear":
            _bilinear(blob)
        else:
            raise ValueError(f"unknown filler '{filler.type}'")


def _uniform(blob: Tensor, low: float, high: float, random: CaffeRandom | None) -> None:
    if random is None:
        blob.uniform_(low, high)
    else:
        _set(blob, rng.uniform(random, blob.numel(), low, high))


def _normal(blob: Tensor, mean: float, std: float, random: CaffeRandom | None) -> None:
    if random is None:
        blob.normal_(mean, std)
    else:
        _set(blob, rng.normal(random, blob.numel(), mean, std))


def _set(blob: Tensor, values: rng.Floats) -> None:
    blob.copy_(torch.from_numpy(values).view(blob.shape))


def _rows(blob: Tensor) -> int:
    if blob.dim() == 0:
        raise ValueError("a filler that depends on the blob's size, and the blob is a scalar")
    return blob.shape[0]


def _fan(blob: Tensor, norm: int) -> np.float32:
    fan_in = blob.numel() // _rows(blob)
    fan_out = blob.numel() // blob.shape[1] if blob.dim() > 1 else blob.numel()
    if norm == _NORMS.AVERAGE:
        return np.float32(fan_in + fan_out) / np.float32(2)
    return np.float32(fan_out if norm == _NORMS.FAN_OUT else fan_in)


def _gaussian(blob: Tensor, filler: caffe_pb2.FillerParameter, random: CaffeRandom | None) -> None:
    if not filler.std >= 0:
        raise ValueError(f"filler 'gaussian' has std {filler.std}; expected 0 or more")
    _normal(blob, filler.mean, filler.std, random)
    if filler.sparse < 0:
        return
    # on average `sparse` non-zero inputs per output
    chance = np.float32(filler.sparse) / np.float32(_rows(blob))
    if random is None:
        blob.mul_(torch.rand_like(blob) < float(chance))
    else:
        kept = rng.bernoulli(random, blob.numel(), chance)
        blob.mul_(torch.from_numpy(kept).view(blob.shape))


def _unitball(blob: Tensor, random: CaffeRandom | None) -> None:
    _uniform(blob, 0.0, 1.0, random)
    rows = blob.detach().cpu().numpy().reshape(blob.shape[0] if blob.dim() else 1, -1)
    # numpy's cumsum adds one by one in float32, as Caffe's loop does; torch's does not
    _set(blob, rows / np.cumsum(rows, axis=1)[:, -1:])


def _bilinear(blob: Tensor) -> None:
    if blob.dim() != 4 or blob.shape[2] != blob.shape[3]:
        raise ValueError(f"filler 'bilinear' needs square 4-D filters, found {tuple(blob.shape)}")
    size = blob.shape[3]
    factor = math.ceil(size / 2)
    centre = (size - 1) / (2.0 * factor)
    ramp = 1 - (torch.arange(size, dtype=blob.dtype) / factor - centre).abs()
    blob.copy_((ramp[:, None] * ramp[None, :]).expand_as(blob))
