"""Weights as a PyTorch file: a plain dict of tensors and strings, loaded with weights_only.

    {"format": "caffe_port", "version": 1, "name": ..., "prototxt": ..., "metadata": {...},
     "layers": [[name, type, [keys]], ...], "legacy": [keys], "state_dict": {key: tensor}}

``torch.load(path, weights_only=True)["state_dict"]`` is what ``Net.load_state_dict`` takes.

A plain state dict, {key: tensor}, is another format, for other programs.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import torch

from caffe_port.errors import FormatError
from caffe_port.files import (
    TORCH_SIGNATURE,
    ZIP_SIGNATURE,
    AnyFile,
    atomic_path,
    explaining,
    read_head,
)
from caffe_port.interrupts import delayed_interrupt
from caffe_port.weights import state_dict
from caffe_port.weights.stored import (
    MappedFile,
    StateDict,
    StoredBlob,
    StoredLayer,
    WeightFile,
)

# the errors of torch.load for broken and foreign files
_BROKEN = (
    pickle.UnpicklingError, RuntimeError, ValueError, KeyError, TypeError, IndexError,
    AttributeError, OSError, AssertionError, EOFError, OverflowError, MemoryError,
    zipfile.BadZipFile, NotImplementedError, ImportError, UnicodeDecodeError, RecursionError,
)  # fmt: skip
_WRAPPERS = ("state_dict", "model_state_dict", "model")  # of checkpoints that hold more


def read_torch(file: AnyFile) -> WeightFile:
    """Reads a .pt file that ``write_torch`` wrote; its tensors stay in the mapped file.

    Args:
        file: its name, or the file where it is open already.
    Raises:
        FormatError: it is broken, written by another program, or would need to run code.
        OSError: it cannot be opened.
    """
    with _content(file) as (content, stored):
        return _weight_file(content, stored)


def read_torch_state(file: AnyFile) -> WeightFile | StateDict:
    """Reads a file as ``read_torch`` does, or the plain state dict of another program.

    Args:
        file: its name, or the file where it is open already.
    Raises:
        FormatError: it is broken, holds other than tensors, or would need to run code.
        OSError: it cannot be opened.
    """
    with _content(file, legacy=True) as (content, stored):
        if isinstance(content, dict) and content.get("format") == state_dict.FORMAT:
            return _weight_file(content, stored)
        tensors = _unwrapped(content)
        found = state_of(tensors)
        _check_storages(tensors, stored)
        return replace(found, format="pt")


@contextlib.contextmanager
def _content(file: AnyFile, legacy: bool = False) -> Iterator[tuple[Any, int]]:
    """What a file holds, and how many bytes its tensors have in it.

    Nothing in the file is run: it is loaded with ``weights_only=True``, after a check that its
    archive is not compressed and claims no more than the file holds. A file of torch before 1.6
    is no archive; its tensors are copied.
    """
    old = legacy and read_head(file).startswith(TORCH_SIGNATURE)
    with explaining(file, TORCH_SIGNATURE if old else ZIP_SIGNATURE):
        source = MappedFile(file)
        stored = source.size if old else _stored_bytes(source)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of odd pickles, then refuses them
                content = torch.load(
                    source.path, map_location="cpu", weights_only=True, mmap=not old
                )
        except _BROKEN as error:
            raise FormatError(f"torch cannot load it safely: {_reason(error)}") from error
        source.expect_current()
        yield content, stored


def write_torch(
    path: str | os.PathLike[str],
    layers: Sequence[StoredLayer],
    *,
    name: str = "",
    prototxt: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes the dict above, all of it or nothing; shared parameters keep sharing.

    Args:
        path: the file to make.
        layers: the weights; diffs are left out.
        name: the net's name.
        prototxt: the net's text, so that the file is complete.
        metadata: further strings to store.
    Raises:
        UsageError: see state_dict.flatten.
        OSError: the file cannot be written.
    """
    flat = state_dict.flatten(layers, "pt")
    tensors: dict[str, torch.Tensor] = {}
    for key, blob in flat.blobs.items():
        owner = flat.aliases.get(key)
        tensors[key] = tensors[owner] if owner else torch.from_numpy(blob.aligned())
    content = {
        "format": state_dict.FORMAT,
        "version": state_dict.VERSION,
        "name": name,
        "prototxt": prototxt,
        "metadata": dict(metadata or {}),
        "layers": flat.layers,
        "legacy": flat.legacy,
        "state_dict": tensors,
    }
    with atomic_path(path) as temporary:
        _save(content, temporary)


def write_torch_state(path: str | os.PathLike[str], state: StateDict) -> None:
    """Writes a plain state dict, which ``torch.load`` gives to ``load_state_dict``.

    The metadata is an attribute of the dict, where torch keeps its own.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        _save(tensors_of(state), temporary)


def tensors_of(state: StateDict) -> OrderedDict[str, torch.Tensor]:
    """A state dict as torch's modules take it."""
    tensors = OrderedDict(
        (key, torch.from_numpy(blob.aligned())) for key, blob in state.tensors.items()
    )
    # torch finds here what modules say of their part of the dict
    tensors._metadata = {state_dict.FORMAT: dict(state.metadata)}  # type: ignore[attr-defined]
    return tensors


