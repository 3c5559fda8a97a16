"""Caffe's DeepLab and FCN models in PyTorch, verified against real Caffe.

Names and subpackages are imported when they are first used: reading a file needs no torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

__version__ = "1.0.0rc1"

_MODULES = {
    "DenseCRF": "crf",
    "Layer": "layers",
    "LayerSpec": "spec",
    "ModelInfo": "model_info",
    "Net": "net",
    "NetSpec": "spec",
    "Op": "spec.ops",
    "Segmenter": "prediction.segmenter",
    "explore": "exploring.notebook",
    "from_pretrained": "hub.repositories",
    "load": "loading",
    "read_weights": "weights",
    "register_layer": "layers",
    "register_op": "spec.ops",
    "write_weights": "weights",
}
_SUBPACKAGES = {
    "crf", "data", "datasets", "errors", "evaluation", "export", "hub", "inference", "layers",
    "losses", "parity", "prediction", "proto", "pycaffe", "recipes", "solver", "spec", "unravel",
    "weights",
}  # fmt: skip

__all__ = [
    "DenseCRF",
    "Layer",
    "LayerSpec",
    "ModelInfo",
    "Net",
    "NetSpec",
    "Op",
    "Segmenter",
    "__version__",
    "crf",
    "data",
    "datasets",
    "errors",
    "evaluation",
    "explore",
    "export",
    "from_pretrained",
    "hub",
    "inference",
    "layers",
    "load",
    "losses",
    "parity",
    "prediction",
    "proto",
    "pycaffe",
    "read_weights",
    "recipes",
    "register_layer",
    "register_op",
    "solver",
    "spec",
    "unravel",
    "weights",
    "write_weights",
]

if TYPE_CHECKING:
    from caffe_port import (
        crf,
        data,
        datasets,
        errors,
        evaluation,
        export,
        hub,
        inference,
        layers,
        losses,
        parity,
        prediction,
        proto,
        pycaffe,
        recipes,
        solver,
        spec,
        unravel,
        weights,
    )
    from caffe_port.crf import DenseCRF
    from caffe_port.exploring import explore
    from caffe_port.hub import from_pretrained
    from caffe_port.layers import Layer, register_layer
    from caffe_port.loading import load
    from caffe_port.model_info import ModelInfo
    from caffe_port.net import Net
    from caffe_port.prediction import Segmenter
    from caffe_port.spec import LayerSpec, NetSpec
    from caffe_port.spec.ops import Op, register_op
    from caffe_port.weights import read_weights, write_weights


def import_name(package: str, modules: Mapping[str, str], name: str) -> Any:
    """Import a package's name when it is first used, for the package's ``__getattr__``.

    Args:
        package: such as "caffe_port".
        modules: public name -> the module inside the package that defines it.
        name: the name that is asked for.
    Raises:
        AttributeError: the package has no such name.
    """
    if name not in modules:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    return import_name(__name__, _MODULES, name)
