"""Caffe's programs that write databases and mean images."""

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

if TYPE_CHECKING:
    import numpy.typing as npt

    from caffe_port.data.image import Line
    from caffe_port.data.images import Bytes
    from caffe_port.data.rng import CaffeRandom
    from caffe_port.proto import caffe_pb2


_MEAN_USAGE = "compute_image_mean [flags] INPUT_DB [OUTPUT_FILE]"
BACKEND = Flag("lmdb", "The kind of database: lmdb, or leveldb, which needs the package plyvel.")


def _log_mean(message: str, line: int) -> None:
    log(message, place=f"compute_image_mean.cpp:{line}")


def _compute_mean(flags: Flags, others: list[str]) -> None:
    from caffe_port.data.database import open_database, read_datum
    from caffe_port.weights import write_mean

    expect(others, 1, 2, _MEAN_USAGE)
    database = open_database(others[0], flags.backend)
    _log_mean("Starting iteration", 70)
    # float32, so that the sums are rounded as Caffe's
    total, count = np.zeros(0, np.float32), 0
    for key, record in database:
        where = f"{database.path}: record {key[:80]!r}"
        values = read_datum(record, where).values
        if not count:
            total = np.zeros(values.shape, np.float32)
        if values.shape != total.shape:
            raise DataError(f"{where}: {values.shape}; the first is {total.shape}")
        total += values.astype(np.float32)
        count += 1
        if count % 10000 == 0:
            _log_mean(f"Processed {count} files.", 95)
    if count % 10000:
        _log_mean(f"Processed {count} files.", 101)
    mean = total / np.float32(count)
    if len(others) == 2:
        _log_mean(f"Write to {others[1]}", 108)
        write_mean(others[1], mean)
    _log_mean(f"Number of channels: {len(mean)}", 114)
    for c, channel in enumerate(mean):
        _log_mean(f"mean_value channel [{c}]: {channel.mean(dtype=np.float64):g}", 119)


def compute_image_mean(arguments: Sequence[str] | None = None) -> int:
    """Writes the mean image of a database; see ``run`` for the exit status.

    Source: BVLC/caffe tools/compute_image_mean.cpp.
    """
    return run(
        "compute_image_mean",
        _compute_mean,
        {"backend": BACKEND},
        _MEAN_USAGE,
        arguments,
    )


_IMAGESET_USAGE = "convert_imageset [flags] ROOTFOLDER/ LISTFILE DB_NAME"
_IMAGESET_FLAGS = {
    "gray": Flag(False, "Read the images as grey images."),
    "shuffle": Flag(False, "Shuffle the list first."),
    "backend": BACKEND,
    "resize_width": Flag(0, "Resize the images to this width; with -resize_height."),
    "resize_height": Flag(0, "Resize the images to this height; with -resize_width."),
    "check_size": Flag(False, "Refuse images of another size than the first."),
    "encoded": Flag(False, "Store the images encoded, as JPEG or PNG."),
    "encode_type": Flag("", "'png' or 'jpg'; by default the suffix of the file."),
}
_FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "bmp": "BMP"}


def _log_imageset(message: str, line: int, severity: int = 0) -> None:
    """Logs a message with its line number in Caffe's source, or 1 for messages of ours."""
    log(message, severity, place=f"convert_imageset.cpp:{line}")


def _convert_imageset(flags: Flags, others: list[str]) -> None:
    from caffe_port.data.database import write_database
    from caffe_port.data.image import read_labelled
    from caffe_port.data.rng import CaffeRandom

    expect(others, 3, 3, _IMAGESET_USAGE)
    if flags.encode_type and flags.encode_type not in _FORMATS:
        raise UsageError(f"-encode_type is '{flags.encode_type}'; known are {', '.join(_FORMATS)}")
    root, listed, database = others
    lines = read_labelled(listed)
    if flags.shuffle:
        _log_imageset("Shuffling data", 86)
        CaffeRandom().shuffle(lines)
    _log_imageset(f"A total of {len(lines)} images.", 89)
    if flags.encode_type and not flags.encoded:
        _log_imageset("encode_type specified, assuming encoded=true.", 92)
    count = write_database(database, _imageset_records(root, lines, flags), flags.backend)
    _log_imageset(f"Processed {count} files.", 153)


def _imageset_records(
    root: str, lines: Sequence[Line], flags: Flags
) -> Iterator[tuple[bytes, bytes]]:
    """Keys and Datum messages; images that cannot be read are omitted, as in Caffe."""
    first: tuple[int, ...] = ()
    done = missed = 0
    for number, line in enumerate(lines):
        try:
            datum, shape = _imageset_datum(root, line, flags)
        except DataError as error:
            _log_imageset(f"{line.where}: {error}", 1, ERROR)
            missed += 1
            continue
        first = first or shape
        if flags.check_size and shape != first:
            raise DataError(f"{line.where}: {line.image} is {shape}, the first is {first}")
        yield f"{number:08d}_{line.image}".encode(), datum.SerializeToString()
        done += 1
        if done % 1000 == 0 and number + 1 < len(lines):
            _log_imageset(f"Processed {done} files.", 147)
    if missed:
        _log_imageset(
            f"{missed} of {len(lines)} images could not be read and are omitted.", 1, ERROR
        )


