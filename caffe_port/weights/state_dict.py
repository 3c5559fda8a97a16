"""Layers as a flat state dict and back, and as a safetensors file."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from safetensors import SafetensorError, safe_open

from caffe_port.errors import FormatError, UsageError
from caffe_port.files import AnyFile, atomic_path, create, explaining
from caffe_port.spec.rules import unique_names
from caffe_port.weights.blobproto import raw_bytes
from caffe_port.weights.stored import (
    Array,
    Identity,
    MappedFile,
    StateDict,
    StoredBlob,
    StoredLayer,
    WeightFile,
    check_complete,
    check_writable,
    identity,
)

# Layers as a flat state dict and back, for .pt and .safetensors.
#
# The dict's keys are those of the Net, ``<layer>.<parameter>``, with unique layer names
# (``spec.names``). A separate list holds the layers in order, so that they can be restored.

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


# Weights as safetensors: the tensors of the state dict, the rest as strings in the header.
#
# Header metadata: format, version, name, prototxt, layers (JSON: [[name, type, [keys]], ...]),
# legacy (JSON: [keys]), aliases (JSON: {key: key of the tensor stored}), metadata (JSON). A shared
# parameter is stored once: the format has no sharing of its own. One net gives one file, byte for
# byte.

MAX_HEADER = 8 * 2**20  # of a net of 65,000 parameters; a million would take minutes
_DTYPES = {"F32": "<f4", "F64": "<f8"}
_PLAIN_DTYPES = {**_DTYPES, "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}
# widened to float32; bfloat16 is its upper half
_HALVES: dict[str, Callable[[Array, tuple[int, ...]], Array]] = {
    "F16": lambda values, shape: values.astype("f4").reshape(shape),
    "BF16": lambda values, shape: (values.astype("u4") << 16).view("f4").reshape(shape),
}


def read_safetensors(file: AnyFile) -> WeightFile:
    """Reads a .safetensors file that ``write_safetensors`` wrote, without copying its tensors.

    Args:
        file: its name, or the file where it is open already.
    Raises:
        FormatError: it is broken, written by another program, or holds other than float32 and
            float64.
        OSError: it cannot be opened.
    """
    with _opened(file) as (source, strings):
        return _weight_file(source, strings)


def read_safetensors_state(file: AnyFile) -> WeightFile | StateDict:
    """Reads a file as ``read_safetensors`` does, or the tensors of another program.

    Args:
        file: its name, or the file where it is open already.
    Raises:
        FormatError: it is broken, or holds other than floating point and integers.
        OSError: it cannot be opened.
    """
    with _opened(file) as (source, strings):
        if strings.get("format") == FORMAT:
            return _weight_file(source, strings)
        blobs = _blobs(source, _PLAIN_DTYPES)
        if not blobs:
            raise FormatError("it holds no tensors")
        return StateDict(blobs, "safetensors", dict(strings))


@contextlib.contextmanager
def _opened(file: AnyFile) -> Iterator[tuple[MappedFile, dict[str, str]]]:
    """The file, whose header the library has checked, and its strings."""
    with explaining(file):
        source = MappedFile(file)
        length = int.from_bytes(source.view[:8], "little")
        if length > MAX_HEADER:
            raise FormatError(f"a header of {length} bytes; at most {MAX_HEADER} are read")
        try:
            # The library checks the header; the numbers it checked are then used for views.
            with safe_open(source.path, framework="np") as checked:
                strings = checked.metadata() or {}
        except SafetensorError as error:
            raise FormatError(f"safetensors cannot read it: {error}") from error
        source.expect_current()
        yield source, strings


def _weight_file(source: MappedFile, strings: Mapping[str, str]) -> WeightFile:
    check_header(strings.get("format"), strings.get("version"))
    blobs = _blobs(source, _DTYPES)
    for key, owner in check_strings(_json(strings, "aliases", {})).items():
        if key in blobs or owner not in blobs:
            raise FormatError(f"its alias '{key}' of '{owner}' is not valid")
        blobs[key] = blobs[owner]
    layers = unflatten(blobs, _json(strings, "layers", None), _json(strings, "legacy", []))
    metadata = check_strings(_json(strings, "metadata", {}))
    return WeightFile(
        layers,
        "safetensors",
        name=strings.get("name", ""),
        prototxt=strings.get("prototxt"),
        metadata=metadata,
    )


def write_safetensors(
    path: str | os.PathLike[str],
    layers: Sequence[StoredLayer],
    *,
    name: str = "",
    prototxt: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes the tensors and the strings above, all of it or nothing.

    Args:
        path: the file to make.
        layers: the weights; diffs are left out.
        name: the net's name.
        prototxt: the net's text, so that the file needs no other file.
        metadata: further strings to store.
    Raises:
        UsageError: see state_dict.flatten.
        OSError: the file cannot be written.
    """
    flat = flatten(layers, "safetensors")
    blobs = {key: blob for key, blob in flat.blobs.items() if key not in flat.aliases}
    strings = {**_described(flat, name), "metadata": json.dumps(dict(metadata or {}))}
    if prototxt is not None:
        strings["prototxt"] = prototxt
    _write(path, blobs, strings)


