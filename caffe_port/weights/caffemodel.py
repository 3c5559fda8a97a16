"""Reading .caffemodel files of every generation and dialect, and writing V2 ones.

A caffemodel embeds whole layers, and the forks gave the same field numbers to different fields, so
that no single schema reads all of them. Of each layer only name, type and blobs are read, whose
numbers all dialects share; the file is mapped and the blobs are views of it. A written file has
protobuf's field order, so that with its net's message it equals Caffe's byte for byte.

Source: BVLC/caffe caffe.proto, NetParameter, LayerParameter, V1LayerParameter, V0LayerParameter;
net.cpp, Net::ToProto.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from caffe_port.errors import FormatError, UsageError, option
from caffe_port.files import AnyFile, atomic_path, create, explaining, name_of
from caffe_port.proto import wire
from caffe_port.proto.binary import encode_layer
from caffe_port.proto.caffe_pb2 import V1LayerParameter
from caffe_port.proto.dialects import FORK_NUMBERS, LAST_BVLC_V1_TYPE
from caffe_port.proto.upgrade import v0_type_name, v1_type_name
from caffe_port.weights import blobproto
from caffe_port.weights.blobproto import INT_MAX, EncodedBlob, encode_blob, raw_bytes
from caffe_port.weights.stored import (
    Array,
    MappedFile,
    StoredBlob,
    StoredLayer,
    WeightFile,
    check_complete,
    check_writable,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message


# Far above any net; low enough that a file of empty layers or blobs cannot exhaust the memory.
MAX_LAYERS = MAX_BLOBS = MAX_NAME = 65536

_NET_NAME, _NET_V1_LAYERS, _NET_LAYER = 1, 2, 100
_V0_LAYER, _CONVOLUTION_PARAM, _IMAGE_DATA_PARAM = 1, 10, 15  # inside a V1 layer
_V1_TYPES = {number for number in V1LayerParameter.LayerType.values() if number < FORK_NUMBERS}


class _Numbers(NamedTuple):
    """The field numbers of one generation's layer message."""

    name: int
    type: int
    blobs: int


_V0, _V1, _V2 = _Numbers(1, 2, 50), _Numbers(4, 5, 6), _Numbers(1, 2, 7)


@dataclass
class _Draft:
    """A layer while it is read."""

    generation: str
    name: str = ""
    type: str = ""
    type_number: int = 0
    blobs: list[StoredBlob] = field(default_factory=list)
    has_convolution: bool = False
    has_image_data: bool = False


@dataclass
class _Scan:
    """A NetParameter while it is read."""

    source: MappedFile
    name: str = ""
    layers: list[_Draft] = field(default_factory=list)
    blob_count: int = 0

    def net(self) -> None:
        view = self.source.view
        for item in wire.fields(view, budget=self.source.budget):
            if item.number == _NET_NAME:
                if item.wire_type == wire.VARINT:
                    hint = option("snapshot", "FILE")
                    raise FormatError(
                        "field 1 is a number, a net's is its name: is this a solver state"
                        + (f" ({hint} takes it)" if hint else "")
                        + " or a mean file?",
                        offset=item.offset,
                    )
                self.name = _text(view, item, "name")
            elif item.number in (_NET_V1_LAYERS, _NET_LAYER):
                self.layer(item)
        if not self.layers:
            raise FormatError("the file holds no layers; a caffemodel has at least one")

    def layer(self, item: wire.Field) -> None:
        v2 = item.number == _NET_LAYER
        wire.expect(item, wire.BYTES, "layer" if v2 else "layers")
        if self.layers and v2 != (self.layers[0].generation == "V2"):
            raise FormatError(
                "the file holds both 'layer' (V2) and 'layers' (V1), of which Caffe takes one: "
                "upgrade it with the program that wrote it",
                offset=item.offset,
            )
        if len(self.layers) >= MAX_LAYERS:
            raise FormatError(f"the file holds over {MAX_LAYERS} layers", offset=item.offset)
        draft = _Draft("V2" if v2 else "V1")
        self.layers.append(draft)
        if v2:
            self.v2_layer(draft, item)
        else:
            self.v1_layer(draft, item)

    def fields(self, message: wire.Field) -> Iterator[wire.Field]:
        return wire.fields(self.source.view, message.start, message.end, self.source.budget)

    def v2_layer(self, draft: _Draft, layer: wire.Field) -> None:
        for item in self.fields(layer):
            self.common(draft, item, _V2)
            if item.number == _V2.type:
                draft.type = _text(self.source.view, item, "type")

    def v1_layer(self, draft: _Draft, layer: wire.Field) -> None:
        for item in self.fields(layer):
            draft.has_convolution |= item.number == _CONVOLUTION_PARAM
            draft.has_image_data |= item.number == _IMAGE_DATA_PARAM
            self.common(draft, item, _V1)
            if item.number == _V1.type:
                wire.expect(item, wire.VARINT, "type")
                draft.type_number = item.value
            elif item.number == _V0_LAYER:
                wire.expect(item, wire.BYTES, "layer")
                draft.generation = "V0"
                self.v0_layer(draft, item)

    def v0_layer(self, draft: _Draft, layer: wire.Field) -> None:
        for item in self.fields(layer):
            self.common(draft, item, _V0)
            if item.number == _V0.type:
                draft.type = v0_type_name(_text(self.source.view, item, "type"))

    def common(self, draft: _Draft, item: wire.Field, numbers: _Numbers) -> None:
        """Takes the fields that every generation has: the name and the blobs."""
        if item.number == numbers.name:
            draft.name = _text(self.source.view, item, "name")
        elif item.number == numbers.blobs:
            wire.expect(item, wire.BYTES, "blobs")
            self.blob_count += 1
            if self.blob_count > MAX_BLOBS:
                raise FormatError(f"the file holds over {MAX_BLOBS} blobs", offset=item.offset)
            try:
                draft.blobs.append(blobproto.read_blob(self.source, item.start, item.end))
            except FormatError as error:
                where = f"layer '{draft.name}', blob {len(draft.blobs)}"
                raise FormatError(f"{where}: {error.message}", offset=error.offset) from error

    def finished(self) -> WeightFile:
        forks = _V1_TYPES - set(range(LAST_BVLC_V1_TYPE + 1))
        deeplab1 = any(draft.type_number in forks for draft in self.layers)
        generations = {draft.generation for draft in self.layers}
        return WeightFile(
            tuple(_finish(draft, deeplab1) for draft in self.layers),
            "caffemodel",
            self.name,
            "V0" if "V0" in generations else generations.pop(),
        )


