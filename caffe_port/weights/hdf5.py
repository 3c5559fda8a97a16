"""Weights and solver states in HDF5.

Weights are ``/data/<layer>/<i>``, with one group per layer; the group of a layer called conv/bn is
inside the group of the layer conv. A parameter that several layers share is in its owner's group
only. ``/diff`` holds the gradients, for every layer. Solver states are `iter`, `learned_net`,
`current_step` and `history/<i>`.

Source: BVLC/caffe net.cpp, Net::ToHDF5 and CopyTrainedLayersFromHDF5; util/hdf5.cpp;
sgd_solver.cpp, SnapshotSolverStateToHDF5.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from caffe_port.errors import FormatError, UsageError, option
from caffe_port.files import HDF5_SIGNATURE, AnyFile, atomic_path, create, explaining
from caffe_port.proto.wire import MAX_NESTING
from caffe_port.weights.blobproto import MAX_AXES
from caffe_port.weights.caffemodel import MAX_LAYERS
from caffe_port.weights.solver_state import MAX_NAME, SolverState, counted, weights_name
from caffe_port.weights.stored import (
    Array,
    Identity,
    MappedFile,
    StoredBlob,
    StoredLayer,
    WeightFile,
    check_writable,
    identity,
)

# the errors of h5py for broken files
BROKEN = (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError)


@dataclass
class Reader:
    """An open file, and its blobs by address, so that shared blobs stay shared."""

    source: MappedFile
    known: dict[int, StoredBlob] = field(default_factory=dict)
    claimed: int = 0

    def blob(self, dataset: h5py.Dataset) -> StoredBlob:
        """Checks a dataset against the file and returns a view of it, or a copy where needed."""
        where, kind = dataset.name, dataset.dtype
        address = h5py.h5o.get_info(dataset.id).addr
        if address in self.known:
            return self.known[address]
        if kind.kind != "f" or kind.itemsize not in (4, 8):
            raise FormatError(f"{where} is {kind}, expected float32 or float64")
        if dataset.shape is None or len(dataset.shape) > MAX_AXES:
            raise FormatError(f"{where} has no shape, or one of over {MAX_AXES} axes")
        if dataset.is_virtual or dataset.external:
            raise FormatError(f"{where} keeps its values in other files, which is refused")
        size = math.prod(dataset.shape) * kind.itemsize
        self.claimed += size
        stored = dataset.id.get_storage_size()
        if size > stored or self.claimed > self.source.size:
            raise FormatError(
                f"{where} claims {dataset.shape} ({size} bytes), {stored} bytes are stored in a "
                f"file of {self.source.size}: it is cut, sparse or compressed, as Caffe's are not"
            )
        self.known[address] = blob = self._view(dataset)
        return blob

    def _view(self, dataset: h5py.Dataset) -> StoredBlob:
        offset, shape, dtype = dataset.id.get_offset(), dataset.shape, dataset.dtype
        count = math.prod(shape)
        if offset is None or count == 0:
            return StoredBlob(np.asarray(dataset[()], dtype.newbyteorder("=")))
        if offset + count * dtype.itemsize > self.source.size:
            raise FormatError(f"{dataset.name} is beyond the end of the file", offset=offset)

        def load() -> Array:
            return self.source.load(offset, count, dtype.str).reshape(shape)

        return StoredBlob(
            self.source.array(offset, count, dtype.str).reshape(shape),
            load=load,
        )


def read_hdf5(file: AnyFile) -> WeightFile:
    """Reads the weights Caffe writes with ``snapshot_format: HDF5``.

    The file names no types, and lists its layers by name. Layers that share a parameter which
    another one owns lack it here; ``StoredLayer.indices`` says which blobs are present.

    Args:
        file: its name, or the file where it is open already.
    Raises:
        FormatError: it is not HDF5 or not Caffe's layout; a link leads elsewhere; a dataset is
            not float32 or float64, or claims more than the file holds.
        OSError: it cannot be opened.
    """
    with explaining(file, HDF5_SIGNATURE):
        source = MappedFile(file)
        try:
            with h5py.File(source.path, "r") as content:
                source.expect_current()
                return WeightFile(tuple(_layers(content, Reader(source))), "caffemodel.h5")
        except BROKEN as error:
            raise FormatError(f"HDF5 cannot read it: {error}") from error


def _layers(file: h5py.File, reader: Reader) -> Iterator[StoredLayer]:
    data = subgroup(file, "data")
    if data is None and {"iter", "history"} <= set(file):
        hint = option("snapshot", "FILE")
        raise FormatError(
            "a solver state and no weights" + (f": give it as {hint}" if hint else "")
        )
    if data is None:
        raise FormatError(f"there is no group /data, as Caffe's weights have; found {list(file)}")
    diffs = subgroup(file, "diff")
    if len(data) == 0:
        raise FormatError("the group /data holds no layers")
    for name in data:
        if subgroup(data, name) is None:
            raise FormatError(f"/data/{name} is not a group, as each layer has")
    found = _nested(reader, data, diffs, "")
    for count, layer in enumerate(found):
        if count >= MAX_LAYERS:
            raise FormatError(f"the group /data holds over {MAX_LAYERS} layers")
        yield layer


def _nested(
    reader: Reader, data: h5py.Group, diffs: h5py.Group | None, prefix: str
) -> Iterator[StoredLayer]:
    """The layers of the groups in ``data``; that of conv/bn is inside that of conv."""
    if prefix.count("/") > MAX_NESTING:
        raise FormatError(f"groups are nested over {MAX_NESTING} deep")
    for key in data:
        group = subgroup(data, key)
        if group is None:
            continue  # a blob of the layer around it
        group_diffs = None if diffs is None else subgroup(diffs, key)
        keys = [key for key in group if subgroup(group, key) is None]
        indices = sorted(blob_index(group, key) for key in keys)
        blobs = tuple(_blob(reader, group, group_diffs, index) for index in indices)
        dense = indices == list(range(len(indices)))
        yield StoredLayer(prefix + key, "", blobs, () if dense else tuple(indices))
        yield from _nested(reader, group, group_diffs, f"{prefix}{key}/")


def _blob(reader: Reader, group: h5py.Group, diffs: h5py.Group | None, index: int) -> StoredBlob:
    blob = reader.blob(child_dataset(group, str(index)))
    if diffs is None or str(index) not in diffs:
        return blob
    diff = reader.blob(child_dataset(diffs, str(index))).data
    if diff.shape != blob.data.shape:
        raise FormatError(f"{diffs.name}/{index} is {diff.shape}, its blob is {blob.data.shape}")
    return StoredBlob(blob.data, diff=diff, load=blob.load)


def blob_index(group: h5py.Group, key: str) -> int:
    """The number a dataset is named by, in the one spelling Caffe uses."""
    if not (key.isascii() and key.isdigit() and len(key) < 6 and str(int(key)) == key):
        raise FormatError(f"{group.name}/{key} is not named by a number, as Caffe's blobs are")
    return int(key)


def _member(group: h5py.Group, name: str) -> Any:
    """A member reached by a hard link, the only kind that cannot lead out of the file."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise FormatError(f"{group.name}/{name} is a soft or external link, which is refused")
    return group[name]


