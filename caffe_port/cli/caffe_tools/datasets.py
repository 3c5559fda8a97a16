"""Caffe's programs that make databases and means."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caffe_port.cli.caffe_tools._program import expect, run
from caffe_port.cli.gflags import Flag, Flags
from caffe_port.errors import DataError, UsageError
from caffe_port.solver.log import ERROR, log
from caffe_port.solver.log import log as write

if TYPE_CHECKING:
    import numpy.typing as npt

    from caffe_port.data.image_list import Line
    from caffe_port.data.images import Bytes
    from caffe_port.data.rng import CaffeRandom
    from caffe_port.proto import caffe_pb2


# The program ``compute_image_mean``: the mean image of a database.
#
# Source: BVLC/caffe tools/compute_image_mean.cpp.

_ABOUT_compute_image_mean = "compute_image_mean [flags] INPUT_DB [OUTPUT_FILE]"
BACKEND = Flag("lmdb", "The kind of database: lmdb, or leveldb, which needs the package plyvel.")


def _log_compute_image_mean(message: str, line: int) -> None:
    write(message, place=f"compute_image_mean.cpp:{line}")


def _body_compute_image_mean(flags: Flags, others: list[str]) -> None:
    from caffe_port.data.database import open_database, read_datum
    from caffe_port.weights import write_mean

    expect(others, 1, 2, _ABOUT_compute_image_mean)
    database = open_database(others[0], flags.backend)
    _log_compute_image_mean("Starting iteration", 70)
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
            _log_compute_image_mean(f"Processed {count} files.", 95)
    if count % 10000:
        _log_compute_image_mean(f"Processed {count} files.", 101)
    mean = total / np.float32(count)
    if len(others) == 2:
        _log_compute_image_mean(f"Write to {others[1]}", 108)
        write_mean(others[1], mean)
    _log_compute_image_mean(f"Number of channels: {len(mean)}", 114)
    for c, channel in enumerate(mean):
        _log_compute_image_mean(
            f"mean_value channel [{c}]: {channel.mean(dtype=np.float64):g}", 119
        )


def compute_image_mean(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; see ``run`` for the exit status."""
    return run(
        "compute_image_mean",
        _body_compute_image_mean,
        {"backend": BACKEND},
        _ABOUT_compute_image_mean,
        arguments,
    )


# The program ``convert_imageset``: a list of images and class numbers becomes a database.
#
# Source: BVLC/caffe tools/convert_imageset.cpp; io.cpp, ReadImageToDatum.

_ABOUT_convert_imageset = "convert_imageset [flags] ROOTFOLDER/ LISTFILE DB_NAME"
FLAGS = {
    "gray": Flag(False, "Read the images as grey ones."),
    "shuffle": Flag(False, "Shuffle the list first."),
    "backend": BACKEND,
    "resize_width": Flag(0, "Bring the images to this width; with -resize_height."),
    "resize_height": Flag(0, "Bring the images to this height; with -resize_width."),
    "check_size": Flag(False, "Refuse images of another size than the first."),
    "encoded": Flag(False, "Store the images encoded, as JPEG or PNG."),
    "encode_type": Flag("", "How: 'png' or 'jpg'; by the file's name where it is not given."),
}
_FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "bmp": "BMP"}


def _log_convert_imageset(message: str, line: int, severity: int = 0) -> None:
    """Writes a line of the log with the line that it has in Caffe's source; 1 for our own."""
    write(message, severity, place=f"convert_imageset.cpp:{line}")


def _body_convert_imageset(flags: Flags, others: list[str]) -> None:
    from caffe_port.data.database import write_database
    from caffe_port.data.image_list import read_labelled
    from caffe_port.data.rng import CaffeRandom

    expect(others, 3, 3, _ABOUT_convert_imageset)
    if flags.encode_type and flags.encode_type not in _FORMATS:
        raise UsageError(f"-encode_type is '{flags.encode_type}'; known are {', '.join(_FORMATS)}")
    root, listed, database = others
    lines = read_labelled(listed)
    if flags.shuffle:
        _log_convert_imageset("Shuffling data", 86)
        CaffeRandom().shuffle(lines)
    _log_convert_imageset(f"A total of {len(lines)} images.", 89)
    if flags.encode_type and not flags.encoded:
        _log_convert_imageset("encode_type specified, assuming encoded=true.", 92)
    count = write_database(database, _records_convert_imageset(root, lines, flags), flags.backend)
    _log_convert_imageset(f"Processed {count} files.", 153)


def _records_convert_imageset(
    root: str, lines: Sequence[Line], flags: Flags
) -> Iterator[tuple[bytes, bytes]]:
    """Keys and Datum messages; images that cannot be read are left out, as upstream does."""
    first: tuple[int, ...] = ()
    done = missed = 0
    for number, line in enumerate(lines):
        try:
            datum, shape = _datum_convert_imageset(root, line, flags)
        except DataError as error:
            _log_convert_imageset(f"{line.where}: {error}", 1, ERROR)
            missed += 1
            continue
        first = first or shape
        if flags.check_size and shape != first:
            raise DataError(f"{line.where}: {line.image} is {shape}, the first one is {first}")
        yield f"{number:08d}_{line.image}".encode(), datum.SerializeToString()
        done += 1
        if done % 1000 == 0 and number + 1 < len(lines):
            _log_convert_imageset(f"Processed {done} files.", 147)
    if missed:
        _log_convert_imageset(
            f"{missed} of {len(lines)} images could not be read and are left out.", 1, ERROR
        )