def write_safetensors_state(path: str | os.PathLike[str], state: StateDict) -> None:
    """Writes a plain state dict, as ``safetensors.torch.load_file`` reads it.

    Raises:
        OSError: the file cannot be written.
    """
    _write(path, state.tensors, {"format": "pt", **state.metadata})


def _write(
    path: str | os.PathLike[str], blobs: Mapping[str, StoredBlob], strings: dict[str, str]
) -> None:
    # The wider type first, so that every tensor starts at a multiple of its element's size.
    ordered = dict(sorted(blobs.items(), key=lambda item: -item[1].data.dtype.itemsize))
    header = _header(ordered, strings)
    with atomic_path(path) as temporary, create(temporary) as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        for blob in ordered.values():
            stream.write(raw_bytes(blob.data))


def _described(flat: FlatState, name: str) -> dict[str, str]:
    return {
        "format": FORMAT,
        "version": str(VERSION),
        "name": name,
        "layers": json.dumps(flat.layers),
        "legacy": json.dumps(flat.legacy),
        "aliases": json.dumps(flat.aliases),
    }


def _header(blobs: Mapping[str, StoredBlob], strings: dict[str, str]) -> bytes:
    """The header's JSON, padded with spaces to a multiple of 8 bytes.

    Made here and not by the library, which orders its entries at random and copies every tensor.
    """
    entries: dict[str, object] = {"__metadata__": strings}
    begin = 0
    for key, blob in blobs.items():
        end = begin + blob.data.nbytes
        kind = f"{blob.data.dtype.kind.upper()}{8 * blob.data.dtype.itemsize}"
        shape = list(blob.data.shape)
        entries[key] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
        begin = end
    encoded = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    return encoded + b" " * (-len(encoded) % 8)


def _blobs(source: MappedFile, dtypes: Mapping[str, str]) -> dict[str, StoredBlob]:
    """Views of all tensors, from a header the library has found sound."""
    length = int.from_bytes(source.view[:8], "little")
    header = json.loads(bytes(source.view[8 : 8 + length]))
    header.pop("__metadata__", None)
    return {key: _blob(source, 8 + length, key, entry, dtypes) for key, entry in header.items()}


def _blob(
    source: MappedFile, base: int, key: str, entry: dict[str, Any], dtypes: Mapping[str, str]
) -> StoredBlob:
    dtype = dtypes.get(entry["dtype"])
    if dtype is None:
        raise FormatError(f"'{key}' is {entry['dtype']}, expected {' or '.join(dtypes)}")
    shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
    count = (end - begin) // np.dtype(dtype).itemsize
    if entry["dtype"] in _HALVES:
        return StoredBlob(_HALVES[entry["dtype"]](source.load(base + begin, count, dtype), shape))

    def load() -> Array:
        return source.load(base + begin, count, dtype).reshape(shape)

    return StoredBlob(source.array(base + begin, count, dtype).reshape(shape), load=load)


def _json(strings: Mapping[str, str], name: str, default: object) -> object:
    if name not in strings:
        return default
    try:
        value: object = json.loads(strings[name])
    except (ValueError, RecursionError) as error:
        raise FormatError(f"its metadata '{name}' is not JSON: {error}") from error
    return value
