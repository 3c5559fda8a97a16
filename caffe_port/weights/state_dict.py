"""Layers as a flat state dict and back, for .pt and .safetensors.

The dict's keys are those of the Net, ``<layer>.<parameter>``, with unique layer names
(``spec.names``). A separate list holds the layers in order, so that they can be restored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from caffe_port.errors import FormatError, UsageError
from caffe_port.spec.rules import unique_names
from caffe_port.weights.stored import (
    Identity,
    StoredBlob,
    StoredLayer,
    check_complete,
    check_writable,
    identity,
)

FORMAT = "caffe_port"
VERSION = 1


@dataclass(frozen=True)
class FlatState:
    """Layers, flattened.

    Attributes:
        blobs: by key, in order; a shared parameter is under the keys of all its layers.
        layers: [name, type, [keys]] of every layer.
        aliases: key -> the earlier key over the same memory.
        legacy: the keys of blobs in the legacy 4-D shape.
    """

    blobs: dict[str, StoredBlob]
    layers: list[list[Any]]
    aliases: dict[str, str]
    legacy: list[str]


def flatten(layers: Sequence[StoredLayer], format: str) -> FlatState:
    """The blobs of all layers by key.

    Args:
        layers: what to write. Diffs are left out: a state dict has none.
        format: the file's kind, for messages.
    Raises:
        UsageError: a blob is not float32 or float64, a layer lacks a shared blob, or two blobs
            would have one key.
    """
    check_writable(layers)
    check_complete(layers, format)
    state = FlatState({}, [], {}, [])
    owners: dict[Identity, str] = {}
    names = unique_names([layer.name for layer in layers], [bool(la.blobs) for la in layers])
    for layer, unique in zip(layers, names, strict=True):
        keys = [f"{unique}.{name}" for name in layer.parameter_names()]
        state.layers.append([layer.name, layer.type, keys])
        for key, blob in zip(keys, layer.blobs, strict=True):
            if key in state.blobs:
                raise UsageError(f"two parameters are named '{key}'; a state dict holds one")
            state.blobs[key] = blob
            same = identity(blob.data)
            if same is not None and owners.setdefault(same, key) != key:
                state.aliases[key] = owners[same]
            if blob.legacy:
                state.legacy.append(key)
    return state


def check_header(format: object, version: object) -> None:
    """Refuses a state dict of another program, or of another version of the format.

    Raises:
        FormatError: see above.
    """
    if format != FORMAT:
        raise FormatError(
            f"it does not say which layers it holds: only files written by {FORMAT} do; a state "
            "dict of another program is read by 'caffe-port convert NET.prototxt FILE --names "
            "NAMES -o FILE.caffemodel'"
        )
    if str(version) != str(VERSION):
        raise FormatError(
            f"it has version {version!r}, this program reads {VERSION}: upgrade {FORMAT}"
        )


def unflatten(
    blobs: Mapping[str, StoredBlob], layers: object, legacy: object
) -> tuple[StoredLayer, ...]:
    """Puts blobs back into their layers.

    Args:
        blobs: by key; a shared one under each of its keys.
        layers, legacy: the lists of ``flatten``, which are not trusted.
    Raises:
        FormatError: a list is malformed, names a missing blob, or lacks one.
    """
    if not isinstance(layers, list) or not _is_strings(legacy):
        raise FormatError("its lists of layers and of legacy blobs are not lists")
    marked = frozenset(legacy)
    used: set[str] = set()
    result = []
    entries = [_entry(entry) for entry in layers]
    names = unique_names([name for name, _, _ in entries], [bool(keys) for _, _, keys in entries])
    for (name, type, keys), unique in zip(entries, names, strict=True):
        stored = []
        for key in keys:
            if key not in blobs or not key.startswith(f"{unique}."):
                raise FormatError(f"layer '{name}' lists the tensor '{key}', which is not its own")
            if key in marked and blobs[key].data.ndim != 4:
                raise FormatError(f"'{key}' is marked legacy but has not four axes")
            blob, short = blobs[key], key[len(unique) + 1 :]
            stored.append(StoredBlob(blob.data, key in marked, name=short, load=blob.load))
        before = len(used)
        used.update(keys)
        if len(used) != before + len(keys):
            raise FormatError(f"layer '{name}' lists a tensor that is listed before")
        result.append(StoredLayer(name, type, tuple(stored)))
    if extra := sorted(blobs.keys() - used):
        raise FormatError(f"the tensor '{extra[0]}' does not belong to a layer ({len(extra)} such)")
    return tuple(result)


def check_strings(metadata: object) -> dict[str, str]:
    """Metadata as a dict of strings.

    Raises:
        FormatError: it is anything else.
    """
    if isinstance(metadata, dict) and _is_strings([*metadata, *metadata.values()]):
        return metadata
    raise FormatError("its metadata is not a dict of strings")


def _entry(entry: object) -> tuple[str, str, list[str]]:
    match entry:
        case [str(name), str(type), list(keys)] if _is_strings(keys):
            return name, type, keys
    raise FormatError(f"its list of layers holds {str(entry)[:80]}, not [name, type, [keys]]")


def _is_strings(values: object) -> TypeGuard[list[str]]:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)