def subgroup(parent: h5py.Group, name: str) -> h5py.Group | None:
    """A subgroup, or None if there is no such group."""
    if name not in parent.keys():  # noqa: SIM118 - "in" alone would follow links
        return None
    member = _member(parent, name)
    return member if isinstance(member, h5py.Group) else None


def child_dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    member = _member(group, name)
    if not isinstance(member, h5py.Dataset):
        raise FormatError(f"{group.name}/{name} is not a dataset, as a blob is")
    return member


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Gives an HDF5 file to fill, which appears at ``path`` whole or not at all.

    It is made in memory: where the disk fills up, HDF5's own writing ends the process.

    Raises:
        OSError: the file cannot be written.
    """
    options = {"driver": "core", "backing_store": False, "block_size": 2**20}
    with h5py.File(os.fspath(path), "w", **options) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    with atomic_path(path) as temporary, create(temporary) as stream:
        stream.write(image)


def write_hdf5(path: str | os.PathLike[str], layers: Sequence[StoredLayer]) -> None:
    """Writes Caffe's HDF5 weights, all of it or nothing.

    Of blobs over the very same memory only the first is written, as Caffe does for a shared
    parameter. Layers of one name share a group, which at most one of them may have blobs for; Caffe
    itself writes no such file. Diffs, where there are any, go to ``/diff``.

    Raises:
        UsageError: a blob is neither float32 nor float64, or is legacy, whose 4-D shape HDF5
            readers refuse; a layer's name is no name of one HDF5 group, or two with blobs have it.
        OSError: the file cannot be written.
    """
    check_writable(layers)
    _check_layers(layers)
    owned: set[Identity] = set()
    with new_file(path) as file:
        data = file.create_group("data")
        diffs = None
        if any(blob.diff is not None for layer in layers for blob in layer.blobs):
            diffs = file.create_group("diff")
        for layer in layers:
            group = data.require_group(layer.name)
            group_diffs = None if diffs is None else diffs.require_group(layer.name)
            for index, blob in layer.numbered():
                same = identity(blob.data)
                if same not in owned:
                    if str(index) in group:
                        raise UsageError(
                            f"two layers with blobs of their own are named '{layer.name}', and "
                            "HDF5 holds each name once; write .caffemodel"
                        )
                    group.create_dataset(str(index), data=blob.data)
                if same is not None:
                    owned.add(same)
                if (
                    group_diffs is not None
                    and blob.diff is not None
                    and (str(index) not in group_diffs)
                ):
                    group_diffs.create_dataset(str(index), data=blob.diff)


def check_names(names: Sequence[str]) -> None:
    """Raises UsageError where a layer's name cannot be a group of a file."""
    for name in names:
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise UsageError(
                f"layer {name!r} cannot be a group of Caffe's HDF5 layout: write .caffemodel "
                "(a solver: snapshot_format: BINARYPROTO)"
            )


