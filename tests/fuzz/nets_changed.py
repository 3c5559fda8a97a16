"""Changes to a net as a message: what byte changes to its text seldom make."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from caffe_port.errors import CaffePortError
from caffe_port.proto import caffe_pb2
from caffe_port.proto.printer import print_text
from caffe_port.proto.text import is_repeated, parse_text
from caffe_port.spec.ops import known_types
from tests.fuzz.structured import Change

_INTEGERS = (0, 1, 1, 2, 2, 3, 4, 5, 7, -1, -2, 255, 2**31 - 1)
_NUMBERS = (0.0, 1.0, 0.5, -1.0, 2.0, 1e-6, 1e38, -1e38, float("nan"), float("inf"))
_RUNS_CODE = ("Python", "Input")  # Input is there already


def text(data: bytes, chance: random.Random, change: Change) -> bytes:
    """Some places of a net in text; of what is no net, its bytes."""
    net = parsed(data)
    if net is None:
        return change(data)
    for _ in range(chance.choice((1, 1, 2, 3))):
        _change_net(net, chance)
    return print_text(net).encode("utf-8", errors="surrogateescape")


def binary(data: bytes, chance: random.Random, change: Change) -> bytes:
    """The same of a net in binary."""
    net = caffe_pb2.NetParameter()
    try:
        net.MergeFromString(data)
        _change_net(net, chance)
        return bytes(net.SerializePartialToString())
    except (DecodeError, ValueError):
        return change(data)


def parsed(data: bytes) -> caffe_pb2.NetParameter | None:
    """The net of a text, if it is one."""
    try:
        found = parse_text(data.decode("utf-8", "surrogateescape"), caffe_pb2.NetParameter())
    except CaffePortError:
        return None
    return found[0]


def _change_net(net: caffe_pb2.NetParameter, chance: random.Random) -> None:
    layers = net.layer if net.layer or not net.layers else net.layers
    match chance.randrange(6) if layers else 5:
        case 0:  # another net's layer, reading a blob of this one
            donor = chance.choice(_donors())
            if type(donor) is type(layers[0]):
                added = layers.add()
                added.CopyFrom(donor)
                _connect(net, added, chance)
        case 1:
            del layers[chance.randrange(len(layers))]
        case 2:
            _connect(net, chance.choice(layers), chance)
        case 3 if net.layer:
            chance.choice(net.layer).type = chance.choice(
                [name for name in known_types() if name not in _RUNS_CODE]
            )
        case 4:
            layers.add().CopyFrom(chance.choice(layers))
        case _:
            _set(chance.choice([net, *_inside(net)]), net, chance)


@cache
def _donors() -> list[Any]:
    """A layer of each type from the seeds, the shortest."""
    from tests.fuzz.nets import prototxts

    shortest: dict[tuple[type[Message], Any], Any] = {}
    for data in prototxts():
        net = parsed(data)
        for layer in [*net.layer, *net.layers] if net else []:
            key = (type(layer), layer.type)
            if key not in shortest or layer.ByteSize() < shortest[key].ByteSize():
                shortest[key] = layer
    return [shortest[key] for key in sorted(shortest, key=str)]


def _connect(net: caffe_pb2.NetParameter, layer: Any, chance: random.Random) -> None:
    """Makes a layer read blobs of the net; at times it writes in place, or into new ones."""
    tops = [top for x in [*net.layer, *net.layers] for top in x.top] + list(net.input)
    for i in range(len(layer.bottom)):
        layer.bottom[i] = chance.choice(tops or ["data"])
    for i in range(len(layer.top)):
        in_place = i < len(layer.bottom) and chance.random() < 0.2
        layer.top[i] = layer.bottom[i] if in_place else f"new{chance.randrange(1000)}"


def _inside(message: Message) -> Iterator[Message]:
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in [value] if isinstance(value, Message) else value:
                yield inner
                yield from _inside(inner)


def _set(message: Any, net: caffe_pb2.NetParameter, chance: random.Random) -> None:
    """Sets, lengthens or clears one field of a message."""
    field = chance.choice(message.DESCRIPTOR.fields)
    many = is_repeated(field)
    if chance.random() < 0.2:
        message.ClearField(field.name)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        inner = getattr(message, field.name)
        _set(inner.add() if many else inner, net, chance)
    else:
        value = _value(field, net, chance)
        if not many:
            setattr(message, field.name, value)
        elif (held := getattr(message, field.name)) and chance.random() < 0.6:
            held[chance.randrange(len(held))] = value
        else:
            held.append(value)


def _value(field: FieldDescriptor, net: caffe_pb2.NetParameter, chance: random.Random) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        names = [top for x in [*net.layer, *net.layers] for top in x.top] or ["data"]
        text = chance.choice([*names, "", "x", "xavier", "msra", "bilinear", "constant"])
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return chance.choice(list(field.enum_type.values_by_number))
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return chance.choice(_NUMBERS)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return chance.random() < 0.5
    value = chance.choice(_INTEGERS)
    unsigned = (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)
    return abs(value) if kind in unsigned else value