def _datum_convert_imageset(
    root: str, line: Line, flags: Flags
) -> tuple[caffe_pb2.Datum, tuple[int, ...]]:
    from caffe_port.data.image_list import read_image
    from caffe_port.proto import caffe_pb2

    size = (flags.resize_height, flags.resize_width)
    path = root + line.image
    image = read_image(path, size if min(size) > 0 else None, not flags.gray)
    # upstream writes the flag even where it is false
    datum = caffe_pb2.Datum(label=line.label, encoded=False)
    kind = flags.encode_type or (Path(path).suffix[1:].lower() if flags.encoded else "")
    if kind:
        datum.encoded = True
        datum.data = _encoded(path, image, kind, min(size) > 0, flags.gray)
    else:
        datum.height, datum.width, datum.channels = image.shape
        datum.data = image.transpose(2, 0, 1).tobytes()
    return datum, image.shape


def _encoded(path: str, image: Bytes, kind: str, resized: bool, gray: bool) -> bytes:
    """The file as it is where nothing changes, else the picture encoded anew."""
    from PIL import Image

    if kind not in _FORMATS:
        raise DataError(f"{path}: no encoding '{kind}'; give -encode_type")
    if not resized and not gray and Path(path).suffix[1:].lower() == kind:
        return Path(path).read_bytes()
    pixels = image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image[:, :, ::-1])
    stream = io.BytesIO()
    options = {"quality": 95} if _FORMATS[kind] == "JPEG" else {}
    Image.fromarray(pixels).save(stream, _FORMATS[kind], **options)
    return stream.getvalue()


def convert_imageset(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; see ``run`` for the exit status."""
    return run(
        "convert_imageset", _body_convert_imageset, FLAGS, _ABOUT_convert_imageset, arguments
    )


# The program ``convert_cifar_data``: CIFAR-10's binary batches as two databases.
#
# Source: BVLC/caffe examples/cifar10/convert_cifar_data.cpp.

_PROGRAM = "convert_cifar_data"
_ABOUT_convert_cifar_data = f"{_PROGRAM} INPUT_FOLDER OUTPUT_FOLDER lmdb|leveldb"
_SIDE, _CHANNELS = 32, 3
_RECORD = 1 + _CHANNELS * _SIDE * _SIDE  # a label, then the planes of red, green and blue
_BATCH = 10_000  # records of a file
_TRAINING = 5  # files


def _body_convert_cifar_data(flags: Flags, others: list[str]) -> None:
    from caffe_port.data.database import check_backend, write_database

    expect(others, 3, 3, _ABOUT_convert_cifar_data)
    source, target, backend = Path(others[0]), Path(others[1]), check_backend(others[2])
    log("Writing Training data", place=f"{_PROGRAM}.cpp:52")
    write_database(target / f"cifar10_train_{backend}", _training(source), backend)
    log("Writing Testing data", place=f"{_PROGRAM}.cpp:73")
    test = _records_convert_cifar_data(source / "test_batch.bin", 0)
    write_database(target / f"cifar10_test_{backend}", test, backend)


def _training(folder: Path) -> Iterator[tuple[bytes, bytes]]:
    for number in range(_TRAINING):
        log(f"Training Batch {number + 1}", place=f"{_PROGRAM}.cpp:55")
        yield from _records_convert_cifar_data(
            folder / f"data_batch_{number + 1}.bin", number * _BATCH
        )


def _records_convert_cifar_data(path: Path, first: int) -> Iterator[tuple[bytes, bytes]]:
    """The keys and Datum messages of one file.

    Raises:
        DataError: missing, or of another size than a batch.
    """
    from caffe_port.files import open_regular, reading
    from caffe_port.proto import caffe_pb2

    with reading(path), open_regular(path) as stream:
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


def convert_cifar_data(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; see ``run`` for the exit status."""
    return run(_PROGRAM, _body_convert_cifar_data, {}, _ABOUT_convert_cifar_data, arguments)


# The programs ``convert_mnist_data`` and ``convert_mnist_siamese_data``: MNIST as a database.
#
# Source: BVLC/caffe examples/mnist/convert_mnist_data.cpp, examples/siamese/
# convert_mnist_siamese_data.cpp.

_MNIST, _SIAMESE = "convert_mnist_data", "convert_mnist_siamese_data"
_ARGUMENTS = "[flags] INPUT_IMAGE_FILE INPUT_LABEL_FILE OUTPUT_DB"
_SIAMESE_FLAGS = {
    "backend": Flag("leveldb", BACKEND.help),
    "random_seed": Flag(-1, "Draw the pairs from this seed; upstream's differ at every run."),
}


def _datum_convert_mnist_data(pixels: npt.NDArray[np.uint8], label: int) -> bytes:
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
        (b"%08d" % i, _datum_convert_mnist_data(image[None], int(label)))
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
        yield b"%08d" % item, _datum_convert_mnist_data(images[[i, j]], int(labels[i] == labels[j]))


def _log_sizes(images: npt.NDArray[np.uint8], program: str, line: int) -> None:
    count, rows, columns = images.shape
    log(f"A total of {count} items.", place=f"{program}.cpp:{line}")
    log(f"Rows: {rows} Cols: {columns}", place=f"{program}.cpp:{line + 1}")


def convert_mnist_data(arguments: Sequence[str] | None = None) -> int:
    """convert_mnist_data; see ``run`` for the exit status."""
    about = f"{_MNIST} {_ARGUMENTS}"
    return run(_MNIST, _mnist, {"backend": BACKEND}, about, arguments)


def convert_mnist_siamese_data(arguments: Sequence[str] | None = None) -> int:
    """convert_mnist_siamese_data; see ``run`` for the exit status."""
    return run(_SIAMESE, _siamese, _SIAMESE_FLAGS, f"{_SIAMESE} {_ARGUMENTS}", arguments)
