"""Changes that keep a format's outer layer valid, so that a fuzzer reaches the inner parts.

Checksums, lengths and compression would reject nearly all changes of bytes.
"""

from __future__ import annotations

import io
import json
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

from caffe_port.errors import FormatError
from caffe_port.proto import wire
from tests.weights.making import field

Change = Callable[[bytes], bytes]
TELLING = (0, 1, 2, 3, -1, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_MAT_HEAD, _DEFLATED = 128, 15
_PNG_HEAD = 8


def message(data: bytes, chance: random.Random, change: Change) -> bytes:
    """One field of a protobuf message, at any depth; the lengths around it stay right."""
    try:
        found = list(wire.fields(memoryview(data)))
    except FormatError:
        found = []
    if not found:
        return change(data)
    at, other = chance.choice(found), chance.choice(found)
    whole, payload = data[at.offset : at.next], data[at.start : at.end]
    match chance.randrange(8):
        case 0:
            new = b""
        case 1:
            new = whole * chance.choice((2, 3, 40))
        case 2:
            new = data[other.offset : other.next]
        case 3:
            new = field(chance.choice((1, 2, 3, 5, 7, 8, 100, 106, 536870911)), payload)
        case _ if at.wire_type == wire.BYTES:
            deeper = chance.random() < 0.8 and _is_message(payload)
            inner = message(payload, chance, change) if deeper else change(payload)
            new = field(at.number, inner)
        case _ if at.wire_type == wire.VARINT:
            tag = data[at.offset : at.start]
            new = tag + wire.encode_varint(chance.choice(TELLING) % 2**64)
        case _:
            size = len(payload)
            new = data[at.offset : at.start] + change(payload)[:size].ljust(size, b"\0")
    return data[: at.offset] + new + data[at.next :]


def _is_message(payload: bytes) -> bool:
    try:
        return any(True for _ in wire.fields(memoryview(payload)))
    except FormatError:
        return False


def archive(data: bytes, chance: random.Random, change: Change) -> bytes:
    """One member of a zip archive, its checksum recomputed."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            members = [(info.filename, file.read(info)) for info in file.infolist()]
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, RuntimeError, zlib.error):
        return change(data)
    if not members:
        return change(data)
    at = chance.randrange(len(members))
    name, content = members[at]
    match chance.randrange(8):
        case 0:
            del members[at]
        case 1:
            members[at] = (change(name.encode()).decode("latin-1"), content)
        case 2:
            members.append((name + chance.choice(("", "x", ".npy")), content))
        case _:
            members[at] = (name, change(content))
    kind = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name that is there twice
        for name, content in members:
            file.writestr(zipfile.ZipInfo(name.replace("\0", "0")[:1000] or "x"), content)
    return stream.getvalue()


def beside_archive(data: bytes, chance: random.Random, change: Change) -> bytes:
    """Text, a zero byte and an archive: one of the two."""
    head, zero, packed = data.partition(b"\0")
    if chance.random() < 0.3:
        return change(head).replace(b"\0", b" ") + zero + packed
    return head + zero + archive(packed, chance, change)


def mat(data: bytes, chance: random.Random, change: Change) -> bytes:
    """One element of a MAT file, inflated and deflated again where it is so."""
    elements, position = [], _MAT_HEAD
    while position + 8 <= len(data):
        kind, size = struct.unpack_from("<II", data, position)
        elements.append((kind, data[position + 8 : position + 8 + size]))
        position += 8 + size
    if not elements:
        return change(data)
    at = chance.randrange(len(elements))
    kind, content = elements[at]
    if kind == _DEFLATED:
        elements[at] = (kind, zlib.compress(change(_inflated(content))))
    elif chance.random() < 0.2:  # a variable that was not deflated
        whole = struct.pack("<II", kind, len(content)) + change(content)
        elements[at] = (_DEFLATED, zlib.compress(whole))
    else:
        elements[at] = (kind, change(content))
    packed = (struct.pack("<II", kind, len(content)) + content for kind, content in elements)
    return data[:_MAT_HEAD] + b"".join(packed)


def _inflated(content: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(content, 2**16)
    except zlib.error:
        return content


def png(data: bytes, chance: random.Random, change: Change) -> bytes:
    """One chunk of a PNG, its checksum recomputed; other images as bytes."""
    if not data.startswith(b"\x89PNG"):
        return change(data)
    chunks, position = [], _PNG_HEAD
    while position + 12 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        chunks.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + size]))
        position += 12 + size
    at = chance.randrange(len(chunks)) if chunks else 0
    if not chunks:
        return change(data)
    name, content = chunks[at]
    if name == b"IDAT":
        chunks[at] = (name, zlib.compress(change(_inflated(content))))
    else:
        chunks[at] = (name, change(content))
    return data[:_PNG_HEAD] + b"".join(
        len(content).to_bytes(4, "big") + name + content
        + zlib.crc32(name + content).to_bytes(4, "big") for name, content in chunks
    )  # fmt: skip


def safetensors(data: bytes, chance: random.Random, change: Change) -> bytes:
    """One entry of a safetensors header, whose length stays right."""
    length = int.from_bytes(data[:8], "little")
    head, values = data[8 : 8 + length], data[8 + length :]
    try:
        head = json.dumps(_json(json.loads(head), chance, change)).encode()
    except (ValueError, RecursionError):
        head = change(head)
    return len(head).to_bytes(8, "little") + head + values


def _json(value: Any, chance: random.Random, change: Change) -> Any:
    """One value inside a JSON value; texts that are JSON themselves are entered."""
    if isinstance(value, dict) and value:
        key = chance.choice(sorted(value))
        return {**value, key: _json(value[key], chance, change)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        return [*value[:at], _json(value[at], chance, change), *value[at + 1 :]]
    if isinstance(value, str):
        if value[:1] in ("[", "{") and chance.random() < 0.8:
            return json.dumps(_json(json.loads(value), chance, change))
        return change(value.encode()).decode("latin-1")
    return chance.choice((*TELLING, None, "", "data", [], {}, [[]], 1.5, True))


def lmdb(data: bytes, chance: random.Random, change: Change) -> bytes:
    """A page's head, one of its pointers or one of its records; every page stays in its place."""
    size = 4096
    start = size * chance.randrange(max(len(data) // size, 1))
    lower = int.from_bytes(data[start + 12 : start + 14], "little")
    count = max(min(lower, size) - 16, 0) // 2
    at, length = start + 8, 8
    if count and chance.random() < 0.7:
        at, length = start + 16 + 2 * chance.randrange(count), 2
        if chance.random() < 0.6:
            at, length = start + int.from_bytes(data[at : at + 2], "little"), 24
    elif chance.random() < 0.5:  # where a meta page has its size and its root
        at, length = start + 16 + 8 * chance.randrange(17), 8
    old = data[at : at + length]
    return data[:at] + change(old)[: len(old)].ljust(len(old), b"\0") + data[at + len(old) :]
