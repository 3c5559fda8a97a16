"""Dialects: which fork's fields and defaults are meant, and fields that no schema has."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches

from caffe_port.errors import UsageError
from caffe_port.proto import caffe_pb2

_LONG_NAME = 64  # no field's name is as long; comparing names takes the square of their length

WITHOUT_EFFECT = {"engine"}  # options that choose how something is computed, not what

Plain = str | int | float | bool | dict[str, "list[Plain]"]


@dataclass(frozen=True)
class UnknownField:
    """A field that no dialect of the schema has, kept as plain Python values.

    Attributes:
        layer: name of the layer it is in, or '' outside of layers.
        field: its path inside the layer or the net, such as 'my_param' or 'pooling_param.my_flag'.
        value: a str, int, float or bool, or a dict of lists for a block.
        line: where it is; 0 in a binary file.
        nth: which of the layers of that name it is in, from 0: a TRAIN and a TEST layer often
            share one name.
        column: where it is in the line; 0 in a binary file.
        message: the schema's name of the message it is in, such as 'PoolingParameter'.
    """

    layer: str
    field: str
    value: Plain
    line: int
    nth: int = 0
    column: int = 0
    message: str = ""

    def __str__(self) -> str:
        line = f"line {self.line}: " if self.line else ""
        return f"{line}{self.described()}"

    def described(self) -> str:
        """The field without its line, and a similar field that may have been meant."""
        where = f"layer '{self.layer}'" if self.layer else "the net"
        meant = _meant(self.field.rpartition(".")[2], self.message)
        return f"{where}: unknown field '{self.field}'{meant}"


class UnknownWord(UnknownField):
    """An unknown word for an option that changes no result, such as `engine: MKL2017`."""

    def described(self) -> str:
        where = f"layer '{self.layer}'" if self.layer else "the net"
        return f"{where}: '{self.field}: {self.value}' is of another Caffe; it has no effect"


class RepeatedField(UnknownField):
    """A single field that is given more than once, as some fork's list: `device_id: [0, 1]`."""

    def described(self) -> str:
        return f"the net: '{self.field}' is given more than once; Caffe takes one"


@functools.lru_cache(1024)
def _meant(name: str, message: str) -> str:
    """A question for a name that is close to a field's."""
    known = field_names(message) if len(name) < _LONG_NAME else []
    close = get_close_matches(name, known, 1, 0.75)
    return f"; is '{close[0]}' meant?" if close else ""


def field_names(message: str) -> list[str]:
    """The fields of a message of the schema, by the message's name; none where it has no such."""
    kind = getattr(caffe_pb2, message, None)
    return [] if kind is None else list(kind.DESCRIPTOR.fields_by_name)


# Six dialects: 'bvlc' (Caffe 1.0), 'deeplab1' (DeepLab v1, V1 layers with `hole`), 'deeplab2',
# 'longjon' (longjon/caffe and its descendants: CRF-RNN, DeconvNet, U-Net), and two of these whose
# losses weigh classes: 'hed' (HED, DSS) and 'rcf'. A text that uses what only one fork has is that
# fork's; any other is BVLC's unless the caller or the environment variable CAFFE_PORT_DIALECT says
# otherwise.

DIALECTS = ("bvlc", "deeplab1", "deeplab2", "longjon", "hed", "rcf")
DERIVING = ("longjon", "hed", "rcf")  # a Crop without options follows from the layers before
BVLC_NUMBERS = ("bvlc", *DERIVING)  # fields of V2 layers have BVLC's numbers
ENVIRONMENT = "CAFFE_PORT_DIALECT"
OTHER_FORKS = 20001  # from here on fields that no dialect has a number for
FORK_NUMBERS = 10000  # fields of the forks have their number plus this, or more
V1_ONLY = FORK_NUMBERS + 1000  # from here on: options that only DeepLab v1's layers had
LAST_BVLC_V1_TYPE = 39  # DECONVOLUTION

V2_TYPES = {
    "AdaptiveBiasChannel", "BiasChannel", "DenseCRF", "DomainTransform", "ImageSegData", "Interp",
    "MatRead", "MatWrite", "SegAccuracy", "SpatialProduct", "UniqueLabel",
}  # fmt: skip
# RCF also has ImageLabelmapData; the first type that is there counts
_SHOWN_BY = {"AutoCrop": "rcf", "ImageLabelmapData": "hed", "MultiStageMeanfield": "longjon"}


