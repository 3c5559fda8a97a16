"""One file per layer type; a type's file is imported when the type is first met."""

from __future__ import annotations

import importlib

from caffe_port.errors import UnsupportedLayerError
from caffe_port.spec.ops._base import Op, ParamShape, Shape, register_op, registered_ops

__all__ = ["BUILTIN", "Op", "ParamShape", "Shape", "known_types", "op_class", "register_op"]

# type -> name of its file, here and in caffe_port.layers
BUILTIN = {
    "ArgMax": "argmax",
    "Concat": "concat",
    "Convolution": "convolution",
    "DenseCRF": "dense_crf",
    "Dropout": "dropout",
    "Eltwise": "eltwise",
    "ImageSegData": "image_seg_data",
    "Input": "input",
    "Interp": "interp",
    "MatWrite": "mat_write",
    "Pooling": "pooling",
    "ReLU": "relu",
    "SegAccuracy": "seg_accuracy",
    "Silence": "silence",
    "Softmax": "softmax",
    "SoftmaxWithLoss": "softmax_with_loss",
    "Split": "split",
}


def known_types() -> list[str]:
    """All types that can be built, sorted."""
    return sorted(set(BUILTIN) | set(registered_ops()))


def op_class(layer: str, type: str) -> type[Op]:
    """The op of a layer type.

    Raises:
        UnsupportedLayerError: no such type; lists the known ones.
    """
    if type not in registered_ops() and type in BUILTIN:
        importlib.import_module(f"caffe_port.spec.ops.{BUILTIN[type]}")
    if type not in registered_ops():
        raise UnsupportedLayerError(
            layer,
            type,
            "this type is not known. Known are: " + ", ".join(known_types()) + ". A layer of "
            "your fork can be added with caffe_port.register_op and caffe_port.register_layer",
        )
    return registered_ops()[type]
