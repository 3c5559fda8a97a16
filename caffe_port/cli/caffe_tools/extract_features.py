"""The program ``extract_features``: blobs of a net, item by item, become databases.

Source: BVLC/caffe tools/extract_features.cpp.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING

import numpy as np

from caffe_port.cli.caffe_tools._net import allow, use_device
from caffe_port.cli.caffe_tools._program import NET_FLAGS, expect, run
from caffe_port.cli.gflags import Flags
from caffe_port.errors import UsageError
from caffe_port.solver.log import ERROR
from caffe_port.solver.log import log as write

if TYPE_CHECKING:
    from caffe_port.live.net import Net

_ABOUT = (
    "extract_features WEIGHTS NET_PROTOTXT BLOB[,BLOB..] DATABASE[,DATABASE..] BATCHES "
    "lmdb|leveldb [CPU|GPU] [DEVICE_ID=0]"
)


def _log(message: str, line: int) -> None:
    write(message, ERROR, place=f"extract_features.cpp:{line}")  # upstream's severity, too


def _log_device(gpu: int | None) -> None:
    if gpu is None:
        _log("Using CPU", 62)
        return
    _log("Using GPU", 52)
    _log(f"Using Device_id={gpu}", 58)


def _body(flags: Flags, others: list[str]) -> None:
    from caffe_port.data.database import check_backend, write_database
    from caffe_port.live.net import Net
    from caffe_port.proto import caffe_pb2

    expect(others, 6, 8, _ABOUT)
    weights, prototxt, blobs, databases, batches, backend, *device = others
    check_backend(backend)
    gpu = use_device((device[1] if len(device) > 1 else "0") if device[:1] == ["GPU"] else "")
    _log_device(gpu)
    names, folders = blobs.split(","), databases.split(",")
    if len(names) != len(folders):
        raise UsageError(f"{len(names)} blobs for {len(folders)} databases")
    if not (batches.isascii() and batches.isdigit()):
        raise UsageError(f"the number of batches is '{batches}'; expected a whole number")
    allow(flags)
    net = Net(prototxt, phase=caffe_pb2.TEST, weights=weights)
    for name in names:
        if name not in net.blobs:
            raise UsageError(f"{prototxt}: no blob '{name}'; there are {', '.join(net.blobs)}")
    _log("Extracting Features", 133)
    with ExitStack() as stack:
        files = {name: stack.enter_context(tempfile.TemporaryFile()) for name in names}
        shapes = _extract(net, files, int(batches))
        for name, folder in zip(names, folders, strict=True):
            records = _records(files[name], shapes.get(name, []))
            count = write_database(folder, records, backend)
            _log(f"Extracted features of {count} query images for feature blob {name}", 176)
    _log("Successfully extracted the features!", 181)


def _extract(
    net: Net, files: Mapping[str, IO[bytes]], batches: int
) -> dict[str, list[tuple[int, ...]]]:
    """Runs the net; puts the blobs' items into files, and returns their shapes."""
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for _ in range(batches):
        net._forward(0, len(net.layers) - 1)
        for name, file in files.items():
            values = np.ascontiguousarray(net.blobs[name].data, np.float32)
            file.write(values.tobytes())
            shapes.setdefault(name, []).extend([values.shape[1:]] * len(values))
    return shapes


def _records(file: IO[bytes], shapes: Sequence[tuple[int, ...]]) -> Iterator[tuple[bytes, bytes]]:
    from caffe_port.proto import caffe_pb2

    file.seek(0)
    for i, shape in enumerate(shapes):
        values = np.frombuffer(file.read(4 * int(np.prod(shape))), np.float32)
        channels, height, width = (*shape, 1, 1, 1)[:3]
        datum = caffe_pb2.Datum(channels=channels, height=height, width=width)
        datum.float_data.extend(values.tolist())
        yield b"%010d" % i, datum.SerializeToString()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; see ``run`` for the exit status."""
    return run("extract_features", _body, NET_FLAGS, _ABOUT, arguments)
