"""Writing .caffemodel files (V2), one blob at a time.

Source: BVLC/caffe net.cpp, Net::ToProto; the order of the fields is protobuf's own, so that a
file written with its net's message equals Caffe's byte for byte.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffe_port.errors import UsageError
from caffe_port.files import atomic_path, create
from caffe_port.proto import wire
from caffe_port.proto.binary import encode_layer
from caffe_port.weights.blobproto import INT_MAX, EncodedBlob, encode_blob, raw_bytes
from caffe_port.weights.stored import Array, StoredBlob, StoredLayer, check_complete, check_writable

if TYPE_CHECKING:
    from google.protobuf.message import Message

_NET_NAME, _NET_LAYER = 1, 100
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