def read_caffemodel(file: AnyFile) -> WeightFile:
    """Reads a binary caffemodel of generation V0, V1 or V2 and of any fork.

    The blobs are read-only views of the mapped file: listing the layers of a large file takes a
    millisecond. The map lives as long as a blob does; do not shorten the file meanwhile.

    Protobuf has no end mark: a file cut exactly between two layers is a valid, shorter file.
    Loading it into a net shows the missing layers.

    Args:
        file: the name of a regular file, or the open file.
    Raises:
        FormatError: with the byte offset: the file is cut, a length or a shape lies, ``layer``
            and ``layers`` are mixed, or it is something else altogether.
        OSError: it cannot be opened.
    Warns:
        UnknownFieldWarning: blobs hold fields that no dialect has.
    """
    with explaining(file):
        scan = _Scan(MappedFile(file))
        scan.net()
    blobproto.warn_of_unknown(
        name_of(file),
        (
            (f"layer '{draft.name}', blob {index}", blob)
            for draft in scan.layers
            for index, blob in enumerate(draft.blobs)
        ),
    )
    return scan.finished()


def read_mean(file: AnyFile) -> Array:
    """Reads the mean image that Caffe's compute_image_mean writes (.binaryproto).

    Returns:
        (C, H, W) float32, channels in Caffe's order (BGR).
    Raises:
        FormatError: the file is not one BlobProto of such a shape.
        OSError: it cannot be opened.
    """
    with explaining(file):
        return blobproto.read_mean(MappedFile(file))


def _text(view: memoryview, item: wire.Field, name: str) -> str:
    wire.expect(item, wire.BYTES, name)
    if item.end - item.start > MAX_NAME:
        length = item.end - item.start
        raise FormatError(f"a {name} of {length} bytes", offset=item.offset)
    # Caffe takes names in any encoding; escaping keeps them printable and distinct.
    return bytes(view[item.start : item.end]).decode(errors="backslashreplace")


def _finish(draft: _Draft, deeplab1: bool) -> StoredLayer:
    type = _v1_type(draft, deeplab1) if draft.generation == "V1" else draft.type
    return StoredLayer(draft.name, type, tuple(draft.blobs))


def _v1_type(draft: _Draft, deeplab1: bool) -> str:
    """The V2 name of a V1 layer's type, or ``V1:<number>`` if nothing decides.

    Number 39 is Deconvolution, or ImageSegData in DeepLab v1: the layer's fields decide, then
    whether the file has a layer that only DeepLab v1 has.
    """
    number = draft.type_number
    if number == LAST_BVLC_V1_TYPE:
        if draft.blobs or draft.has_convolution:
            return "Deconvolution"
        if deeplab1 or draft.has_image_data:
            return "ImageSegData"
    elif number in _V1_TYPES:
        return v1_type_name(number)
    return f"V1:{number}"


_LAYER_NAME, _LAYER_TYPE, _LAYER_BLOBS = 1, 2, 7


@dataclass(frozen=True)
class _EncodedLayer:
    """A LayerParameter: its fields up to the blobs, the blobs, the fields after them."""

    before: bytes
    blobs: tuple[EncodedBlob, ...]
    after: bytes

    def size(self) -> int:
        headers = sum(len(wire.encode_header(_LAYER_BLOBS, blob.size)) for blob in self.blobs)
        blobs = sum(blob.size for blob in self.blobs)
        return len(self.before) + headers + blobs + len(self.after)


