"""Targets: every reader of a file's format."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from caffe_port.crf.files import read_bin, read_scores, write_bin, write_scores
from caffe_port.data.database import read_datum
from caffe_port.data.hdf5 import read_datasets
from caffe_port.data.images import read_grey, read_labels, read_rgb
from caffe_port.data.list_file import list_words
from caffe_port.data.lmdb import LmdbFile, write_lmdb
from caffe_port.data.mat5 import read_field
from caffe_port.data.voc import voc_items
from caffe_port.data.window_file import read_windows
from caffe_port.errors import CaffePortError, FormatError
from caffe_port.parity.archives import FORMAT, VERSION
from caffe_port.parity.recording import read_recording
from caffe_port.proto import caffe_pb2, wire
from caffe_port.weights import StoredLayer, read_mean, read_weights, write_weights
from caffe_port.weights.blobproto import read_blob
from caffe_port.weights.solver_state import is_solver_state, read_solver_state
from caffe_port.weights.stored import MappedFile
from tests.fuzz import hdf5_changed, structured
from tests.fuzz.target import Target, as_file, scratch, small
from tests.goldens_dir import GOLDENS
from tests.weights.making import array, layer, message_blob, small_net


def _file(
    name: str, *readers: Callable[[Path], object], also: type[Exception] = CaffePortError
) -> Callable[[bytes], None]:
    """Gives a file of the bytes to readers, which may refuse it with an error of ours."""

    def run(data: bytes) -> None:
        path = as_file(data, name)
        for read in readers:
            with contextlib.suppress(CaffePortError, also):
                read(path)

    return run


def wire_fields(data: bytes) -> None:
    """Fields tile the message without gaps."""
    position = 0
    try:
        for field in wire.fields(memoryview(data)):
            assert field.offset == position <= field.start <= field.end <= field.next <= len(data)
            position = field.next
    except FormatError as error:
        at = error.offset
        if at is None or at < position:
            raise AssertionError("an error before the fields that were read") from error
        return
    assert position == len(data)


def blob(data: bytes) -> None:
    """A BlobProto that both we and protobuf read has the same values."""
    if not data:
        return
    path = as_file(data, "mean.binaryproto")
    with contextlib.suppress(FormatError):
        read_mean(path)
    try:
        ours = read_blob(MappedFile(path), 0, len(data))
    except FormatError:
        return
    assert ours.data.nbytes <= len(data)
    assert np.array_equal(ours.aligned(), ours.data, equal_nan=True)
    theirs = caffe_pb2.BlobProto.FromString(data)
    with np.errstate(all="ignore"):
        values = np.array(theirs.double_data or theirs.data, ours.data.dtype)
    assert np.array_equal(ours.data.ravel(), values, equal_nan=True)


def weights(data: bytes) -> None:
    """What can be read can be written as a caffemodel, and comes back."""
    path = as_file(data, "weights")
    try:
        found = read_weights(path)
    except CaffePortError:
        return
    held = {id(b.data): b.data.nbytes for x in found.layers for b in x.blobs}
    assert sum(held.values()) <= max(len(data), 1) * 2  # a shared one counts once a layer
    copy = scratch() / "copy.caffemodel"
    with contextlib.suppress(CaffePortError, UnicodeEncodeError):
        write_weights(copy, found.layers)
        again = read_weights(copy).layers
        assert [x.name for x in again] == [x.name for x in found.layers]
        _same_blobs(found.layers, again)


def _same_blobs(first: tuple[StoredLayer, ...], second: tuple[StoredLayer, ...]) -> None:
    for x, y in zip(first, second, strict=True):
        for p, q in zip(x.blobs, y.blobs, strict=True):
            assert np.array_equal(p.data, q.data, equal_nan=True)


def state(data: bytes) -> None:
    path = as_file(data, "state.solverstate")
    with contextlib.suppress(CaffePortError):
        is_solver_state(path)
    with contextlib.suppress(CaffePortError):
        read_solver_state(path)


def datum(data: bytes) -> None:
    for color in (None, True, False):
        with contextlib.suppress(CaffePortError):
            read_datum(data, "record", color)


def lmdb(data: bytes) -> None:
    with contextlib.suppress(CaffePortError):
        for key, value in LmdbFile(as_file(data, "data.mdb")):
            assert len(key) + len(value) <= len(data)


def lists(data: bytes) -> None:
    path = as_file(data, "list.txt")
    with contextlib.suppress(CaffePortError):
        list(list_words(path))
    with contextlib.suppress(CaffePortError):
        voc_items(scratch(), path, with_labels=b"x" in data)
    with contextlib.suppress(CaffePortError):
        read_windows(path, "", 0.5, 0.5)


def recording(data: bytes) -> None:
    """A folder of case.json and case.npz."""
    head, _, packed = data.partition(b"\0")
    as_file(head, "case.json")
    as_file(packed, "case.npz")
    with contextlib.suppress(CaffePortError):
        _all_of(scratch())


def _all_of(path: Path) -> None:
    """Every array of a recording; each is read when it is asked for."""
    found = read_recording(path)
    for arrays in (found.inputs, found.data, found.topdiffs, found.diffs):
        for name in arrays:
            with contextlib.suppress(CaffePortError):
                assert arrays[name].dtype == np.float32
    for name in found.params:
        with contextlib.suppress(CaffePortError):
            assert found.params[name].dtype == np.float32


def _caffemodels() -> Iterator[bytes]:
    yield small_net().SerializeToString()
    yield from small(GOLDENS.rglob("*.caffemodel"))


def _blobs() -> Iterator[bytes]:
    for dtype in ("f4", "f8"):
        yield message_blob(array(1, 2, 3, 2, dtype=dtype)).SerializeToString()
    legacy = caffe_pb2.BlobProto(num=1, channels=3, height=1, width=2, data=range(6))
    yield legacy.SerializeToString()
    yield b"".join(wire.encode_varint(5 << 3 | 5) + np.float32(v).tobytes() for v in range(4))


def _written(suffix: str) -> bytes:
    path = scratch() / f"seed{suffix}"
    layers = [layer("conv", array(2, 3, 1, 1), array(2)), layer("ip", array(2, 2, dtype="f8"))]
    write_weights(path, layers, name="seed", prototxt="name: 'seed'")
    return path.read_bytes()


def _mats() -> Iterator[bytes]:
    from scipy.io import savemat

    path = scratch() / "seed.mat"
    write_scores(path, array(2, 3, 4))
    yield path.read_bytes()
    for compressed in (False, True):
        stream = io.BytesIO()
        labels = np.eye(3, dtype=np.uint8)
        content = {"data": array(2, 2), "GTcls": {"Segmentation": labels}}
        savemat(stream, content, do_compression=compressed)
        yield stream.getvalue()


def _bins() -> Iterator[bytes]:
    path = scratch() / "seed.bin"
    for values in (array(2, 3, 4), np.eye(3, dtype=np.int16)):
        write_bin(path, values)
        yield path.read_bytes()


def _images() -> Iterator[bytes]:
    from PIL import Image

    for mode, form in (("RGB", "PNG"), ("P", "PNG"), ("L", "JPEG"), ("RGB", "PPM"), ("1", "BMP"),
                       ("RGB", "GIF"), ("RGB", "TIFF"), ("I;16", "PNG")):  # fmt: skip
        stream = io.BytesIO()
        Image.new(mode, (5, 4), 1).save(stream, form)
        yield stream.getvalue()


def _data() -> Iterator[bytes]:
    image = next(iter(_images()))
    yield caffe_pb2.Datum(encoded=True, data=image, label=1).SerializeToString()
    yield caffe_pb2.Datum(channels=1, height=2, width=3, data=b"abcdef").SerializeToString()
    yield caffe_pb2.Datum(channels=1, height=1, width=2, float_data=[1, 2]).SerializeToString()


def _lmdbs() -> Iterator[bytes]:
    """A leaf, a value with pages of its own, and a branch over several leaves."""
    for count, size in ((3, 20), (2, 5000), (5, 1500)):
        with tempfile.TemporaryDirectory() as folder:
            write_lmdb(Path(folder) / "db", [(b"%08d" % i, bytes(size)) for i in range(count)])
            yield (Path(folder) / "db" / "data.mdb").read_bytes()


def _lists() -> Iterator[bytes]:
    yield b"/JPEGImages/a.jpg /SegmentationClass/a.png\n2007_000033\n"
    yield b"# 0\na.jpg\n3\n10\n10\n2\n1 0.9 0 0 5 5\n0 0.1 2 2 8 8\n"


META = '{"phase": "TEST", "backward": true, "versions": {"caffe": "1"}}'


def _recordings() -> Iterator[bytes]:
    """case.json, a zero byte and case.npz."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, values in (("data/data", array(2, 2)), ("param/conv/0", array(2))):
            inner = io.BytesIO()
            np.save(inner, values)
            archive.writestr(f"{name}.npy", inner.getvalue())
    yield META.encode() + b"\0" + stream.getvalue()
    for path in sorted(GOLDENS.glob("layers/*/case.npz"))[:3]:
        yield (path.parent / "case.json").read_bytes() + b"\0" + path.read_bytes()


