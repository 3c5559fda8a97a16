"""Solver states: the iteration, the weights' file and the history, in binary.

Source: BVLC/caffe caffe.proto, SolverState; sgd_solver.cpp, SnapshotSolverStateToBinaryProto.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from caffe_port.errors import FormatError, UsageError, option
from caffe_port.files import (
    HDF5_SIGNATURE,
    AnyFile,
    OpenFile,
    atomic_path,
    create,
    explaining,
    name_of,
    open_file,
    read_head,
)
from caffe_port.proto import wire
from caffe_port.weights import read_weights
from caffe_port.weights.blobproto import INT_MAX, encode_blob, raw_bytes, read_blob, warn_of_unknown
from caffe_port.weights.stored import (
    Array,
    MappedFile,
    StoredBlob,
    StoredLayer,
    check_writable,
)

MAX_NAME = 65536


@dataclass(frozen=True, eq=False)
class SolverState:
    """What a solver needs besides the weights to resume.

    Attributes:
        iter: the number of finished iterations.
        learned_net: the name of the file with the weights of that iteration.
        current_step: the number of steps of the learning rate (step, multistep).
        history: momentum, or other history, per learnable parameter; Adam and AdaDelta have two:
            all the first ones, then all the second. float32 or float64; DeepLab v1 pads the shapes
            to four axes.
    """

    iter: int
    learned_net: str
    current_step: int
    history: tuple[Array, ...]


def counted(value: int, offset: int | None = None) -> int:
    """A count of iterations or steps, checked to fit Caffe's int."""
    if not 0 <= value <= INT_MAX:
        raise FormatError(f"{value} iterations or steps; Caffe counts to 2^31 - 1", offset=offset)
    return value


def weights_name(text: bytes | memoryview, offset: int | None = None) -> str:
    """``learned_net``, checked to be a file's name; other encodings are kept printable."""
    if len(text) > MAX_NAME:
        raise FormatError(f"a learned_net of {len(text)} bytes", offset=offset)
    return bytes(text).decode(errors="backslashreplace")


__all__ = ["SolverState", "is_solver_state", "read_solver_state", "write_solver_state"]

MAX_HISTORY = 65536

_ITER, _LEARNED_NET, _HISTORY, _CURRENT_STEP = 1, 2, 3, 4


def is_solver_state(file: AnyFile) -> bool:
    """Whether a file starts like a solver state, or has its HDF5 layout."""
    head = read_head(file)
    if head.startswith(HDF5_SIGNATURE):
        from caffe_port.weights import hdf5

        return hdf5.is_solver_state(name_of(file))
    try:
        view, pos = memoryview(head), 0
        kinds = []
        for _ in range(2):
            tag, pos = wire.read_varint(view, pos, len(view))
            kinds.append((tag >> 3, tag & 7))
            _, pos = wire.read_varint(view, pos, len(view))
    except FormatError:
        return False
    return kinds[0] == (_ITER, wire.VARINT) and kinds[1][1] == wire.BYTES


def read_solver_state(file: AnyFile) -> SolverState:
    """Reads a .solverstate or .solverstate.h5, recognised by its content.

    Args:
        file: its name, or the file where it is open already.
    Raises:
        FormatError: the file is not a solver state, is broken, or holds weights.
        OSError: it cannot be opened.
    """
    file = open_file(file)
    if not is_solver_state(file):
        _refuse_weights(file)
    if file.head.startswith(HDF5_SIGNATURE):
        from caffe_port.weights import hdf5

        return hdf5.read(file)
    with explaining(file):
        return _read_binary(MappedFile(file))


def _refuse_weights(file: OpenFile) -> None:
    """Raises FormatError for a weight file, which is often given in place of the state."""
    try:
        layers = len(read_weights(file).layers)
    except FormatError:
        return  # neither; reading it as a state says why
    state = file.path.replace(".caffemodel", ".solverstate")
    advice = f"resume from {state}" if os.path.exists(state) else "resume from a .solverstate"
    raise FormatError(
        f"weights of {layers} layers and no solver state: {advice}, or start a new training with "
        f"{option('weights', file.path)}",
        path=file.path,
    )