def choose_dialect(message: caffe_pb2.NetParameter, dialect: str | None) -> str:
    """The dialect asked for, else the environment's, else the one the text shows.

    Args:
        message: as read, before any upgrade.
        dialect: one of ``DIALECTS``, or None.
    Raises:
        UsageError: no such dialect.
    """
    return settle_dialect(dialect, detect_dialect(message))


def settle_dialect(dialect: str | None, detected: str) -> str:
    """The dialect asked for, else the environment's, else the detected one.

    Raises:
        UsageError: no such dialect.
    """
    chosen = dialect or os.environ.get(ENVIRONMENT) or detected
    if chosen not in DIALECTS:
        raise UsageError(f"dialect is {chosen!r}; expected one of {', '.join(DIALECTS)}")
    return chosen


def detect_dialect(message: caffe_pb2.NetParameter) -> str:
    """The dialect that a net's own layers and fields show."""
    upgraded = (field.number for layer in message.layer for field, _ in layer.ListFields())
    if any(map(_is_v1_fork, message.layers)) or any(map(is_v1_only, upgraded)):
        return "deeplab1"
    if any(_is_longjons(layer.fork_layer) for layer in message.layers):
        return "longjon"
    # normalize is of DSS's own Caffe, which has BVLC's Crop and loss
    return dialect_of_types(
        {layer.type for layer in message.layer if not layer.image_data_param.HasField("normalize")}
    )


def dialect_of_types(types: Collection[str]) -> str:
    """The dialect that the types of V2 layers show."""
    for type, dialect in _SHOWN_BY.items():
        if type in types:
            return dialect
    return "bvlc" if V2_TYPES.isdisjoint(types) else "deeplab2"


def is_v1_only(number: int) -> bool:
    """Whether a field of our V2 layers is one that only DeepLab v1's layers had."""
    return V1_ONLY <= number < V1_ONLY + 1000


def _is_longjons(v1: caffe_pb2.LayerParameter) -> bool:
    """Whether a V1 layer is of a type of longjon/caffe, whose Crop had no options."""
    return v1.type == "MULTI_STAGE_MEANFIELD" or (
        v1.type == "CROP" and not v1.HasField("crop_param")
    )


def _is_v1_fork(layer: caffe_pb2.V1LayerParameter) -> bool:
    holes = ("hole", "hole_h", "hole_w")
    return (
        layer.type > LAST_BVLC_V1_TYPE
        or layer.HasField("strict_dim")
        or any(FORK_NUMBERS <= field.number < OTHER_FORKS for field, _ in layer.ListFields())
        or any(layer.convolution_param.HasField(hole) for hole in holes)
    )


# Fields that forks of Caffe added to BVLC's messages and that this package does not implement.
#
# Some cannot change a result: hints about speed, memory or devices. The others do, so that a net
# which sets one would run as another net. Source: the caffe.proto of NVIDIA/caffe, intel/caffe,
# weiliu89/caffe (SSD), hszhao/PSPNet, yjxiong/caffe, happynear/caffe-windows and Chrisding/seal.