def state_of(tensors: Mapping[str, torch.Tensor]) -> StateDict:
    """A dict of tensors as a StateDict, the inverse of ``tensors_of``.

    Raises:
        FormatError: it is not a dict of dense tensors by name.
    """
    if not isinstance(tensors, Mapping):
        raise FormatError(f"it holds a {type(tensors).__name__}, expected a dict of tensors")
    blobs = {str(key): _plain_blob(str(key), tensor) for key, tensor in tensors.items()}
    if not blobs:
        raise FormatError("it holds no tensors")
    kept = getattr(tensors, "_metadata", None)
    own = kept.get(state_dict.FORMAT, {}) if isinstance(kept, dict) else {}
    return StateDict(blobs, "", state_dict.check_strings(own))


def _unwrapped(content: object) -> Any:
    """The state dict of a training checkpoint, or the content itself."""
    if isinstance(content, dict) and not any(map(torch.is_tensor, content.values())):
        for name in _WRAPPERS:
            if isinstance(content.get(name), dict):
                return content[name]
    return content


def _plain_blob(key: str, tensor: object) -> StoredBlob:
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
        raise FormatError(f"'{key}' is not a dense tensor")
    values = tensor.detach().cpu()
    if values.dtype.is_complex or values.is_quantized or values.dtype.itemsize < 1:
        raise FormatError(f"'{key}' is {values.dtype}, expected floating point or integers")
    if values.numel() * values.element_size() > values.untyped_storage().nbytes():
        raise FormatError(f"'{key}' is an expanded tensor, which has fewer values than elements")
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    try:
        return StoredBlob(values.contiguous().numpy())
    except (TypeError, RuntimeError) as error:
        raise FormatError(f"'{key}' is {values.dtype}, expected float or integer") from error


def _save(content: object, path: Path) -> None:
    # into a stream: given a name, torch writes that name, here a random one, into the archive
    with path.open("wb") as stream:
        save(content, stream)


def save(content: object, stream: BinaryIO) -> None:
    """As torch.save, where the disk may be full. Raises OSError."""
    try:
        with delayed_interrupt():
            torch.save(content, stream)
    except RuntimeError as error:
        # closing the archive after an error of the disk raises a second error
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _stored_bytes(source: MappedFile) -> int:
    """The size of the archive's records in bytes, checked not to exceed the file."""
    try:
        with source.file.stream() as stream, zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
    except _BROKEN as error:
        raise FormatError(f"its zip archive is broken: {error}") from error
    names = [entry.filename for entry in entries]
    if not any(name.endswith("data.pkl") for name in names):
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        message = f"a zip archive of {len(names)} files ({shown}), none of PyTorch's: unpack it"
        raise FormatError(message)
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise FormatError("its zip archive is compressed, as torch's are not")
    total = sum(entry.file_size for entry in entries)
    if total > source.size:
        raise FormatError("its zip archive claims more than the file holds")
    return sum(entry.file_size for entry in entries if "/data/" in entry.filename)


def _reason(error: BaseException) -> str:
    """Why torch refused, without its advice to load the file unsafely."""
    wanted = re.search(r"GLOBAL (\S+)", str(error))
    if wanted:
        return f"it needs {wanted[1]} to be run"
    if isinstance(error, pickle.UnpicklingError):
        return "it holds other than plain tensors, strings, dicts and lists"
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _weight_file(content: object, stored: int) -> WeightFile:
    if not isinstance(content, dict):
        raise FormatError(f"it holds a {type(content).__name__}, expected a dict")
    state_dict.check_header(content.get("format"), content.get("version"))
    tensors, name = content.get("state_dict"), content.get("name", "")
    prototxt = content.get("prototxt")
    if not isinstance(tensors, dict):
        raise FormatError("it has no state_dict")
    if not isinstance(name, str) or not isinstance(prototxt, str | None):
        raise FormatError("its name and prototxt are not strings")
    blobs = {str(key): _blob(str(key), tensor) for key, tensor in tensors.items()}
    _check_storages(tensors, stored)
    return WeightFile(
        state_dict.unflatten(blobs, content.get("layers"), content.get("legacy", [])),
        "pt",
        name=name,
        prototxt=prototxt,
        metadata=state_dict.check_strings(content.get("metadata", {})),
    )


def _check_storages(tensors: Mapping[str, torch.Tensor], stored: int) -> None:
    storages = {tensor.untyped_storage().data_ptr(): tensor for tensor in tensors.values()}
    if sum(tensor.untyped_storage().nbytes() for tensor in storages.values()) > stored:
        raise FormatError("its tensors claim more than the file holds")


def _blob(key: str, tensor: object) -> StoredBlob:
    """A tensor as an array over the same memory.

    An expanded tensor claims more elements than it stores, so contiguity is asked for.
    """
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
        raise FormatError(f"'{key}' is not a dense tensor")
    if tensor.device.type != "cpu" or tensor.dtype not in (torch.float32, torch.float64):
        raise FormatError(f"'{key}' is {tensor.dtype} on {tensor.device}, expected float32 or 64")
    if not tensor.is_contiguous():
        raise FormatError(f"'{key}' is not contiguous")
    return StoredBlob(tensor.detach().numpy())
