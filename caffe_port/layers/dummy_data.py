"""DummyData: constant or random blobs."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_port.data import rng
from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.layers.fillers import fill
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops.dummy_data import DummyData as Options


@register_layer("DummyData")
class DummyData(Layer):
    """Fills its tops anew at every forward pass.

    Random numbers come from Caffe's generator if the net was built under one
    (caffe_port.data.rng), else from torch's.

    Source: BVLC/caffe dummy_data_layer.cpp.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.random = rng.current()

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        tops = []
        # the shapes of the spec, which the caller may have replaced
        for shape, filler in zip(self.spec.top_shapes, op.fillers, strict=True):
            top = torch.empty(shape)
            with named(self.spec):
                fill(top, filler, self.random)
            tops.append(top)
        return tuple(tops)
