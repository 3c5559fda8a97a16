"""One file per layer type; a type's file is imported when the type is first met."""

from __future__ import annotations

import importlib

from caffe_port.spec.ops._base import Op, ParamShape, Shape, Values, register_op, registered_ops

__all__ = [
    "BUILTIN",
    "Op",
    "ParamShape",
    "Shape",
    "Values",
    "is_known",
    "known_types",
    "op_class",
    "register_op",
]

# type -> name of its file, here and in caffe_port.layers
BUILTIN = {
    "AbsVal": "absval",
    "Accuracy": "accuracy",
    "AdaptiveBiasChannel": "adaptive_bias_channel",
    "ArgMax": "argmax",
    "BN": "bn",
    "BNLL": "bnll",
    "BatchNorm": "batch_norm",
    "BatchReindex": "batch_reindex",
    "Bias": "bias",
    "BiasChannel": "bias_channel",
    "Clip": "clip",
    "Concat": "concat",
    "ContrastiveLoss": "contrastive_loss",
    "Convolution": "convolution",
    "Crop": "crop",
    "Data": "data",
    "Deconvolution": "deconvolution",
    "DenseCRF": "dense_crf",
    "DomainTransform": "domain_transform",
    "Dropout": "dropout",
    "ELU": "elu",
    "DummyData": "dummy_data",
    "Eltwise": "eltwise",
    "Embed": "embed",
    "EuclideanLoss": "euclidean_loss",
    "Exp": "exp",
    "FeedbackLoss": "feedback_loss",
    "Filter": "filter",
    "Flatten": "flatten",
    "HDF5Data": "hdf5_data",
    "HDF5Output": "hdf5_output",
    "HingeLoss": "hinge_loss",
    "Im2col": "im2col",
    "ImageData": "image_data",
    "ImageSegData": "image_seg_data",
    "InfogainLoss": "infogain_loss",
    "InnerProduct": "inner_product",
    "Input": "input",
    "Interp": "interp",
    "LRN": "lrn",
    "LSTM": "lstm",
    "LSTMUnit": "lstm_unit",
    "Log": "log",
    "MVN": "mvn",
    "MatRead": "mat_read",
    "MatWrite": "mat_write",
    "MemoryData": "memory_data",
    "MultinomialLogisticLoss": "multinomial_logistic_loss",
    "Normalize": "normalize",
    "PReLU": "prelu",
    "Parameter": "parameter",
    "Permute": "permute",
    "Pooling": "pooling",
    "Power": "power",
    "Python": "python_layer",
    "RNN": "rnn",
    "ReLU": "relu",
    "Reduction": "reduction",
    "Reshape": "reshape",
    "SPP": "spp",
    "Scale": "scale",
    "SegAccuracy": "seg_accuracy",
    "ShuffleChannel": "shuffle_channel",
    "Sigmoid": "sigmoid",
    "SigmoidCrossEntropyLoss": "sigmoid_cross_entropy_loss",
    "Silence": "silence",
    "Slice": "slice",
    "Softmax": "softmax",
    "SoftmaxWithLoss": "softmax_with_loss",
    "SpatialProduct": "spatial_product",
    "Split": "split",
    "Swish": "swish",
    "TanH": "tanh",
    "Threshold": "threshold",
    "Tile": "tile",
    "UniqueLabel": "unique_label",
    "Upsample": "upsample",
    "WindowData": "window_data",
}


def known_types() -> list[str]:
    """All types that can be built, sorted."""
    return sorted(set(BUILTIN) | set(registered_ops()))


def is_known(type: str) -> bool:
    """Whether a layer type can be built."""
    return type in BUILTIN or type in registered_ops()


def op_class(type: str) -> type[Op]:
    """The op of a known layer type. Raises KeyError for another."""
    if type not in registered_ops():
        importlib.import_module(f"caffe_port.spec.ops.{BUILTIN[type]}")
    return registered_ops()[type]
