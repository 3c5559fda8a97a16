"""Weights as safetensors: the tensors of the state dict, the rest as strings in the header.

Header metadata: format, version, name, prototxt, layers (JSON: [[name, type, [keys]], ...]),
legacy (JSON: [keys]), aliases (JSON: {key: key of the tensor stored}), metadata (JSON).
A shared parameter is stored once: the format has no sharing of its own. One net gives one file,
byte for byte.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from caffe_port.errors import FormatError
from caffe_port.files import AnyFile, atomic_path, create, explaining
from caffe_port.weights import state_dict
from caffe_port.weights.blobproto import raw_bytes
from caffe_port.weights.stored import Array, MappedFile, StoredBlob, StoredLayer, WeightFile

MAX_HEADER = 8 * 2**20  # of a net of 65,000 parameters; a million would take minutes
_DTYPES = {"F32": "<f4", "F64": "<f8"}


def read_safetensors(file: AnyFile) -> WeightFile:
    """Reads a .safetensors file that ``write_safetensors`` wrote, without copying its tensors.

    Args:
        file: its name, or the file where it is open already.
    Raises:
        FormatError: it is broken, written by another program, or holds other than float32 and
            float64.
        OSError: it cannot be opened.
    """
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
        state_dict.check_header(strings.get("format"), strings.get("version"))
        blobs = _blobs(source)
        for key, owner in state_dict.check_strings(_json(strings, "aliases", {})).items():
            if key in blobs or owner not in blobs:
                raise FormatError(f"its alias '{key}' of '{owner}' is not valid")
            blobs[key] = blobs[owner]
        layers = state_dict.unflatten(
            blobs, _json(strings, "layers", None), _json(strings, "legacy", [])
        )
        metadata = state_dict.check_strings(_json(strings, "metadata", {}))
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
    flat = state_dict.flatten(layers, "safetensors")
    blobs = {key: blob for key, blob in flat.blobs.items() if key not in flat.aliases}
    strings = {**_described(flat, name), "metadata": json.dumps(dict(metadata or {}))}
    if prototxt is not None:
        strings["prototxt"] = prototxt
    # The wider type first, so that every tensor starts at a multiple of its element's size.
    ordered = dict(sorted(blobs.items(), key=lambda item: -item[1].data.dtype.itemsize))
    header = _header(ordered, strings)
    with atomic_path(path) as temporary, create(temporary) as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        for blob in ordered.values():
            stream.write(raw_bytes(blob.data))


def _described(flat: state_dict.FlatState, name: str) -> dict[str, str]:
    return {
        "format": state_dict.FORMAT,
        "version": str(state_dict.VERSION),
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
        kind = f"F{8 * blob.data.dtype.itemsize}"
        shape = list(blob.data.shape)
        entries[key] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
        begin = end
    encoded = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    return encoded + b" " * (-len(encoded) % 8)


def _blobs(source: MappedFile) -> dict[str, StoredBlob]:
    """Views of all tensors, from a header the library has found sound."""
    length = int.from_bytes(source.view[:8], "little")
    header = json.loads(bytes(source.view[8 : 8 + length]))
    header.pop("__metadata__", None)
    return {key: _blob(source, 8 + length, key, entry) for key, entry in header.items()}


def _blob(source: MappedFile, base: int, key: str, entry: dict[str, Any]) -> StoredBlob:
    dtype = _DTYPES.get(entry["dtype"])
    if dtype is None:
        raise FormatError(f"'{key}' is {entry['dtype']}, expected F32 or F64")
    shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
    count = (end - begin) // np.dtype(dtype).itemsize

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
