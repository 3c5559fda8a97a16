"""A net as V1 text, which newer Caffes and the port upgrade when they read it."""

from __future__ import annotations

from caffe_port.proto import caffe_pb2
from caffe_port.proto.printer import print_text
from caffe_port.proto.upgrade import v1_type_name
from tools.differential.drafts import Draft

_V1 = caffe_pb2.V1LayerParameter
_DECONVOLUTION = 39  # the first number that means another type in DeepLab v1
V1_NUMBERS = {v1_type_name(number): number for number in range(_DECONVOLUTION)}


def as_v1(draft: Draft) -> str | None:
    """The net in V1, or None where a layer cannot be written in it."""
    net = caffe_pb2.NetParameter(name="net", force_backward=draft.force_backward)
    for layer in draft.layers:
        if layer.is_input:
            net.input.extend(layer.message.top)
            net.input_shape.add().CopyFrom(layer.message.input_param.shape[0])
        elif not _add(net, layer.message) or layer.extra:
            return None
    return print_text(net)


def _add(net: caffe_pb2.NetParameter, layer: caffe_pb2.LayerParameter) -> bool:
    if layer.type not in V1_NUMBERS:
        return False
    old = net.layers.add(
        name=layer.name, type=V1_NUMBERS[layer.type], bottom=layer.bottom, top=layer.top,
        loss_weight=layer.loss_weight,
    )  # fmt: skip
    for field, value in layer.ListFields():
        if field.message_type is None or field.name == "param":
            continue
        if field.name not in _V1.DESCRIPTOR.fields_by_name:
            return False
        getattr(old, field.name).CopyFrom(value)
    if layer.propagate_down:  # V1 has none
        return False
    for spec in layer.param:
        old.blobs_lr.append(spec.lr_mult)
        old.weight_decay.append(spec.decay_mult)
    if any(spec.name for spec in layer.param):
        old.param.extend(spec.name for spec in layer.param)
    return True
