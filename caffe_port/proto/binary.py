"""The layers' options in binary caffemodels of any dialect, without their blobs.

A caffemodel embeds whole layers, and the forks gave the same numbers to different fields. The
dialect is told from the layers themselves, each field is renumbered to our schema's, and the blobs
are stepped over where they lie in the mapped file.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from caffe_port.errors import FormatError
from caffe_port.proto import NetText, UnknownField, caffe_pb2, wire
from caffe_port.proto.binary_tables import (
    dialect_of_layer,
    fields_by_wire_number,
    is_v1_only,
    v1_type,
    wire_number,
)
from caffe_port.proto.dialects import V2_TYPES, settle_dialect
from caffe_port.proto.printer import print_text
from caffe_port.proto.text import is_repeated
from caffe_port.proto.upgrade import upgrade_net

# Far above any net's options; below what would make a file of empty fields eat the memory.
MAX_OPTION_BYTES = 8 * 2**20
MAX_OPTIONS = 100_000
MAX_UNKNOWN = 100

MAX_LAYERS = 65536

_V1_LAYERS, _LAYER = 2, 100  # of a NetParameter
_V1_NAME, _V1_TYPE, _V1_CONVOLUTION, _V1_IMAGE_DATA = 4, 5, 10, 15
_V1_FORK_FIELDS = {*range(43, 60), 1003}
_V1_FORK_TYPES = range(40, 57)
_V1_IMAGE_SEG_DATA = 39
_V2_NAME, _V2_TYPE = 1, 2
_WIRE_TYPES = {
    FieldDescriptor.TYPE_MESSAGE: wire.BYTES,
    FieldDescriptor.TYPE_STRING: wire.BYTES,
    FieldDescriptor.TYPE_BYTES: wire.BYTES,
    FieldDescriptor.TYPE_FLOAT: wire.FIXED32,
    FieldDescriptor.TYPE_DOUBLE: wire.FIXED64,
}
_HOLE, _HOLE_W = 17, 19  # of DeepLab v1's convolution; BVLC's 17 came after the last V1 file


def read_net_binary(path: str | os.PathLike[str], dialect: str | None = None) -> NetText:
    """Reads the net that a binary .caffemodel embeds, upgraded and without blobs.

    Args:
        path: a .caffemodel of any generation.
        dialect: one of ``DIALECTS``; None looks at the layers.
    Returns:
        The net; its ``text`` is the upgraded message printed, its ``unknown`` the fields whose
        numbers the dialect does not have, by number.
    Raises:
        FormatError: broken encoding, or fields that do not fit the dialect, with byte offset.
        OSError: it cannot be opened.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode) or not os.stat(path).st_size:
            raise FormatError("empty, or not a regular file")
        with (
            open(path, "rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as view,
        ):
            return _parse(view, dialect, os.fspath(path))
    except FormatError as error:
        raise FormatError(error.message, path=path, offset=error.offset) from error


def encode_layer(layer: Message) -> bytes:
    """A V2 layer as Caffe's file holds it: a fork's options have the fork's own numbers."""
    encoded = layer.SerializeToString(deterministic=True)
    pieces = []
    for item in wire.fields(memoryview(encoded)):
        number, whole = wire_number(item.number), encoded[item.offset : item.next]
        if number != item.number:
            whole = wire.encode_bytes(number, encoded[item.start : item.end])
        pieces.append((number, whole))
    pieces.sort(key=lambda piece: piece[0])
    return b"".join(whole for _, whole in pieces)


@dataclass
class _Layer:
    """What tells a layer's dialect."""

    name: str = ""
    type: str = ""
    v1_type: int = 0
    image_data: bool = False
    deeplab1: bool = False


def _parse(view: memoryview, dialect: str | None, path: str) -> NetText:
    layers = _scan(view)
    translator = _Translator(view, layers, settle_dialect(dialect, _detect(layers)))
    net = cast("Descriptor", caffe_pb2.NetParameter.DESCRIPTOR)  # upb's own has the same face
    encoded = translator.message(0, len(view), net, "")
    message = caffe_pb2.NetParameter()
    try:
        message.ParseFromString(bytes(encoded))
    except DecodeError as error:
        raise FormatError(f"protobuf cannot read its layers: {error}") from error
    generation = upgrade_net(message, path, translator.dialect)
    unknown = tuple(translator.unknown.values())
    return NetText(message, unknown, print_text(message), generation, translator.dialect, path)


def _scan(view: memoryview) -> dict[int, _Layer]:
    """The layers by the offset of their field."""
    found: dict[int, _Layer] = {}
    budget = wire.Budget()
    for item in wire.fields(view, budget=budget):
        if item.number in (_V1_LAYERS, _LAYER):
            wire.expect(item, wire.BYTES, "layer")
            if len(found) >= MAX_LAYERS:
                raise FormatError(f"over {MAX_LAYERS} layers", offset=item.offset)
            scan = _scan_v2 if item.number == _LAYER else _scan_v1
            found[item.start] = scan(view, item, budget)
    if not found:
        raise FormatError("no layers; a caffemodel has at least one")
    return found


def _scan_v2(view: memoryview, layer: wire.Field, budget: wire.Budget) -> _Layer:
    found = _Layer()
    for item in wire.fields(view, layer.start, layer.end, budget):
        if item.number == _V2_NAME:
            found.name = _text(view, item)
        elif item.number == _V2_TYPE:
            found.type = _text(view, item)
        elif is_v1_only(item.number):
            found.deeplab1 = True
    return found


def _scan_v1(view: memoryview, layer: wire.Field, budget: wire.Budget) -> _Layer:
    found = _Layer()
    for item in wire.fields(view, layer.start, layer.end, budget):
        if item.number == _V1_NAME:
            found.name = _text(view, item)
        elif item.number == _V1_TYPE:
            found.v1_type = item.value
        elif item.number == _V1_IMAGE_DATA:
            found.image_data = True
        elif item.number == _V1_CONVOLUTION and item.wire_type == wire.BYTES:
            options = wire.fields(view, item.start, item.end, budget)
            found.deeplab1 |= any(option.number in (_HOLE, _HOLE_W) for option in options)
        elif item.number in _V1_FORK_FIELDS:
            found.deeplab1 = True
    found.deeplab1 |= found.v1_type in _V1_FORK_TYPES
    found.deeplab1 |= found.v1_type == _V1_IMAGE_SEG_DATA and found.image_data
    return found


def _detect(layers: Mapping[int, _Layer]) -> str:
    if any(layer.deeplab1 for layer in layers.values()):
        return "deeplab1"
    return "deeplab2" if any(layer.type in V2_TYPES for layer in layers.values()) else "bvlc"


def _text(view: memoryview, item: wire.Field) -> str:
    wire.expect(item, wire.BYTES, "a string")
    # Caffe takes names in any encoding; escaping keeps them printable and distinct.
    return bytes(view[item.start : item.end]).decode(errors="backslashreplace")


class _Translator:
    """Copies a NetParameter under our schema's numbers, without blobs and unknown fields."""

    def __init__(self, view: memoryview, layers: Mapping[int, _Layer], dialect: str) -> None:
        self.view, self.layers, self.dialect = view, layers, dialect
        self.size, self.budget = 0, wire.Budget(MAX_OPTIONS)
        self.unknown: dict[tuple[str, str, int], UnknownField] = {}

    def message(self, start: int, end: int, descriptor: Descriptor, layer: str) -> bytearray:
        dialect = self.dialect
        if descriptor.name in ("LayerParameter", "V1LayerParameter"):
            layer = self.layers[start].name
            dialect = dialect_of_layer(self.layers[start].type, dialect)
        table = fields_by_wire_number(descriptor, dialect)
        copy = bytearray()
        for item in wire.fields(self.view, start, end, self.budget):
            target = table.get(item.number)
            if target is None:
                self.note(item, descriptor.name, layer)
            elif target.message_type is None or target.message_type.name != "BlobProto":
                copy += self.field(item, target, layer)
        return copy

    def field(self, item: wire.Field, target: FieldDescriptor, layer: str) -> bytes:
        self.size += 2 + (0 if target.message_type is not None else item.end - item.start)
        if self.size > MAX_OPTION_BYTES:
            message = f"over {MAX_OPTION_BYTES} bytes of options besides the blobs"
            raise FormatError(message, offset=item.offset)
        _expect(item, target, layer)
        if target.message_type is not None:
            inner = self.message(item.start, item.end, target.message_type, layer)
            return wire.encode_bytes(target.number, bytes(inner))
        if target.type == FieldDescriptor.TYPE_STRING:
            return wire.encode_bytes(target.number, _text(self.view, item).encode())
        if target.enum_type is not None and target.enum_type.name == "LayerType":
            try:
                return wire.encode_int(target.number, v1_type(item.value, self.dialect))
            except FormatError as error:
                raise FormatError(
                    f"layer '{layer}': {error.message}", offset=item.offset
                ) from error
        payload = bytes(self.view[item.start : item.end])
        if item.wire_type == wire.BYTES:
            return wire.encode_bytes(target.number, payload)
        return wire.encode_varint(target.number << 3 | item.wire_type) + payload

    def note(self, item: wire.Field, where: str, layer: str) -> None:
        """Remembers a field that the dialect does not have, once a layer."""
        key = (layer, where, item.number)
        if len(self.unknown) < MAX_UNKNOWN and key not in self.unknown:
            name = f"{where} number {item.number}"
            self.unknown[key] = UnknownField(layer, name, item.value, 0)


def _expect(item: wire.Field, target: FieldDescriptor, layer: str) -> None:
    """Refuses an encoding that the field cannot have, which another dialect's field may."""
    wanted = _WIRE_TYPES.get(target.type, wire.VARINT)
    packed = item.wire_type == wire.BYTES and is_repeated(target)
    if item.wire_type != wanted and not (packed and wanted != wire.BYTES):
        raise FormatError(
            f"layer '{layer}': field {item.number} is {wire.WIRE_TYPE_NAMES[item.wire_type]}, but "
            f"'{target.name}' is {wire.WIRE_TYPE_NAMES[wanted]}; is it of another dialect?",
            offset=item.offset,
        )