def _check_layers(layers: Sequence[StoredLayer]) -> None:
    check_names([layer.name for layer in layers])
    for layer in layers:
        if any(blob.legacy for blob in layer.blobs):
            raise UsageError(
                f"layer '{layer.name}' has blobs in the legacy 4-D shape, which HDF5 cannot mark: "
                "load the weights into their net and write them from there"
            )


_MEMBERS = ("iter", "learned_net", "current_step", "history")


def is_solver_state(path: str | os.PathLike[str]) -> bool:
    """Whether an HDF5 file is laid out like a solver state and not like weights."""
    try:
        with h5py.File(path, "r") as content:
            names = set(content.keys())
    except BROKEN:
        return False
    return {"iter", "history"} <= names and "data" not in names


def read(file: AnyFile) -> SolverState:
    """Does the work of ``solver_state.read_solver_state``."""
    with explaining(file, HDF5_SIGNATURE):
        source = MappedFile(file)
        try:
            with h5py.File(source.path, "r") as content:
                source.expect_current()
                for name in _MEMBERS:
                    if name not in content.keys():  # noqa: SIM118 - "in" alone would follow links
                        raise FormatError(f"no '{name}', which every solver state has")
                return SolverState(
                    _integer(child_dataset(content, "iter")),
                    _string(child_dataset(content, "learned_net")),
                    _integer(child_dataset(content, "current_step")),
                    tuple(_history(content, Reader(source))),
                )
        except BROKEN as error:
            raise FormatError(f"HDF5 cannot read it: {error}") from error


def _history(file: h5py.File, reader: Reader) -> Iterator[Array]:
    group = subgroup(file, "history")
    if group is None:
        raise FormatError("/history is not a group")
    indices = sorted(blob_index(group, key) for key in group)
    if indices != list(range(len(indices))):
        raise FormatError("/history lacks blobs between 0 and its last")
    for index in indices:
        yield reader.blob(child_dataset(group, str(index))).aligned()


def _integer(dataset: h5py.Dataset) -> int:
    _check_inside(dataset)
    if dataset.dtype.kind not in "iu" or dataset.shape not in ((), (1,)):
        found = f"{dataset.dtype} {dataset.shape}"
        raise FormatError(f"{dataset.name} is {found}, expected one integer")
    return counted(int(dataset[()].reshape(-1)[0]))


def _string(dataset: h5py.Dataset) -> str:
    _check_inside(dataset)
    if dataset.dtype.kind != "S" or dataset.shape != () or dataset.dtype.itemsize > MAX_NAME:
        found = f"{dataset.dtype} {dataset.shape}"
        raise FormatError(f"{dataset.name} is {found}, expected a short string of fixed length")
    return weights_name(bytes(dataset[()]))


def _check_inside(dataset: h5py.Dataset) -> None:
    if dataset.is_virtual or dataset.external:
        raise FormatError(f"{dataset.name} keeps its values in other files, which is refused")


def write(path: str | os.PathLike[str], state: SolverState) -> None:
    """Does the work of ``solver_state.write_solver_state``."""
    text = state.learned_net.encode(errors="surrogateescape")
    with new_file(path) as file:
        file.create_dataset("iter", data=np.array([state.iter], np.int32))
        # ended by a zero, as Caffe reads it; h5py's own strings are padded instead
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(len(text) + 1)
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        stored = h5py.h5d.create(file.id, b"learned_net", kind, space)
        stored.write(space, space, np.array(text, f"S{len(text) + 1}"), kind)
        file.create_dataset("current_step", data=np.array([state.current_step], np.int32))
        history = file.create_group("history")
        for index, array in enumerate(state.history):
            history.create_dataset(str(index), data=array)