def _imageset_datum(root: str, line: Line, flags: Flags) -> tuple[caffe_pb2.Datum, tuple[int, ...]]:
    from caffe_port.data.image import read_image
    from caffe_port.proto import caffe_pb2

    size = (flags.resize_height, flags.resize_width)
    path = root + line.image
    image = read_image(path, size if min(size) > 0 else None, not flags.gray)
    # Caffe writes the flag even when it is false
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
    """The file's own bytes if nothing changes, else the image encoded again."""
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
    """Makes a database of a list of images with class numbers; see ``run`` for the exit status.

    Source: BVLC/caffe tools/convert_imageset.cpp; io.cpp, ReadImageToDatum.
    """
    return run("convert_imageset", _convert_imageset, _IMAGESET_FLAGS, _IMAGESET_USAGE, arguments)


_CIFAR = "convert_cifar_data"
_CIFAR_USAGE = f"{_CIFAR} INPUT_FOLDER OUTPUT_FOLDER lmdb|leveldb"
_SIDE, _CHANNELS = 32, 3
_RECORD = 1 + _CHANNELS * _SIDE * _SIDE  # a label, then the planes of red, green and blue
_BATCH = 10_000  # records per file
_TRAINING = 5  # files


def _convert_cifar(flags: Flags, others: list[str]) -> None:
    from caffe_port.data.database import check_backend, write_database

    expect(others, 3, 3, _CIFAR_USAGE)
    source, target, backend = Path(others[0]), Path(others[1]), check_backend(others[2])
    log("Writing Training data", place=f"{_CIFAR}.cpp:52")
    write_database(target / f"cifar10_train_{backend}", _cifar_training(source), backend)
    log("Writing Testing data", place=f"{_CIFAR}.cpp:73")
    test = _cifar_records(source / "test_batch.bin", 0)
    write_database(target / f"cifar10_test_{backend}", test, backend)


def _cifar_training(folder: Path) -> Iterator[tuple[bytes, bytes]]:
    for number in range(_TRAINING):
        log(f"Training Batch {number + 1}", place=f"{_CIFAR}.cpp:55")
        yield from _cifar_records(folder / f"data_batch_{number + 1}.bin", number * _BATCH)


def _cifar_records(path: Path, first: int) -> Iterator[tuple[bytes, bytes]]:
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
    """Makes two databases of CIFAR-10's binary batches; see ``run`` for the exit status.

    Source: BVLC/caffe examples/cifar10/convert_cifar_data.cpp.
    """
    return run(_CIFAR, _convert_cifar, {}, _CIFAR_USAGE, arguments)


_MNIST, _SIAMESE = "convert_mnist_data", "convert_mnist_siamese_data"
_ARGUMENTS = "[flags] INPUT_IMAGE_FILE INPUT_LABEL_FILE OUTPUT_DB"
_SIAMESE_FLAGS = {
    "backend": Flag("leveldb", BACKEND.help),
    "random_seed": Flag(-1, "Draw the pairs from this seed; in Caffe they differ in every run."),
}


def _mnist_datum(pixels: npt.NDArray[np.uint8], label: int) -> bytes:
    """A record of (C, H, W) pixels."""
    from caffe_port.proto import caffe_pb2

    channels, height, width = pixels.shape
    datum = caffe_pb2.Datum(channels=channels, height=height, width=width, label=label)
    datum.data = pixels.tobytes()
    return datum.SerializeToString()


def _mnist(flags: Flags, others: list[str]) -> None:
    from caffe_port.data.database import read_mnist, write_database

    expect(others, 3, 3, f"{_MNIST} {_ARGUMENTS}")
    images, labels = read_mnist(*others[:2])
    _log_sizes(images, _MNIST, 88)
    records = (
        (b"%08d" % i, _mnist_datum(image[None], int(label)))
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    )
    count = write_database(others[2], records, flags.backend)
    log(f"Processed {count} files.", place=f"{_MNIST}.cpp:108")


def _siamese(flags: Flags, others: list[str]) -> None:
    from caffe_port.data.database import read_mnist, write_database
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
        yield b"%08d" % item, _mnist_datum(images[[i, j]], int(labels[i] == labels[j]))


def _log_sizes(images: npt.NDArray[np.uint8], program: str, line: int) -> None:
    count, rows, columns = images.shape
    log(f"A total of {count} items.", place=f"{program}.cpp:{line}")
    log(f"Rows: {rows} Cols: {columns}", place=f"{program}.cpp:{line + 1}")


def convert_mnist_data(arguments: Sequence[str] | None = None) -> int:
    """Makes a database of MNIST's files; see ``run`` for the exit status.

    Source: BVLC/caffe examples/mnist/convert_mnist_data.cpp.
    """
    about = f"{_MNIST} {_ARGUMENTS}"
    return run(_MNIST, _mnist, {"backend": BACKEND}, about, arguments)


def convert_mnist_siamese_data(arguments: Sequence[str] | None = None) -> int:
    """Makes a database of pairs of MNIST's images; see ``run`` for the exit status.

    Source: BVLC/caffe examples/siamese/convert_mnist_siamese_data.cpp.
    """
    return run(_SIAMESE, _siamese, _SIAMESE_FLAGS, f"{_SIAMESE} {_ARGUMENTS}", arguments)