INT8 = "quantization_param"  # how Intel's MKL-DNN engine rounds to int8; others compute in float
# message -> fields that change no result
_HARMLESS = {
    "BatchNormParameter": ("engine", "filler"),
    "ConcatParameter": ("engine",),
    "ConvolutionParameter": (
        "conv_algorithm", "conv_algos_override", "cudnn_convolution_algo_seeker",
    ),
    "DataParameter": ("cache", "parser_threads", "precache", "threads"),
    "DropoutParameter": ("engine",),
    "EltwiseParameter": ("engine",),
    "ImageDataParameter": ("cache", "precache", "threads"),
    "InnerProductParameter": ("engine",),
    "LayerParameter": (
        "backward_math", "backward_type", "cudnn_math_override", "debug", "engine", "forward_math",
        "forward_type", "mn_activation_param", "multinode", INT8,
    ),
    "NetParameter": (
        "compile_net_state", "default_backward_math", "default_backward_type",
        "default_conv_algos_override", "default_cudnn_math_override", "default_forward_math",
        "default_forward_type", "eltwise_mem_sharing", "engine", "global_grad_scale",
        "global_grad_scale_adaptive", "mem_param", "multinode", "reduce_buckets",
    ),
    "ReLUParameter": ("fuse",),
    "TransformationParameter": ("display", "forward_packing", "use_gpu_transform"),
}  # fmt: skip
# message -> field -> the value with which it changes nothing
_CHANGING: dict[str, dict[str, object]] = {
    "AccuracyParameter": {"min_is_better": False},
    "BatchNormParameter": {
        "bias_term": True, "disable_mean": False, "disable_variance": False, "relu": False,
        "use_weight_bias": True,
    },
    "ConvolutionParameter": {
        "dilation_h": 1, "dilation_w": 1, "fusion_type": None, "negative_slope": 0, "relu": False,
        "shape_offset": None,
    },
    "DataParameter": {"shuffle": False, "side": None},
    "DropoutParameter": {"random_seed": -1, "sqrt_scale": False},
    "ELUParameter": {"lambda": 1},
    "FillerParameter": {"alpha": None, "num_groups": None, "scale": 1},
    "ImageDataParameter": {
        "balance_by": 0, "balance_class": False, "dataset_share_per_node": 1,
        "edge_file_prefix_format": None, "face_mirror": False, "face_point_num": 0,
        "face_transform": False, "label_cut_end": 0, "label_cut_start": 0, "max_aspect_ratio": 0,
        "max_random_scale": 1, "max_random_shift": 0, "max_rotate_angle": 0, "max_shear_ratio": 0,
        "min_height": 0, "min_random_scale": 1, "min_width": 0, "num_edge_chn": 0,
        "num_label_chn": 1, "short_side": 0,
    },
    "InnerProductParameter": {"negative_slope": 0, "normalize": False, "relu": False},
    "LossParameter": {"label_smoothing": 0},
    "MemoryDataParameter": {"transpose": False},
    "NormalizeParameter": {"bp_norm": False, "fix_gradient": False, "normalize_type": "L2"},
    "ParameterParameter": {"blob_filler": None},
    "PoolingParameter": {
        "avg_include_pad": True, "axis": 1, "blobs_a_min": None, "blobs_lr": None,
        "kernel_size_3d": None, "pad_3d": 0, "stride_3d": None, "torch_pooling": False,
    },
    "ReductionParameter": {"k": 1},
    "ReshapeParameter": {"pixelshuffler": 1},
    "ScaleParameter": {"max_value": None, "min_value": None},
    "SoftmaxParameter": {
        "class_weight": None, "cutting_point": None, "hard_mining_label": None, "hard_ratio": 1,
        "label_smooth_factor": 0, "normalize_type": "Softmax",
    },
    "TransformationParameter": {
        "allow_upscale": False, "aspect_max": None, "aspect_min": None, "bgr2rgb": False,
        "center_crop": False,
        "erase_ratio": 0, "fix_crop": False,
        "flow": False, "horizontal_stretch_lower": 1, "horizontal_stretch_upper": 1,
        "img_rand_resize_lower": 0, "img_rand_resize_upper": 0, "interpolation_algo_down": None,
        "interpolation_algo_up": None, "is_flow": False, "max_distort": None,
        "more_fix_crop": False, "multi_scale": False, "num_labels": 0,
        "original_image": False, "pad": 0, "rand_resize_ratio_lower": 0,
        "rand_resize_ratio_upper": 0, "random_aspect_ratio_param": None,
        "random_resize_param": None, "random_seed": -1, "scale_max": None,
        "scale_min": None, "scale_ratios": None, "stride": 1, "upper_height": None,
        "upper_size": None, "upper_width": None, "vertical_stretch_lower": 1,
        "vertical_stretch_upper": 1,
    },
}  # fmt: skip
_ADVICE = {
    ("PoolingParameter", "torch_pooling"): "set round_mode: FLOOR if that is meant",
}


def is_harmless(field: UnknownField) -> bool:
    """Whether a fork's field is known to change no result, or has the value that changes none."""
    name = field.field.rpartition(".")[2]
    if isinstance(field, UnknownWord) or name in _HARMLESS.get(field.message, ()):
        return True
    fields = _CHANGING.get(field.message, {})
    return name in fields and fields[name] is not None and field.value == fields[name]


def why_refused(field: UnknownField) -> str | None:
    """Why a field that changes results in its fork is refused; None for any other field."""
    name = field.field.rpartition(".")[2]
    if name not in _CHANGING.get(field.message, ()) or is_harmless(field):
        return None
    advice = _ADVICE.get((field.message, name), "remove it if its effect is not wanted")
    return f"'{field.field}' is a fork's option that is not implemented: {advice}"
