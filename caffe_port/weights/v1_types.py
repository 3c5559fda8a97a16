"""The V2 type names of V0 and V1 layers.

Source: BVLC/caffe upgrade_proto.cpp, UpgradeV0LayerType and UpgradeV1LayerType; the DeepLab v1
fork's caffe.proto, LayerParameter.LayerType, for 39 to 56.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

_AMBIGUOUS = 39  # Deconvolution, but ImageSegData in DeepLab v1
_CONVOLUTION_PARAM, _IMAGE_DATA_PARAM = 10, 15  # fields of a V1 layer
TELLING_FIELDS = frozenset((_CONVOLUTION_PARAM, _IMAGE_DATA_PARAM))

_COMMON = (
    "", "Accuracy", "BNLL", "Concat", "Convolution", "Data", "Dropout", "EuclideanLoss", "Flatten",
    "HDF5Data", "HDF5Output", "Im2col", "ImageData", "InfogainLoss", "InnerProduct", "LRN",
    "MultinomialLogisticLoss", "Pooling", "ReLU", "Sigmoid", "Softmax", "SoftmaxWithLoss", "Split",
    "TanH", "WindowData", "Eltwise", "Power", "SigmoidCrossEntropyLoss", "HingeLoss", "MemoryData",
    "ArgMax", "Threshold", "DummyData", "Slice", "MVN", "AbsVal", "Silence", "ContrastiveLoss",
    "Exp",
)  # fmt: skip
_DEEPLAB1_FIRST = 40
_DEEPLAB1 = (
    "SegAccuracy", "Interp", "Padding", "MatWrite", "MatRead", "DenseCRF", "DominantChannel",
    "BiasChannel", "UniqueLabel", "CensorLabel", "AdaptiveBiasChannel", "ChannelAggregator",
    "IgnoreOverlay", "Histogram", "RelativeError", "GainChannel", "OneHot",
)  # fmt: skip
_V0 = {
    "accuracy": "Accuracy", "bnll": "BNLL", "concat": "Concat", "conv": "Convolution",
    "data": "Data", "dropout": "Dropout", "euclidean_loss": "EuclideanLoss", "flatten": "Flatten",
    "hdf5_data": "HDF5Data", "hdf5_output": "HDF5Output", "im2col": "Im2col",
    "images": "ImageData", "infogain_loss": "InfogainLoss", "innerproduct": "InnerProduct",
    "lrn": "LRN", "multinomial_logistic_loss": "MultinomialLogisticLoss", "pool": "Pooling",
    "relu": "ReLU", "sigmoid": "Sigmoid", "softmax": "Softmax",
    "softmax_loss": "SoftmaxWithLoss", "split": "Split", "tanh": "TanH",
    "window_data": "WindowData",
}  # fmt: skip


def v0_type(name: str) -> str:
    """The V2 name of a V0 type; a name Caffe does not upgrade (``padding``) stays as it is."""
    return _V0.get(name, name)


def is_deeplab1(number: int) -> bool:
    """Whether only the DeepLab v1 fork numbers a type so."""
    return 0 <= number - _DEEPLAB1_FIRST < len(_DEEPLAB1)


def v1_type(number: int, *, has_blobs: bool, telling: AbstractSet[int], deeplab1: bool) -> str:
    """The V2 name of a V1 enum value.

    39 is decided by what the layer holds, then by what else the file holds.

    Args:
        number: the enum value.
        has_blobs: whether the layer holds blobs.
        telling: which of TELLING_FIELDS the layer holds.
        deeplab1: whether the file has a layer that only DeepLab v1 knows.
    Returns:
        The name, or ``V1:<number>`` if nothing decides.
    """
    if 0 <= number < len(_COMMON):
        return _COMMON[number]
    if is_deeplab1(number):
        return _DEEPLAB1[number - _DEEPLAB1_FIRST]
    if number == _AMBIGUOUS:
        if has_blobs or _CONVOLUTION_PARAM in telling:
            return "Deconvolution"
        if deeplab1 or _IMAGE_DATA_PARAM in telling:
            return "ImageSegData"
    return f"V1:{number}"
