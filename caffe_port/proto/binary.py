"""Nets in binary caffemodels of any dialect, with or without their blobs.

A caffemodel embeds whole layers, and the forks gave the same numbers to different fields. The
dialect follows from the layers themselves, and each field is renumbered to our schema's
(``renumber``).
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Mapping
from typing import cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from caffe_port.errors import FormatError
from caffe_port.files import AnyFile, OpenFile, name_of
from caffe_port.proto import NetText, caffe_pb2, wire
from caffe_port.proto.dialects import BVLC_NUMBERS, dialect_of_types, is_v1_only, settle_dialect
from caffe_port.proto.printer import print_text
from caffe_port.proto.renumber import (
    LayerMark,
    Renumbering,
    has_own_numbers,
    text,
    wire_number,
)
from caffe_port.proto.upgrade import upgrade_net

MAX_LAYERS = 65536

_V1_LAYERS, _LAYER = 2, 100  # of a NetParameter
_V1_NAME, _V1_TYPE, _V1_CONVOLUTION, _V1_IMAGE_DATA = 4, 5, 10, 15
_V1_FORK_FIELDS = {*range(43, 60), 1003}
_V1_FORK_TYPES = range(40, 57)
_V1_IMAGE_SEG_DATA = 39
_V2_NAME, _V2_TYPE = 1, 2
# the generated method; pycaffe replaces it by one that renumbers once more
_parse_as_it_is = caffe_pb2.NetParameter.ParseFromString
_HOLE, _HOLE_W = 17, 19  # of DeepLab v1's convolution; BVLC's 17 came after the last V1 file


def read_net_binary(file: AnyFile, dialect: str | None = None) -> NetText:
    """Reads the net that a binary .caffemodel embeds, upgraded and without blobs.

    Args:
        file: a .caffemodel of any generation; its name, or the open file.
        dialect: one of ``DIALECTS``; None looks at the layers.
    Returns:
        The net; its ``text`` is the upgraded message printed, its ``unknown`` the fields whose
        numbers the dialect does not have, by number.
    Raises:
        FormatError: broken encoding, or fields that do not fit the dialect, with byte offset.
        OSError: it cannot be opened.
    """
    path = name_of(file)
    try:
        if not isinstance(file, OpenFile):
            if not stat.S_ISREG(os.stat(file).st_mode):
                raise FormatError("empty, or not a regular file")
            file = OpenFile(file)
        if not file.size:
            raise FormatError("empty, or not a regular file")
        with (
            mmap.mmap(file.handle, 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as view,
        ):
            return _parse(view, dialect, path)
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


def _parse(view: memoryview, dialect: str | None, path: str) -> NetText:
    layers = _scan(view)
    if not layers:
        raise FormatError("no layers; a caffemodel has at least one")
    copying = Renumbering(view, layers, settle_dialect(dialect, _detect(layers)))
    net = cast("Descriptor", caffe_pb2.NetParameter.DESCRIPTOR)  # upb's own has the same interface
    encoded = b"".join(copying.message(0, len(view), net))
    message = caffe_pb2.NetParameter()
    try:
        _parse_as_it_is(message, encoded)
    except DecodeError as error:
        raise FormatError(f"protobuf cannot read its layers: {error}") from error
    generation = upgrade_net(message, path, copying.dialect)
    unknown = tuple(copying.unknown.values())
    return NetText(message, unknown, print_text(message), generation, copying.dialect, path)


def to_schema(encoded: bytes | memoryview, kind: Descriptor) -> bytes | memoryview:
    """A net, or one layer, of any dialect under our schema's numbers, with its blobs.

    Args:
        encoded: a NetParameter, LayerParameter or V1LayerParameter.
        kind: which of them.
    Returns:
        ``encoded`` itself where the numbers are those of the schema.
    Raises:
        FormatError: broken encoding, or a field that does not fit the dialect, with byte offset.
    """
    view = memoryview(encoded)
    if kind.name == "NetParameter":
        layers = _scan(view)
    else:
        whole = wire.Field(0, wire.BYTES, 0, 0, len(view), len(view), 0)
        scan = _scan_v2 if kind.name == "LayerParameter" else _scan_v1
        layers = {0: scan(view, whole, wire.Budget())}
    dialect = settle_dialect(None, _detect(layers))
    own = has_own_numbers(layer.type for layer in layers.values())
    if dialect in BVLC_NUMBERS and not own:
        return encoded
    return b"".join(Renumbering(view, layers, dialect, whole=True).message(0, len(view), kind))


def _scan(view: memoryview) -> dict[int, LayerMark]:
    """The layers by the offset of their field."""
    found: dict[int, LayerMark] = {}
    budget = wire.Budget()
    for item in wire.fields(view, budget=budget):
        if item.number in (_V1_LAYERS, _LAYER):
            wire.expect(item, wire.BYTES, "layer")
            if len(found) >= MAX_LAYERS:
                raise FormatError(f"over {MAX_LAYERS} layers", offset=item.offset)
            scan = _scan_v2 if item.number == _LAYER else _scan_v1
            found[item.start] = scan(view, item, budget)
    return found


def _scan_v2(view: memoryview, layer: wire.Field, budget: wire.Budget) -> LayerMark:
    found = LayerMark()
    for item in wire.fields(view, layer.start, layer.end, budget):
        if item.number == _V2_NAME:
            found.name = text(view, item)
        elif item.number == _V2_TYPE:
            found.type = text(view, item)
        elif is_v1_only(item.number):
            found.deeplab1 = True
    return found


def _scan_v1(view: memoryview, layer: wire.Field, budget: wire.Budget) -> LayerMark:
    found = LayerMark()
    for item in wire.fields(view, layer.start, layer.end, budget):
        if item.number == _V1_NAME:
            found.name = text(view, item)
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


def _detect(layers: Mapping[int, LayerMark]) -> str:
    if any(layer.deeplab1 for layer in layers.values()):
        return "deeplab1"
    return dialect_of_types({layer.type for layer in layers.values()})
