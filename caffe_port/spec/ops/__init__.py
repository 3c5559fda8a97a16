"""One file per family of layer types; a family is imported when one of its types is first met."""

from __future__ import annotations

import importlib

from caffe_port.spec.ops._base import (
    Op,
    ParamShape,
    Reads,
    Shape,
    Values,
    Writes,
    register_op,
    registered_ops,
)

__all__ = [
    "BUILTIN",
    "FAMILIES",
    "Op",
    "ParamShape",
    "Reads",
    "Shape",
    "Values",
    "Writes",
    "is_known",
    "known_types",
    "op_class",
    "register_op",
    "registered_ops",
]

# family -> its types; a family is one file here, in caffe_port.layers, and so on
FAMILIES = {
    "neurons": (
        "AbsVal", "BNLL", "Clip", "Dropout", "ELU", "Exp", "Log", "PReLU", "Power", "ReLU", "ReLU6",
        "Sigmoid", "Swish", "TanH", "Threshold",
    ),
    "filters": (
        "Convolution", "ConvolutionDepthwise", "Deconvolution", "DepthwiseConvolution", "Embed",
        "Im2col", "InnerProduct",
    ),
    "channelwise": ("Axpy", "SpatialDropout"),
    "pooling": ("LRN", "Pooling", "SPP"),
    "resampling": ("AutoCrop", "Crop", "Interp", "Padding", "Unpooling", "Upsample"),
    "resizing": ("Reorg", "ResizeBilinear", "ResizeNearestNeighbor"),
    "crf": ("DenseCRF", "DenseCRFLoss", "DomainTransform", "MultiStageMeanfield"),
    "batch_norm": ("BN", "BatchNorm"),
    "normalization": ("Bias", "MVN", "Normalize", "Scale"),
    "segmentation_losses": (
        "AdaptiveBiasChannel", "BiasChannel", "FeedbackLoss",
        "MultiChannelReweightedSigmoidCrossEntropyLoss", "MultiChannelSigmoidCrossEntropyLoss",
        "Quantize", "Rescale", "SigmoidCrossEntropyBalanceLoss", "SoftmaxWithLossOHEM",
        "UniqueLabel",
    ),
    "shapes": (
        "BatchReindex", "Concat", "Filter", "Flatten", "Permute", "Reshape", "ShuffleChannel",
        "Slice", "Split", "Tile",
    ),
    "arithmetic": ("Eltwise", "MaskPooling", "Reduction", "SpatialProduct"),
    "losses": (
        "ContrastiveLoss", "EuclideanLoss", "HingeLoss", "InfogainLoss",
        "MultinomialLogisticLoss", "SigmoidCrossEntropyLoss", "Softmax", "SoftmaxWithLoss",
    ),
    "metrics": ("Accuracy", "ArgMax", "EltwiseAccuracy", "SegAccuracy", "Silence"),
    "recurrent": ("LSTM", "LSTMUnit", "RNN"),
    "data": ("Data", "ImageData", "ImageSegData", "WindowData"),
    "labelled_images": ("AnnotatedData", "DenseImageData", "ImageLabelmapData"),
    "inputs": (
        "DummyData", "HDF5Data", "HDF5Output", "Input", "MatRead", "MatWrite", "MemoryData",
        "Parameter",
    ),
    "python_layer": ("Python",),
    "detection": ("DetectionEvaluate", "DetectionOutput", "PriorBox"),
    "detection_losses": ("MultiBoxLoss", "SmoothL1Loss"),
    "mscnn": ("BoxOutput", "DetectionAccuracy", "DetectionLoss"),
    "regions": ("BoxAnnotatorOHEM", "PSROIPooling", "Proposal", "ROIPooling", "SmoothL1LossOHEM"),
    "rpn": ("RPNAnchorTarget", "RPNProposal", "RPNProposalTarget"),
}  # fmt: skip
BUILTIN = {type: family for family, types in FAMILIES.items() for type in types}


def known_types() -> list[str]:
    """All types that can be built, sorted."""
    _import_own_types()
    return sorted(set(BUILTIN) | set(registered_ops()))


def is_known(type: str) -> bool:
    """Whether a layer type can be built; users' files and plugins are imported to find out."""
    if type not in BUILTIN and type not in registered_ops():
        _import_own_types()
    return type in BUILTIN or type in registered_ops()


def op_class(type: str) -> type[Op]:
    """The op of a known layer type. Raises KeyError for another."""
    if type not in registered_ops() and type in BUILTIN:
        importlib.import_module(f"caffe_port.spec.ops.{BUILTIN[type]}")
    elif type not in BUILTIN:
        is_known(type)
    return registered_ops()[type]


def _import_own_types() -> None:
    from caffe_port.spec import plugins

    plugins.import_all()
