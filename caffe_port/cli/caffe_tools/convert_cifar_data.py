"""The program ``convert_cifar_data``: CIFAR-10's binary batches as two databases.

Source: BVLC/caffe examples/cifar10/convert_cifar_data.cpp.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from caffe_port.cli.caffe_tools._program import expect, run
from caffe_port.cli.gflags import Flags
from caffe_port.errors import DataError
from caffe_port.solver.log import log

_PROGRAM = "convert_cifar_data"
_ABOUT = f"{_PROGRAM} INPUT_FOLDER OUTPUT_FOLDER lmdb|leveldb"
_SIDE, _CHANNELS = 32, 3
_RECORD = 1 + _CHANNELS * _SIDE * _SIDE  # a label, then the planes of red, green and blue
_BATCH = 10_000  # records of a file
_TRAINING = 5  # files


def _body(flags: Flags, others: list[str]) -> None:
    from caffe_port.data.database import check_backend, write_database

    expect(others, 3, 3, _ABOUT)
    source, target, backend = Path(others[0]), Path(others[1]), check_backend(others[2])
    log("Writing Training data", place=f"{_PROGRAM}.cpp:52")
    write_database(target / f"cifar10_train_{backend}", _training(source), backend)
    log("Writing Testing data", place=f"{_PROGRAM}.cpp:73")
    test = _records(source / "test_batch.bin", 0)
    write_database(target / f"cifar10_test_{backend}", test, backend)


def _training(folder: Path) -> Iterator[tuple[bytes, bytes]]:
    for number in range(_TRAINING):
        log(f"Training Batch {number + 1}", place=f"{_PROGRAM}.cpp:55")
        yield from _records(folder / f"data_batch_{number + 1}.bin", number * _BATCH)


def _records(path: Path, first: int) -> Iterator[tuple[bytes, bytes]]:
    """The keys and Datum messages of one file.

    Raises:
        DataError: missing, or of another size than a batch.
    """
    from caffe_port.files import open_regular
    from caffe_port.proto import caffe_pb2

    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size != _BATCH * _RECORD:
                raise DataError(
                    f"{path}: {size} bytes; a batch of CIFAR-10's binary version has "
                    f"{_BATCH * _RECORD}, {_BATCH} images of {_RECORD}"
                )
            for item in range(_BATCH):
                record = stream.read(_RECORD)
                datum = caffe_pb2.Datum(channels=_CHANNELS, height=_SIDE, width=_SIDE)
                datum.label, datum.data = record[0], record[1:]
                yield b"%05d" % (first + item), datum.SerializeToString()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; see ``run`` for the exit status."""
    return run(_PROGRAM, _body, {}, _ABOUT, arguments)