def write_solver_state(path: str | os.PathLike[str], state: SolverState) -> None:
    """Writes a solver state that Caffe reads, all of it or nothing.

    Args:
        path: the file to make; `.h5` is HDF5, `.solverstate` binary.
        state: what to write.
    Raises:
        UsageError: another suffix, a number that 32 bits do not hold, a history that is not float32
            or float64, or a binary file beyond protobuf's 2 GB.
        OSError: the file cannot be written.
    """
    name = os.fspath(path)
    if not name.endswith((".solverstate", ".h5")):
        raise UsageError(f"{name}: unknown suffix: expected .solverstate or .solverstate.h5")
    if not (0 <= state.iter <= INT_MAX and 0 <= state.current_step <= INT_MAX):
        raise UsageError(f"iter {state.iter}, current_step {state.current_step}: beyond 32 bits")
    if "\0" in state.learned_net:
        raise UsageError(f"learned_net {state.learned_net!r} holds a zero byte")
    check_writable([StoredLayer("history", "", tuple(map(StoredBlob, state.history)))])
    if name.endswith(".h5"):
        from caffe_port.weights import hdf5

        hdf5.write(path, state)
    else:
        _write_binary(path, state)


def _read_binary(source: MappedFile) -> SolverState:
    numbers = {_ITER: 0, _CURRENT_STEP: 0}
    seen, learned_net = False, ""
    history: list[StoredBlob] = []
    for item in wire.fields(source.view, budget=source.budget):
        if item.number in numbers:
            wire.expect(item, wire.VARINT, "iter or current_step")
            numbers[item.number] = counted(wire.signed(item.value), item.offset)
        elif item.number == _LEARNED_NET:
            wire.expect(item, wire.BYTES, "learned_net")
            learned_net = weights_name(source.view[item.start : item.end], item.offset)
        elif item.number == _HISTORY:
            wire.expect(item, wire.BYTES, "history")
            if len(history) >= MAX_HISTORY:
                raise FormatError(f"over {MAX_HISTORY} blobs of history", offset=item.offset)
            history.append(_history_blob(source, item, len(history)))
        seen |= item.number == _ITER
    if not seen:
        raise FormatError("no iteration (field 1), which every solver state has")
    warn_of_unknown(source.path, ((f"history {i}", blob) for i, blob in enumerate(history)))
    arrays = tuple(blob.aligned() for blob in history)
    return SolverState(numbers[_ITER], learned_net, numbers[_CURRENT_STEP], arrays)


def _history_blob(source: MappedFile, item: wire.Field, index: int) -> StoredBlob:
    try:
        return read_blob(source, item.start, item.end)
    except FormatError as error:
        raise FormatError(f"history {index}: {error.message}", offset=error.offset) from error


def _write_binary(path: str | os.PathLike[str], state: SolverState) -> None:
    head = wire.encode_int(_ITER, state.iter)
    head += wire.encode_bytes(_LEARNED_NET, state.learned_net.encode(errors="surrogateescape"))
    blobs = [encode_blob(StoredBlob(array)) for array in state.history]
    if len(head) + sum(blob.size + 11 for blob in blobs) > INT_MAX:
        raise UsageError(f"{os.fspath(path)}: over protobuf's limit of {INT_MAX} bytes; write .h5")
    with atomic_path(path) as temporary, create(temporary) as stream:
        stream.write(head)
        for blob in blobs:
            stream.write(wire.encode_header(_HISTORY, blob.size))
            for part in blob.parts:
                stream.write(raw_bytes(part))
        stream.write(wire.encode_int(_CURRENT_STEP, state.current_step))
