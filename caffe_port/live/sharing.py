"""Layers whose tops are their bottoms' memory, so that a write through one blob is seen in both.

Source: BVLC/caffe, where ShareData and ShareDiff are called: split_layer.cpp, flatten_layer.cpp,
reshape_layer.cpp, concat_layer.cpp, slice_layer.cpp, parameter_layer.hpp.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_port.errors import LayerError
from caffe_port.live.blob import Blob
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops import Shape


def top_shapes(layer: LayerSpec, bottoms: Sequence[Blob]) -> list[Shape]:
    """Shapes of a layer's tops for its bottoms' present shapes.

    Raises:
        LayerError: the bottoms do not fit the layer.
    """
    try:
        return layer.op.top_shapes([tuple(blob.shape) for blob in bottoms])[: len(layer.tops)]
    except ValueError as error:
        raise LayerError(layer.prototxt_name, layer.type, str(error)) from error


def reshape(layer: LayerSpec, bottoms: Sequence[Blob], tops: Sequence[Blob]) -> None:
    """Gives the tops of a layer other than Python their shapes, and the memory they share."""
    for top, shape in zip(tops, top_shapes(layer, bottoms), strict=True):
        top.reshape(*shape)
    if layer.shares_diff and tops[0] is not bottoms[0]:
        tops[0].share_data(bottoms[0])
        tops[0].share_diff(bottoms[0])


def forward(
    layer: LayerSpec, bottoms: Sequence[Blob], tops: Sequence[Blob], params: Sequence[Blob]
) -> bool:
    """Runs a layer that only shares memory; returns False for all others, doing nothing."""
    if layer.type == "Parameter":
        tops[0].share_data(params[0])
        tops[0].share_diff(params[0])
        return True
    if not layer.shares_data:
        return False
    reshape(layer, bottoms, tops)
    if not layer.shares_diff:
        for top in tops:
            top.share_data(bottoms[0])
    return True


def backward(layer: LayerSpec, bottoms: Sequence[Blob], tops: Sequence[Blob]) -> bool:
    """Walks back such a layer; returns False for all others, doing nothing."""
    if layer.shares_diff or layer.type == "Parameter":
        return True
    if not layer.shares_data:
        return False
    if layer.bottom_needs_backward[0]:
        if layer.type == "Flatten":
            bottoms[0].share_diff(tops[0])
        else:
            # from the last reader to the first, the order in which autograd adds
            np.sum([top.diff for top in reversed(tops)], axis=0, out=bottoms[0].diff)
    return True
