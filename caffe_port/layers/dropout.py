"""Dropout: scaled in training, the identity in testing."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.data import rng
from caffe_port.data.distributions import bernoulli
from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops.dropout import Dropout as Options


@register_layer("Dropout")
class Dropout(Layer):
    """Keeps an element with probability 1 - ratio and scales it by 1 / (1 - ratio).

    Elements are dropped in TRAIN, and where the options say so in TEST.

    ratio is float32, as in Caffe: 0.2 is 0.20000000298. The mask comes from Caffe's generator if
    the net was built under one (caffe_port.data.rng), else from torch's.

    Attributes:
        part: (which, of how many): the layer sees one of so many equal parts of each batch, and its
            mask is that part of the whole batch's; None where it sees all.
    Source: BVLC/caffe dropout_layer.cpp.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.random = rng.current()
        self.part: tuple[int, int] | None = None

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        (x,) = bottoms
        op = self.spec.options(Options)
        keep = 1.0 - op.ratio
        if not op.drops(self.spec.phase):
            return (x.view_as(x) if op.scale_train else x * (1.0 / op.scale),)
        dropped = x * self._mask(x, keep)
        return (dropped * (1.0 / keep) if op.scale_train else dropped,)

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
