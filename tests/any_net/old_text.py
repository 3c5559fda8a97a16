"""A net of today's fields, written as Caffe wrote it before 2014: V1, where it can say it."""

from __future__ import annotations

from caffe_port.proto import caffe_pb2
from caffe_port.proto.upgrade import v1_type_name

_TYPES = {
    v1_type_name(number): number
    for number in caffe_pb2.V1LayerParameter.LayerType.values()
    if number
}
_DEEPLAB1 = 10000  # types from here on show DeepLab v1, whose ArgMax and losses are others
_OTHERWISE = {"SoftmaxWithLoss", "ArgMax"}
_COMMON = {"name", "bottom", "top", "loss_weight", "include", "exclude"}


def as_v1(message: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter | None:
    """The net with `layers` and `input`; None where V1 has no word for a layer or an option."""
    old = caffe_pb2.NetParameter()
    types = {layer.type for layer in message.layer}
    if types - {"Input"} - _TYPES.keys():
        return None
    if types & _OTHERWISE and any(_TYPES.get(name, 0) > _DEEPLAB1 for name in types):
        return None
    for layer in message.layer:
        if layer.type == "Input":
            old.input.extend(layer.top)
            old.input_shape.extend(layer.input_param.shape)
        elif not _add(old.layers.add(), layer):
            return None
    return old


def _add(old: caffe_pb2.V1LayerParameter, layer: caffe_pb2.LayerParameter) -> bool:
    """Writes one layer; False where an option has no field."""
    old.type = _TYPES[layer.type]
    for field, value in layer.ListFields():
        if field.name == "type":
            continue
        if field.name == "param":
            for param in value:
                old.param.append(param.name)
                old.blobs_lr.append(param.lr_mult)
                old.weight_decay.append(param.decay_mult)
        elif field.name not in old.DESCRIPTOR.fields_by_name:
            return False
        elif field.name in _COMMON - {"name"}:
            getattr(old, field.name).extend(value)
        elif field.name == "name":
            old.name = value
        else:
            getattr(old, field.name).CopyFrom(value)
    return True
