"""Upgrades of older generations to the present one, in BVLC's order."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from google.protobuf.message import Message

from caffe_port.errors import FormatError, UnknownFieldWarning
from caffe_port.proto import caffe_pb2

# Upgrade of the oldest generation: V0 layers become V1 layers; padding layers are folded.
#
# Source: BVLC/caffe upgrade_proto.cpp, UpgradeV0PaddingLayers and UpgradeV0LayerParameter.

_PADDING = "padding"
V0_TYPES = {
    "accuracy": "ACCURACY", "bnll": "BNLL", "concat": "CONCAT", "conv": "CONVOLUTION",
    "data": "DATA", "dropout": "DROPOUT", "euclidean_loss": "EUCLIDEAN_LOSS",
    "flatten": "FLATTEN", "hdf5_data": "HDF5_DATA", "hdf5_output": "HDF5_OUTPUT",
    "im2col": "IM2COL", "images": "IMAGE_DATA", "infogain_loss": "INFOGAIN_LOSS",
    "innerproduct": "INNER_PRODUCT", "lrn": "LRN",
    "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS", "pool": "POOLING", "relu": "RELU",
    "sigmoid": "SIGMOID", "softmax": "SOFTMAX", "softmax_loss": "SOFTMAX_LOSS", "split": "SPLIT",
    "tanh": "TANH", "window_data": "WINDOW_DATA",
}  # fmt: skip
_OPTIONS = {
    "concat": "concat_param", "conv": "convolution_param", "data": "data_param",
    "dropout": "dropout_param", "hdf5_data": "hdf5_data_param", "images": "image_data_param",
    "infogain_loss": "infogain_loss_param", "innerproduct": "inner_product_param",
    "lrn": "lrn_param", "pool": "pooling_param", "window_data": "window_data_param",
}  # fmt: skip
# V0 field: its name today, and the types whose options it went to.
_FIELDS = {
    "num_output": ("num_output", ("conv", "innerproduct")),
    "biasterm": ("bias_term", ("conv", "innerproduct")),
    "weight_filler": ("weight_filler", ("conv", "innerproduct")),
    "bias_filler": ("bias_filler", ("conv", "innerproduct")),
    "pad": ("pad", ("conv", "pool")),
    "kernelsize": ("kernel_size", ("conv", "pool")),
    "group": ("group", ("conv",)),
    "stride": ("stride", ("conv", "pool")),
    "pool": ("pool", ("pool",)),
    "dropout_ratio": ("dropout_ratio", ("dropout",)),
    "local_size": ("local_size", ("lrn",)),
    "alpha": ("alpha", ("lrn",)),
    "beta": ("beta", ("lrn",)),
    "k": ("k", ("lrn",)),
    "source": ("source", ("data", "hdf5_data", "images", "window_data", "infogain_loss")),
    "batchsize": ("batch_size", ("data", "hdf5_data", "images", "window_data")),
    "rand_skip": ("rand_skip", ("data", "images")),
    "shuffle_images": ("shuffle", ("images",)),
    "new_height": ("new_height", ("images",)),
    "new_width": ("new_width", ("images",)),
    "concat_dim": ("concat_dim", ("concat",)),
    "det_fg_threshold": ("fg_threshold", ("window_data",)),
    "det_bg_threshold": ("bg_threshold", ("window_data",)),
    "det_fg_fraction": ("fg_fraction", ("window_data",)),
    "det_context_pad": ("context_pad", ("window_data",)),
    "det_crop_mode": ("crop_mode", ("window_data",)),
}
_TRANSFORM = {
    "scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"
}  # fmt: skip
_TYPES_WITH: dict[str, tuple[str, ...]] = {
    **{field: types for field, (_, types) in _FIELDS.items()},
    "hdf5_output_param": ("hdf5_output",),
    "new_num": (),  # of a reshaping layer that Caffe never upgraded
    "new_channels": (),
}


def upgrade_v0(message: caffe_pb2.NetParameter, path: str | None = None) -> None:
    """Turns a net of V0 layers into one of V1 layers, in place.

    Args:
        message: a net whose `layers` hold a V0 `layer` each.
        path: named in errors.
    Raises:
        FormatError: a type Caffe never upgraded, a padding layer before anything but one
            convolution or pooling, or V0 and V1 mixed.
    Warns:
        UnknownFieldWarning: a field that its layer's type does not have is left out, as in Caffe.
    """
    try:
        old = _fold_padding(message)
        for layer in old:
            _drop_misplaced(layer, path)
        upgraded = [_upgrade_layer(layer) for layer in old]
    except ValueError as error:
        raise FormatError(str(error), path=path) from error
    del message.layers[:]
    message.layers.extend(upgraded)


def _where(layer: caffe_pb2.V1LayerParameter) -> str:
    return f"layer '{layer.layer.name}' ({layer.layer.type})"


def _fold_padding(message: caffe_pb2.NetParameter) -> list[caffe_pb2.V1LayerParameter]:
    """The layers without padding ones, whose pad went to the layers that read them."""
    kept = []
    makers: dict[str, caffe_pb2.V1LayerParameter | None] = dict.fromkeys(message.input)
    for original in message.layers:
        if not original.HasField("layer"):
            raise ValueError(f"layer '{original.name}' is V1 in a file of V0 layers")
        layer = caffe_pb2.V1LayerParameter()
        layer.CopyFrom(original)
        for i, blob in enumerate(layer.bottom):
            if blob not in makers:
                raise ValueError(
                    f"{_where(layer)}: bottom '{blob}' is neither an input nor an earlier top"
                )
            maker = makers[blob]
            if maker is not None and maker.layer.type == _PADDING:
                _check_padding(maker, layer)
                layer.layer.pad = maker.layer.pad
                layer.bottom[i] = maker.bottom[0]
        makers.update(dict.fromkeys(original.top, original))
        if layer.layer.type != _PADDING:
            kept.append(layer)
    return kept


def _check_padding(padding: caffe_pb2.V1LayerParameter, reader: caffe_pb2.V1LayerParameter) -> None:
    if reader.layer.type not in ("conv", "pool") or len(reader.bottom) != 1:
        raise ValueError(
            f"{_where(reader)} reads the {_where(padding)}; only a conv or pool with one bottom may"
        )
    if len(padding.bottom) != 1 or len(padding.top) != 1:
        raise ValueError(f"{_where(padding)} takes one bottom and one top")


def _upgrade_layer(old: caffe_pb2.V1LayerParameter) -> caffe_pb2.V1LayerParameter:
    source = old.layer
    new = caffe_pb2.V1LayerParameter(bottom=old.bottom, top=old.top)
    new.blobs.extend(source.blobs)
    new.blobs_lr.extend(source.blobs_lr)
    new.weight_decay.extend(source.weight_decay)
    if source.HasField("name"):
        new.name = source.name
    if source.HasField("type"):
        if source.type not in V0_TYPES:
            known = ", ".join((*sorted(V0_TYPES), _PADDING))
            raise ValueError(f"{_where(old)}: unknown V0 type; known are {known}")
        new.MergeFrom(caffe_pb2.V1LayerParameter(type=V0_TYPES[source.type]))
    for field, value in source.ListFields():
        if field.name in _TRANSFORM:
            setattr(new.transform_param, _TRANSFORM[field.name], value)
        elif field.name in _FIELDS:
            _put(getattr(new, _OPTIONS[source.type]), _FIELDS[field.name][0], value)
        elif field.name == "hdf5_output_param":
            new.hdf5_output_param.CopyFrom(value)
    return new


def _drop_misplaced(layer: caffe_pb2.V1LayerParameter, path: str | None) -> None:
    """Removes the fields that the layer's type does not have, with a warning, as Caffe does."""
    type = layer.layer.type
    for field, _ in layer.layer.ListFields():
        types = _TYPES_WITH.get(field.name, (type,))
        if type in V0_TYPES and type not in types:
            belongs = " or ".join(types) or "no type that Caffe upgrades"
            where = f"{path}: {_where(layer)}" if path else _where(layer)
            message = f"{where}: '{field.name}' belongs to {belongs}; it is left out, as in Caffe"
            warnings.warn(message, UnknownFieldWarning, stacklevel=2)
            layer.layer.ClearField(field.name)


def _put(options: Message, name: str, value: object) -> None:
    """Sets a field that may have become repeated (a convolution's pad, kernel_size, stride)."""
    if isinstance(value, Message):
        getattr(options, name).CopyFrom(value)
    elif name in ("pad", "kernel_size", "stride") and options.DESCRIPTOR.name.startswith("Conv"):
        getattr(options, name).append(value)
    else:
        setattr(options, name, value)


# Upgrades of older generations to the present one, in BVLC's order.
#
# V0 becomes V1 (see ``upgrade_v0``), V1 becomes V2, `input` fields become an Input layer,
# BatchNorm's three `param` are frozen. A DeepLab `hole` becomes `dilation`, so that later code has
# one spelling.
#
# Source: BVLC/caffe upgrade_proto.cpp, UpgradeNetAsNeeded.

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
        dialect: 'deeplab1' also spells out what that fork did by default; it had no V2 layers.
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
        if dialect == "deeplab1" and generation != "V2":
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