def write_caffemodel(
    path: str | os.PathLike[str],
    layers: Sequence[StoredLayer],
    *,
    name: str = "",
    net_message: Message | None = None,
) -> None:
    """Writes a V2 caffemodel, all of it or nothing.

    Args:
        path: the file to make.
        layers: the weights. A legacy blob is written with num, channels, height and width.
        name: the net's name, used without ``net_message``.
        net_message: a V2 NetParameter without blobs, whose fields are written too. Its layers
            give the order; each of ``layers`` that has blobs must be one of them, by name, and
            layers of one name have the same order in both. A fork's options go out under the
            numbers that fork gave them.
    Raises:
        UsageError: the file would pass protobuf's limit of 2 GB, a blob is not float32 or
            float64, a layer lacks a shared blob, or ``net_message`` does not fit ``layers``.
        OSError: the file cannot be written.
    """
    check_writable(layers)
    check_complete(layers, "caffemodel")
    head, encoded = _encoded(name, net_message, layers)
    sizes = [layer.size() for layer in encoded]
    total = len(head) + sum(len(wire.encode_header(_NET_LAYER, n)) + n for n in sizes)
    if total > INT_MAX:
        raise UsageError(
            f"the caffemodel would be {total} bytes, protobuf's limit is {INT_MAX}: "
            "write .caffemodel.h5 instead"
        )
    with atomic_path(path) as temporary, create(temporary) as stream:
        stream.write(head)
        for layer, size in zip(encoded, sizes, strict=True):
            stream.write(wire.encode_header(_NET_LAYER, size))
            for part in _parts(layer):
                stream.write(part)


def write_mean(path: str | os.PathLike[str], mean: Array) -> None:
    """Writes one legacy BlobProto: 1, C, H, W and float32 values; see ``weights.write_mean``."""
    if mean.ndim != 3 or mean.dtype.kind != "f" or 0 in mean.shape:
        raise UsageError(f"a mean image is (C, H, W) floats, found {mean.dtype} {mean.shape}")
    blob = encode_blob(StoredBlob(mean[None].astype("f4"), legacy=True))
    with atomic_path(path) as temporary, create(temporary) as stream:
        for part in blob.parts:
            stream.write(raw_bytes(part))


def _parts(layer: _EncodedLayer) -> Iterator[bytes | memoryview]:
    """The layer's bytes in pieces; only one blob is ever turned into bytes at a time."""
    yield layer.before
    for blob in layer.blobs:
        yield wire.encode_header(_LAYER_BLOBS, blob.size)
        for part in blob.parts:
            yield raw_bytes(part)
    yield layer.after


def _encoded(
    name: str, message: Message | None, layers: Sequence[StoredLayer]
) -> tuple[bytes, list[_EncodedLayer]]:
    """What comes before the layers, and the layers."""
    if message is not None:
        return _with_message(message, layers)
    head = wire.encode_bytes(_NET_NAME, name.encode()) if name else b""
    return head, [_plain(layer) for layer in layers]


def _plain(layer: StoredLayer) -> _EncodedLayer:
    before = wire.encode_bytes(_LAYER_NAME, layer.name.encode())
    before += wire.encode_bytes(_LAYER_TYPE, layer.type.encode())
    return _EncodedLayer(before, tuple(map(encode_blob, layer.blobs)), b"")


def _with_message(
    message: Message, layers: Sequence[StoredLayer]
) -> tuple[bytes, list[_EncodedLayer]]:
    """The net's own fields, and its layers with the stored blobs put where Caffe puts them."""
    stored: dict[str, list[StoredLayer]] = {}
    for layer in layers:
        stored.setdefault(layer.name, []).append(layer)
    described = list(message.layer)  # type: ignore[attr-defined]
    head = type(message)()
    head.CopyFrom(message)
    head.ClearField("layer")
    encoded = []
    for layer in described:
        if len(layer.blobs):
            raise UsageError(f"layer '{layer.name}' of the net's message holds blobs of its own")
        blobs = same.pop(0).blobs if (same := stored.get(layer.name)) else ()
        before, after = _split(encode_layer(layer))
        encoded.append(_EncodedLayer(before, tuple(map(encode_blob, blobs)), after))
    if left := [name for name, same in stored.items() if any(layer.blobs for layer in same)]:
        raise UsageError(f"the net's message has no layer for the blobs of {', '.join(left)}")
    return head.SerializeToString(deterministic=True), encoded


def _split(layer: bytes) -> tuple[bytes, bytes]:
    """Cuts an encoded layer at the first field that comes after ``blobs``."""
    for item in wire.fields(memoryview(layer)):
        if item.number > _LAYER_BLOBS:
            return layer[: item.offset], layer[item.offset :]
    return layer, b""
