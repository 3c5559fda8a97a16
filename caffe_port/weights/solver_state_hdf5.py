"""Solver states in HDF5: `iter`, `learned_net`, `current_step` and `history/<i>`.

Source: BVLC/caffe sgd_solver.cpp, SnapshotSolverStateToHDF5; util/hdf5.cpp.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import h5py
import numpy as np

from caffe_port.errors import FormatError
from caffe_port.sniff import HDF5_SIGNATURE, explaining
from caffe_port.weights.hdf5 import BROKEN, Reader, blob_index, child_dataset, new_file, subgroup
from caffe_port.weights.mapped import MappedFile
from caffe_port.weights.stored import Array
from caffe_port.weights.stored_state import MAX_NAME, SolverState, counted, weights_name

_MEMBERS = ("iter", "learned_net", "current_step", "history")


def is_solver_state(path: str | os.PathLike[str]) -> bool:
    """Whether an HDF5 file is laid out like a solver state and not like weights."""
    try:
        with h5py.File(path, "r") as file:
            names = set(file.keys())
    except BROKEN:
        return False
    return {"iter", "history"} <= names and "data" not in names


def read(path: str | os.PathLike[str]) -> SolverState:
    """Does the work of ``solver_state.read_solver_state``."""
    with explaining(path, HDF5_SIGNATURE):
        source = MappedFile(path)
        try:
            with h5py.File(path, "r") as file:
                for name in _MEMBERS:
                    if name not in file.keys():  # noqa: SIM118 - "in" alone would follow links
                        raise FormatError(f"no '{name}', which every solver state has")
                return SolverState(
                    _integer(child_dataset(file, "iter")),
                    _string(child_dataset(file, "learned_net")),
                    _integer(child_dataset(file, "current_step")),
                    tuple(_history(file, Reader(source))),
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
