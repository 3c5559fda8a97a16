"""caffe_port: Caffe experiments of the DeepLab era in PyTorch, with proof.

Names are imported when they are first used, so that reading a file needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "DenseCRF": "caffe_port.crf",
    "Layer": "caffe_port.layers",
    "LayerSpec": "caffe_port.spec",
    "Net": "caffe_port.net",
    "NetSpec": "caffe_port.spec",
    "Op": "caffe_port.spec.ops",
    "load": "caffe_port.loading",
    "read_weights": "caffe_port.weights",
    "register_layer": "caffe_port.layers",
    "register_op": "caffe_port.spec.ops",
    "write_weights": "caffe_port.weights",
}
_ROOMS = {"crf", "errors", "parity", "proto", "pycaffe", "spec", "unravel", "weights"}

__all__ = [
    "DenseCRF",
    "Layer",
    "LayerSpec",
    "Net",
    "NetSpec",
    "Op",
    "__version__",
    "crf",
    "errors",
    "load",
    "parity",
    "proto",
    "pycaffe",
    "read_weights",
    "register_layer",
    "register_op",
    "spec",
    "unravel",
    "weights",
    "write_weights",
]

if TYPE_CHECKING:
    from caffe_port import crf, errors, parity, proto, pycaffe, spec, unravel, weights
    from caffe_port.crf import DenseCRF
    from caffe_port.layers import Layer, register_layer
    from caffe_port.loading import load
    from caffe_port.net import Net
    from caffe_port.spec import LayerSpec, NetSpec
    from caffe_port.spec.ops import Op, register_op
    from caffe_port.weights import read_weights, write_weights


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"caffe_port.{name}")
    raise AttributeError(f"module 'caffe_port' has no attribute '{name}'")
