"""Recordings kept as one HDF5 file, as ``tools/record_caffe.py`` writes them.

Groups ``input``, ``data``... hold one float32 dataset per blob, named by the blob with "%" and "/"
escaped, each with the SHA-256 of its bytes; parameters are ``param/<layer>/<i>``. The root's
attribute ``meta`` is JSON. All texts are of fixed length.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from caffe_port.errors import FormatError
from caffe_port.parity.meta import (
    BLOB_PARTS,
    DEFLATE_LIMIT,
    PARAM_PARTS,
    Array,
    Meta,
    parse_meta,
)

FORMAT = "caffe recording"
VERSION = "1"

READ_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError)


def open_file(path: Path) -> tuple[Meta, dict[str, Callable[[], Array]]]:
    """Opens an HDF5 recording.

    Returns:
        its meta data and a reader per "<part>/<name>".
    Raises:
        FormatError: not HDF5, not a recording, or a dataset is not what it claims.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            meta = _read_meta(file, path)
            readers: dict[str, Callable[[], Array]] = {}
            for address, dataset in _datasets(file, path):
                _check_dataset(address, dataset, path)
                readers[_unescape(address)] = partial(_read, path, address)
    except READ_ERRORS as error:
        raise FormatError(f"not a readable HDF5 file: {error}", path=path) from error
    return meta, readers


def _read_meta(file: Any, path: Path) -> Meta:
    found = _attribute(file, "format"), _attribute(file, "version")
    if found != (FORMAT, VERSION):
        raise FormatError(
            f"format {found[0]!r}, version {found[1]!r}: expected {FORMAT!r}, version {VERSION!r}; "
            "recordings are written by tools/record_caffe.py",
            path=path,
        )
    fields = json.loads(_attribute(file, "meta"))
    if not isinstance(fields, dict):
        raise FormatError("the attribute 'meta' is not a JSON object", path=path)
    return parse_meta(fields, path)


def _attribute(item: Any, name: str) -> str:
    """A text of fixed length. The library may crash on damaged ones of variable length."""
    if name not in item.attrs:
        return ""
    kind = item.attrs.get_id(name).dtype
    if kind.kind != "S":
        raise ValueError(f"attribute '{name}' is {kind}, expected a text of fixed length")
    return bytes(item.attrs[name]).decode("utf-8")


def _datasets(file: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Every dataset of the known parts; two levels deep, or three for parameters."""
    for part in file:
        if part not in BLOB_PARTS + PARAM_PARTS:
            raise FormatError(f"unknown group '{part}'", path=path)
        for name, item in _members(_member(file, part, path), part, path):
            if part in BLOB_PARTS:
                yield f"{part}/{name}", item
            else:
                for index, param in _members(item, f"{part}/{name}", path):
                    yield f"{part}/{name}/{index}", param


def _members(group: Any, address: str, path: Path) -> Iterator[tuple[str, Any]]:
    import h5py

    if not isinstance(group, h5py.Group):
        raise FormatError(f"'{address}' is a dataset, expected a group", path=path)
    for name in group:
        yield name, _member(group, name, path)


def _member(group: Any, name: str, path: Path) -> Any:
    """One member; links are refused, as they may lead into other files."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise FormatError(f"'{group.name}/{name}' is a link", path=path)
    return group[name]


def _check_dataset(address: str, dataset: Any, path: Path) -> None:
    import h5py

    def flaw(message: str) -> FormatError:
        return FormatError(f"dataset '{address}': {message}", path=path)

    if not isinstance(dataset, h5py.Dataset):
        raise flaw("a group, expected a dataset")
    if dataset.dtype != np.dtype("<f4") or dataset.shape is None:
        raise flaw(f"dtype {dataset.dtype}, expected little-endian float32")
    if dataset.external or dataset.is_virtual:
        raise flaw("its values lie in another file")
    if dataset.nbytes > DEFLATE_LIMIT * dataset.id.get_storage_size():
        raise flaw(f"shape {list(dataset.shape)}, but only few of its bytes were stored")
    if not _attribute(dataset, "sha256"):
        raise flaw("no attribute 'sha256'")


def _unescape(address: str) -> str:
    return address.replace("%2F", "/").replace("%2E", ".").replace("%25", "%")


def _read(path: Path, address: str) -> Array:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            dataset = file[address]
            values = np.ascontiguousarray(dataset[()], np.float32).reshape(dataset.shape)
            wanted = _attribute(dataset, "sha256")
    except READ_ERRORS as error:
        raise FormatError(f"dataset '{address}': {error}", path=path) from error
    found = hashlib.sha256(values.tobytes()).hexdigest()
    if found != wanted:
        raise FormatError(
            f"dataset '{address}': its SHA-256 is {found}, {wanted} was recorded: damaged",
            path=path,
        )
    return values
