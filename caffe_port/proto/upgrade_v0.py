"""Upgrade of the oldest generation: V0 layers become V1 layers; padding layers are folded.

Source: BVLC/caffe upgrade_proto.cpp, UpgradeV0PaddingLayers and UpgradeV0LayerParameter.
"""

from __future__ import annotations

import warnings

from google.protobuf.message import Message

from caffe_port.errors import FormatError, UnknownFieldWarning
from caffe_port.proto import caffe_pb2

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
