"""The two kinds of file that hold a recording: ``case.json`` with ``case.npz``, and HDF5."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from caffe_port.errors import FormatError
from caffe_port.files import read_json

Array = NDArray[np.float32]

#: The parts of a recording. Keys are "<part>/<blob>", or "<part>/<layer>/<i>" for parameters.
BLOB_PARTS = ("input", "data", "topdiff", "diff")
PARAM_PARTS = ("param", "pdiff", "after")

PHASES = ("TRAIN", "TEST")

#: Deflate cannot pack tighter than this: an array that claims more was never written.
DEFLATE_LIMIT = 1032


@dataclass(frozen=True)
class Meta:
    """The metadata of a recording.

    Args:
        phase: "TRAIN" or "TEST".
        backward: diffs were recorded.
        complete: every blob was recorded, not a chosen few.
        oracle: which Caffe it was, in the recorder's words.
        versions: of caffe, python, numpy..., as far as they were recorded.
        notes: free text, the command line for instance.
    """

    phase: str
    backward: bool = False
    complete: bool = False
    oracle: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""


def parse_meta(fields: Mapping[str, object], path: Path) -> Meta:
    """Checks the fields every recording has.

    Raises:
        FormatError: a field is missing or has an impossible value.
    """
    phase = fields.get("phase")
    if phase not in PHASES:
        raise FormatError(f"phase is {phase!r}, expected one of {', '.join(PHASES)}", path=path)
    backward = fields.get("backward", False)
    if not isinstance(backward, bool):
        raise FormatError(f"backward is {backward!r}, expected true or false", path=path)
    versions = fields.get("versions", {})
    if not isinstance(versions, dict):
        raise FormatError(f"versions is {versions!r}, expected names and versions", path=path)
    return Meta(
        phase=str(phase),
        backward=backward,
        # Golden cases without this field keep every blob.
        complete=fields.get("blobs_kept", "all") == "all",
        oracle=str(fields.get("oracle", "")),
        versions={str(name): str(version) for name, version in versions.items()},
        notes=str(fields.get("notes", "")),
    )


# Recordings kept as a folder: ``case.json`` and ``case.npz``.
#
# The archive is read by its directory, not by ``numpy.load``, so that what an array claims to hold
# is checked against what the file holds before anything is allocated.

NPZ_ERRORS = (
    OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError,
    SyntaxError, TokenError, TypeError, MemoryError,  # numpy parses an array's head as Python
)  # fmt: skip


def open_folder(folder: Path) -> tuple[Meta, dict[str, Callable[[], Array]]]:
    """Opens a golden folder.

    Returns:
        its meta data and a reader per key of the archive.
    Raises:
        FormatError: a file is missing or malformed.
    """
    archive = folder / "case.npz"
    try:
        with zipfile.ZipFile(archive) as file:
            members = [_check_member(file, info, archive) for info in file.infolist()]
    except NPZ_ERRORS as error:
        raise FormatError(f"not a readable .npz archive: {error}", path=archive) from error
    if len(set(members)) != len(members):
        raise FormatError("an array is there twice", path=archive)
    # opened at the first array, and then once: the directory is as long as the net
    opened = cache(lambda: zipfile.ZipFile(archive))
    readers: dict[str, Callable[[], Array]] = {
        name.removesuffix(".npy"): partial(_read_npz, opened, archive, name) for name in members
    }
    return parse_meta(_read_json(folder / "case.json"), folder / "case.json"), readers


def _read_json(path: Path) -> dict[str, object]:
    fields = read_json(path)
    if not isinstance(fields, dict):
        raise FormatError(f"a JSON {type(fields).__name__}, expected an object", path=path)
    return fields


def _check_member(file: zipfile.ZipFile, info: zipfile.ZipInfo, archive: Path) -> str:
    """Compares what the member's header promises with the bytes it has."""

    def flaw(message: str) -> FormatError:
        return FormatError(f"member '{info.filename}': {message}", path=archive)

    if not info.filename.endswith(".npy"):
        raise flaw("not an array (.npy)")
    if info.file_size > DEFLATE_LIMIT * (info.compress_size + 1):
        raise flaw(f"claims {info.file_size} bytes in {info.compress_size} compressed ones")
    with file.open(info) as stream:
        shape, _, dtype = _read_header(stream)
        start = stream.tell()
    if dtype != np.dtype("<f4"):
        raise flaw(f"dtype {dtype}, expected little-endian float32")
    if min(shape, default=0) < 0 or start + 4 * math.prod(shape) != info.file_size:
        raise flaw(f"shape {list(shape)} does not fit its {info.file_size} bytes")
    return info.filename


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a head that Python 2 wrote
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(stream)
        if version == (2, 0):
            return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"unknown .npy version {version}")


def _read_npz(opened: Callable[[], zipfile.ZipFile], archive: Path, name: str) -> Array:
    try:
        with opened().open(name) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(np.lib.format.read_array(stream, allow_pickle=False), np.float32)
    except (*NPZ_ERRORS, KeyError) as error:
        raise FormatError(f"member '{name}': {error}", path=archive) from error


# Recordings kept as one HDF5 file, as ``tools/record_caffe.py`` writes them.
#
# Groups ``input``, ``data``... hold one float32 dataset per blob, named by the blob with "%" and
# "/" escaped, each with the SHA-256 of its bytes; parameters are ``param/<layer>/<i>``. The root's
# attribute ``meta`` is JSON. All texts are of fixed length.

FORMAT = "caffe recording"
VERSION = "1"

HDF5_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError)


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
                readers[_unescape(address)] = partial(_read_hdf5, path, address)
    except HDF5_ERRORS as error:
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


def _read_hdf5(path: Path, address: str) -> Array:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            dataset = file[address]
            values = np.ascontiguousarray(dataset[()], np.float32).reshape(dataset.shape)
            wanted = _attribute(dataset, "sha256")
    except HDF5_ERRORS as error:
        raise FormatError(f"dataset '{address}': {error}", path=path) from error
    found = hashlib.sha256(values.tobytes()).hexdigest()
    if found != wanted:
        raise FormatError(
            f"dataset '{address}': its SHA-256 is {found}, {wanted} was recorded: damaged",
            path=path,
        )
    return values
