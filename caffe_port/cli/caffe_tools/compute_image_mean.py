"""The program ``compute_image_mean``: the mean image of a database.

Source: BVLC/caffe tools/compute_image_mean.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_port.cli.caffe_tools._program import expect, run
from caffe_port.cli.gflags import Flag, Flags
from caffe_port.errors import DataError
from caffe_port.solver.log import log as write

_ABOUT = "compute_image_mean [flags] INPUT_DB [OUTPUT_FILE]"
BACKEND = Flag("lmdb", "The kind of database: lmdb, or leveldb, which needs the package plyvel.")


def _log(message: str, line: int) -> None:
    write(message, place=f"compute_image_mean.cpp:{line}")


def _body(flags: Flags, others: list[str]) -> None:
    from caffe_port.data.database import open_database, read_datum
    from caffe_port.weights import write_mean

    expect(others, 1, 2, _ABOUT)
    database = open_database(others[0], flags.backend)
    _log("Starting iteration", 70)
    # float32 as upstream, so that the sums are rounded as Caffe's
    total, count = np.zeros(0, np.float32), 0
    for key, record in database:
        where = f"{database.path}: record {key[:80]!r}"
        values = read_datum(record, where).values
        if not count:
            total = np.zeros(values.shape, np.float32)
        if values.shape != total.shape:
            raise DataError(f"{where}: {values.shape}; the first one is {total.shape}")
        total += values.astype(np.float32)
        count += 1
        if count % 10000 == 0:
            _log(f"Processed {count} files.", 95)
    if count % 10000:
        _log(f"Processed {count} files.", 101)
    mean = total / np.float32(count)
    if len(others) == 2:
        _log(f"Write to {others[1]}", 108)
        write_mean(others[1], mean)
    _log(f"Number of channels: {len(mean)}", 114)
    for c, channel in enumerate(mean):
        _log(f"mean_value channel [{c}]: {channel.mean(dtype=np.float64):g}", 119)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; see ``run`` for the exit status."""
    return run("compute_image_mean", _body, {"backend": BACKEND}, _ABOUT, arguments)