def _hdf5_recordings() -> Iterator[bytes]:
    import h5py

    path = scratch() / "seed-recording.h5"
    with h5py.File(path, "w") as file:
        for name, text in (("format", FORMAT), ("version", VERSION), ("meta", META)):
            file.attrs[name] = np.bytes_(text)
        for name in ("input/data", "data/conv", "param/conv/0"):
            values = array(2, 2)
            file[name] = values
            file[name].attrs["sha256"] = np.bytes_(hashlib.sha256(values.tobytes()).hexdigest())
    yield path.read_bytes()


def _hdf5_weights() -> list[bytes]:
    return [_written(".h5"), *small(GOLDENS.rglob("*.caffemodel.h5"))]


def _hdf5_states() -> list[bytes]:
    return small(GOLDENS.rglob("*.solverstate.h5"))


FORMATS = {
    "wire": Target(wire_fields, _caffemodels, structured=structured.message),
    "blob": Target(blob, _blobs, structured=structured.message),
    "caffemodel": Target(weights, _caffemodels, structured=structured.message),
    "torch": Target(weights, lambda: [_written(".pt")], structured=structured.archive),
    "safetensors": Target(
        weights, lambda: [_written(".safetensors")], structured=structured.safetensors
    ),
    "hdf5": Target(weights, _hdf5_weights, structured=hdf5_changed.from_seeds(_hdf5_weights)),
    "hdf5data": Target(
        _file("data.h5", lambda p: read_datasets(p, ["data/conv/0", "data/ip/0"])),
        lambda: [_written(".h5")],
        structured=hdf5_changed.from_seeds(lambda: [_written(".h5")]),
    ),
    "state": Target(
        state, lambda: small(GOLDENS.rglob("*.solverstate")), structured=structured.message
    ),
    "hdf5state": Target(state, _hdf5_states, structured=hdf5_changed.from_seeds(_hdf5_states)),
    "mat": Target(
        _file("a.mat", read_scores, lambda p: read_field(p, "GTcls", "Segmentation"), also=OSError),
        _mats,
        structured=structured.mat,
    ),
    "bin": Target(_file("a.bin", read_bin), _bins),
    "image": Target(
        _file("a.png", read_rgb, read_grey, read_labels), _images, structured=structured.png
    ),
    "datum": Target(datum, _data, structured=structured.message),
    "lmdb": Target(lmdb, _lmdbs, structured=structured.lmdb),
    "list": Target(lists, _lists),
    "recording": Target(recording, _recordings, structured=structured.beside_archive),
    "hdf5recording": Target(
        _file("recording.h5", _all_of),
        lambda: list(_hdf5_recordings()),
        structured=hdf5_changed.from_seeds(lambda: list(_hdf5_recordings())),
    ),
}
