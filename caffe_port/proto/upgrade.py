"""Upgrades of older generations to the present one, in BVLC's order.

V0 becomes V1 (see ``upgrade_v0``), V1 becomes V2, `input` fields become an Input layer, BatchNorm's
three `param` are frozen. A DeepLab `hole` becomes `dilation`, so that later code has one spelling.

Source: BVLC/caffe upgrade_proto.cpp, UpgradeNetAsNeeded.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message

from caffe_port.errors import FormatError
from caffe_port.proto import caffe_pb2
from caffe_port.proto.upgrade_v0 import V0_TYPES, upgrade_v0

# Types, also of forks' V1 text, whose V2 name is not the V1 name with each word capitalised.
_V1_NAMES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "BATCHNORM": "BatchNorm",
    "BN": "BN",
    "BNLL": "BNLL",
    "DENSE_CRF": "DenseCRF",
    "ELU": "ELU",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "IM2COL": "Im2col",
    "LRN": "LRN",
    "LSTM": "LSTM",
    "MVN": "MVN",
    "ONEHOT": "OneHot",
    "PRELU": "PReLU",
    "RELU": "ReLU",
    "RNN": "RNN",
    "ROI_POOLING": "ROIPooling",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPP": "SPP",
    "TANH": "TanH",
}
# V1 data layers that kept the transformation among their own options.
_TRANSFORMING = {
    "DATA": "data_param",
    "IMAGE_DATA": "image_data_param",
    "WINDOW_DATA": "window_data_param",
}
_V1_OWN = {
    "layer", "bottom", "top", "name", "include", "exclude", "type", "blobs", "param",
    "blob_share_mode", "blobs_lr", "weight_decay", "loss_weight", "strict_dim", "fork_layer",
}  # fmt: skip


def v1_type_name(number: int) -> str:
    """The V2 type name of a V1 `type`, such as 'SoftmaxWithLoss' for SOFTMAX_LOSS."""
    return _v2_name(caffe_pb2.V1LayerParameter.LayerType.Name(number))


def v0_type_name(name: str) -> str:
    """The V2 name of a V0 type; one that Caffe does not upgrade (``padding``) stays as it is."""
    return _v2_name(V0_TYPES[name]) if name in V0_TYPES else name


def _v2_name(word: str) -> str:
    return _V1_NAMES.get(word, "".join(part.capitalize() for part in word.split("_")))


def upgrade_net(
    message: caffe_pb2.NetParameter, path: str | None = None, dialect: str = "bvlc"
) -> str:
    """Brings a net to the present generation, in place.

    Args:
        message: the net.
        path: named in errors.
        dialect: 'deeplab1' also spells out what that fork did by default.
    Returns:
        The generation it was: 'V0', 'V1' or 'V2'.
    Raises:
        FormatError: `layer` and `layers` in one file, V0 layers that cannot be upgraded (see
            ``upgrade_v0``), or input fields that do not fit together.
    """
    if message.layer and message.layers:
        raise FormatError(
            "both 'layer' and 'layers' blocks (two generations) in one file; "
            "write all layers as 'layer'",
            path=path,
        )
    generation = "V1" if message.layers else "V2"
    if any(layer.HasField("layer") for layer in message.layers):
        upgrade_v0(message, path)
        generation = "V0"
    for old in message.layers:
        _upgrade_transform(old)
        _upgrade_v1_layer(old, message.layer.add(), path)
    del message.layers[:]
    for layer in message.layer:
        _hole_to_dilation(layer, path)
        if dialect == "deeplab1":
            _spell_out_v1(layer)
    _upgrade_inputs(message, path)
    _upgrade_batch_norm(message)
    return generation


def _upgrade_transform(old: caffe_pb2.V1LayerParameter) -> None:
    """Moves scale, mean_file, crop_size and mirror into transform_param."""
    options = _TRANSFORMING.get(caffe_pb2.V1LayerParameter.LayerType.Name(old.type))
    if options is None or not old.HasField(options):
        return
    source: Message = getattr(old, options)
    for field in ("scale", "mean_file", "crop_size", "mirror"):
        if source.HasField(field):
            setattr(old.transform_param, field, getattr(source, field))
            source.ClearField(field)


def _upgrade_v1_layer(
    old: caffe_pb2.V1LayerParameter, new: caffe_pb2.LayerParameter, path: str | None
) -> None:
    new.bottom.extend(old.bottom)
    new.top.extend(old.top)
    if old.HasField("name"):
        new.name = old.name
    new.include.MergeFrom(old.include)
    new.exclude.MergeFrom(old.exclude)
    if old.HasField("strict_dim"):
        new.strict_dim = old.strict_dim
    if old.HasField("type"):
        new.type = v1_type_name(old.type)
    if old.HasField("fork_layer"):
        new.MergeFrom(old.fork_layer)
        if old.fork_layer.HasField("type"):
            new.type = _v2_name(old.fork_layer.type)
    new.blobs.MergeFrom(old.blobs)
    new.loss_weight.extend(old.loss_weight)
    _upgrade_params(old, new)
    for field, value in old.ListFields():
        if field.name not in _V1_OWN:
            getattr(new, field.name).CopyFrom(value)


def _upgrade_params(old: caffe_pb2.V1LayerParameter, new: caffe_pb2.LayerParameter) -> None:
    """The four parallel lists of V1 become one list of ParamSpec."""
    lists: dict[str, Sequence[object]] = {
        "name": old.param,
        "share_mode": old.blob_share_mode,
        "lr_mult": old.blobs_lr,
        "decay_mult": old.weight_decay,
    }
    for field, values in lists.items():
        for i, value in enumerate(values):
            while len(new.param) <= i:
                new.param.add()
            setattr(new.param[i], field, value)


def _hole_to_dilation(layer: caffe_pb2.LayerParameter, path: str | None) -> None:
    options = layer.convolution_param
    both = options.HasField("hole_h") or options.HasField("hole_w")
    if not (both or options.HasField("hole")):
        return
    if len(options.dilation) or (both and options.HasField("hole")):
        message = "'hole', 'hole_h' with 'hole_w', and 'dilation' exclude one another"
        raise FormatError(f"layer '{layer.name}' ({layer.type}): {message}", path=path)
    options.dilation.extend([options.hole_h, options.hole_w] if both else [options.hole])
    for field in ("hole", "hole_h", "hole_w"):
        options.ClearField(field)


def _spell_out_v1(layer: caffe_pb2.LayerParameter) -> None:
    """DeepLab v1: the loss has its own options, ArgMax searches the channels."""
    if layer.type == "SoftmaxWithLoss":
        layer.softmaxloss_param.SetInParent()
    if layer.type == "ArgMax" and not layer.argmax_param.HasField("axis"):
        layer.argmax_param.axis = 1


def _upgrade_inputs(message: caffe_pb2.NetParameter, path: str | None) -> None:
    """All `input`s become the tops of one Input layer placed first; without shapes they go."""
    count, shapes, dims = len(message.input), len(message.input_shape), len(message.input_dim)
    if count and (shapes or dims):
        if (shapes and shapes != count) or (not shapes and dims != 4 * count):
            found = f"{shapes} input_shape" if shapes else f"{dims} input_dim"
            expected = f"{count} input_shape, or {4 * count} input_dim"
            raise FormatError(f"{count} input with {found}; expected {expected}", path=path)
        rest = list(message.layer)
        del message.layer[:]
        layer = message.layer.add(name="input", type="Input", top=message.input)
        for i in range(count):
            shape = layer.input_param.shape.add()
            dim = message.input_shape[i].dim if shapes else message.input_dim[4 * i : 4 * i + 4]
            shape.dim.extend(dim)
        message.layer.extend(rest)
    for field in ("input", "input_shape", "input_dim"):
        message.ClearField(field)


def _upgrade_batch_norm(message: caffe_pb2.NetParameter) -> None:
    """BatchNorm's statistics are not learned: three declared `param` get rate and decay 0."""
    for layer in message.layer:
        if layer.type == "BatchNorm" and len(layer.param) == 3:
            for param in layer.param:
                param.lr_mult = param.decay_mult = 0


def upgrade_solver(
    message: caffe_pb2.SolverParameter, path: str | None = None
) -> caffe_pb2.SolverParameter:
    """Turns the old `solver_type` number into the `type` name, in place.

    Raises:
        FormatError: both are given.
    """
    if message.HasField("solver_type"):
        if message.HasField("type"):
            raise FormatError("both 'solver_type' and 'type'; keep 'type' only", path=path)
        names = ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"]
        message.type = names[message.solver_type]
        message.ClearField("solver_type")
    return message
