"""The programs ``convert_mnist_data`` and ``convert_mnist_siamese_data``: MNIST as a database.

Source: BVLC/caffe examples/mnist/convert_mnist_data.cpp, examples/siamese/
convert_mnist_siamese_data.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from caffe_port.cli.caffe_tools._program import expect, run
from caffe_port.cli.caffe_tools.compute_image_mean import BACKEND
from caffe_port.cli.gflags import Flag, Flags
from caffe_port.solver.log import log

if TYPE_CHECKING:
    import numpy.typing as npt

    from caffe_port.data.rng import CaffeRandom

_MNIST, _SIAMESE = "convert_mnist_data", "convert_mnist_siamese_data"
_ARGUMENTS = "[flags] INPUT_IMAGE_FILE INPUT_LABEL_FILE OUTPUT_DB"
_SIAMESE_FLAGS = {
    "backend": Flag("leveldb", BACKEND.help),
    "random_seed": Flag(-1, "Draw the pairs from this seed; upstream's differ at every run."),
}


def _datum(pixels: npt.NDArray[np.uint8], label: int) -> bytes:
    """A record of (C, H, W) pixels."""
    from caffe_port.proto import caffe_pb2

    channels, height, width = pixels.shape
    datum = caffe_pb2.Datum(channels=channels, height=height, width=width, label=label)
    datum.data = pixels.tobytes()
    return datum.SerializeToString()


def _mnist(flags: Flags, others: list[str]) -> None:
    from caffe_port.data.database import write_database
    from caffe_port.data.idx import read_mnist

    expect(others, 3, 3, f"{_MNIST} {_ARGUMENTS}")
    images, labels = read_mnist(*others[:2])
    _log_sizes(images, _MNIST, 88)
    records = (
        (b"%08d" % i, _datum(image[None], int(label)))
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    )
    count = write_database(others[2], records, flags.backend)
    log(f"Processed {count} files.", place=f"{_MNIST}.cpp:108")


def _siamese(flags: Flags, others: list[str]) -> None:
    from caffe_port.data.database import write_database
    from caffe_port.data.idx import read_mnist
    from caffe_port.data.rng import CaffeRandom

    expect(others, 3, 3, f"{_SIAMESE} {_ARGUMENTS}")
    images, labels = read_mnist(*others[:2])
    _log_sizes(images, _SIAMESE, 85)
    random = CaffeRandom(None if flags.random_seed < 0 else flags.random_seed)
    write_database(others[2], _pairs(images, labels, random), flags.backend)


def _pairs(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int8], random: CaffeRandom
) -> Iterator[tuple[bytes, bytes]]:
    """As many random pairs as there are images, labelled 1 where both show the same digit."""
    for item in range(len(images)):
        i, j = random.rand(len(images)), random.rand(len(images))
        yield b"%08d" % item, _datum(images[[i, j]], int(labels[i] == labels[j]))


def _log_sizes(images: npt.NDArray[np.uint8], program: str, line: int) -> None:
    count, rows, columns = images.shape
    log(f"A total of {count} items.", place=f"{program}.cpp:{line}")
    log(f"Rows: {rows} Cols: {columns}", place=f"{program}.cpp:{line + 1}")


def main(arguments: Sequence[str] | None = None) -> int:
    """convert_mnist_data; see ``run`` for the exit status."""
    about = f"{_MNIST} {_ARGUMENTS}"
    return run(_MNIST, _mnist, {"backend": BACKEND}, about, arguments)


def siamese(arguments: Sequence[str] | None = None) -> int:
    """convert_mnist_siamese_data; see ``run`` for the exit status."""
    return run(_SIAMESE, _siamese, _SIAMESE_FLAGS, f"{_SIAMESE} {_ARGUMENTS}", arguments)
