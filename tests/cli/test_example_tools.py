"""The programs of Caffe's examples, compared with what real Caffe's made of the same files."""

from __future__ import annotations

import gzip
import random
import re
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from caffe_port.cli.caffe_tools import datasets, models
from caffe_port.data.database import open_database
from caffe_port.proto import caffe_pb2
from tests.goldens_dir import GOLDENS, SHAPES

EXAMPLES = GOLDENS / "programs" / "examples"
MNIST = [str(EXAMPLES / "images.idx"), str(EXAMPLES / "labels.idx")]
STDERR = pytest.CaptureFixture[str]
Records = list[tuple[bytes, bytes]]
BACKENDS = pytest.mark.parametrize("backend", ["lmdb", "leveldb"])


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """What convert_mnist_data of real Caffe wrote."""
    return list(open_database(EXAMPLES / "mnist_lmdb", "lmdb"))


@pytest.fixture(autouse=True)
def _needs_plyvel(request: pytest.FixtureRequest) -> None:
    if "leveldb" in request.node.name:
        pytest.importorskip("plyvel")


@BACKENDS
def test_mnist_gives_caffes_records(
    tmp_path: Path, backend: str, records: Records, capfd: STDERR
) -> None:
    target = tmp_path / "db"
    assert datasets.convert_mnist_data([f"-backend={backend}", *MNIST, str(target)]) == 0
    assert list(open_database(target, backend)) == records
    log = capfd.readouterr().err
    for line in ("88] A total of 25 items.", "89] Rows: 6 Cols: 5", "108] Processed 25 files."):
        assert f"convert_mnist_data.cpp:{line}" in log
    labels = [caffe_pb2.Datum.FromString(record).label for _, record in records]
    assert labels[-1] == 0xC8 - 256  # a label is a signed byte


@BACKENDS
def test_pairs_for_a_siamese_net(tmp_path: Path, backend: str, records: Records) -> None:
    flags = [f"-backend={backend}", "-random_seed=3"]
    for name in ("one", "two"):
        assert datasets.convert_mnist_siamese_data([*flags, *MNIST, str(tmp_path / name)]) == 0
    pairs = list(open_database(tmp_path / "one", backend))
    assert pairs == list(open_database(tmp_path / "two", backend))
    assert [key for key, _ in pairs] == [key for key, _ in records]
    single = [caffe_pb2.Datum.FromString(record) for _, record in records]
    digits = {datum.data: datum.label for datum in single}
    same = 0
    for _, record in pairs:
        pair = caffe_pb2.Datum.FromString(record)
        assert (pair.channels, pair.height, pair.width) == (2, 6, 5)
        first, second = digits[pair.data[:30]], digits[pair.data[30:]]
        assert pair.label == (first == second)
        same += pair.label
    assert 0 < same < 25


def batch(path: Path, items: int) -> Records:
    """A file of CIFAR-10's binary version, and its records."""
    draw = random.Random(path.name)
    planes = [(draw.randrange(10), draw.randbytes(3072)) for _ in range(items)]
    path.write_bytes(b"".join(bytes([label]) + pixels for label, pixels in planes))
    return [
        (b"", caffe_pb2.Datum(
            channels=3, height=32, width=32, data=pixels, label=label).SerializeToString())
        for label, pixels in planes
    ]  # fmt: skip


@BACKENDS
def test_cifar(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch, capfd: STDERR
) -> None:
    """Compared with real Caffe's program at full size, records are equal byte for byte."""
    monkeypatch.setattr(datasets, "_BATCH", 4)
    train = [r for i in range(1, 6) for _, r in batch(tmp_path / f"data_batch_{i}.bin", 4)]
    test = [r for _, r in batch(tmp_path / "test_batch.bin", 4)]
    assert datasets.convert_cifar_data([str(tmp_path), str(tmp_path), backend]) == 0
    made = list(open_database(tmp_path / f"cifar10_train_{backend}", backend))
    assert made == [(b"%05d" % i, record) for i, record in enumerate(train)]
    made = list(open_database(tmp_path / f"cifar10_test_{backend}", backend))
    assert made == [(b"%05d" % i, record) for i, record in enumerate(test)]
    assert "convert_cifar_data.cpp:55] Training Batch 5" in capfd.readouterr().err


def test_the_other_tools_take_leveldb(tmp_path: Path) -> None:
    listed, made = tmp_path / "list.txt", {}
    listed.write_text((SHAPES / "list_cls.txt").read_text().replace("/JPEG", "JPEG"))
    size = ["-resize_height=8", "-resize_width=9"]
    net = tmp_path / "net.prototxt"
    for backend in ("lmdb", "leveldb"):
        target, mean = str(tmp_path / backend), str(tmp_path / f"{backend}.binaryproto")
        flags = [*size, f"-backend={backend}"]
        assert datasets.convert_imageset([*flags, f"{SHAPES}/", str(listed), target]) == 0
        assert datasets.compute_image_mean([f"-backend={backend}", target, mean]) == 0
        net.write_text(
            f'layer {{ name: "d" type: "Data" top: "x" data_param {{ source: "{target}" '
            f"batch_size: 2 backend: {backend.upper()} }} }}"
        )
        weights = caffe_pb2.NetParameter(layer=[caffe_pb2.LayerParameter(name="d", type="Data")])
        (tmp_path / "w").write_bytes(weights.SerializeToString())
        features = str(tmp_path / f"x_{backend}")
        words = [str(tmp_path / "w"), str(net), "x", features, "2", backend]
        assert models.extract_features(words) == 0
        made[backend] = (
            list(open_database(target, backend)), Path(mean).read_bytes(),
            list(open_database(features, backend)),
        )  # fmt: skip
    assert made["lmdb"] == made["leveldb"]
    assert len(made["lmdb"][2]) == 4


def test_classification_prints_what_caffes_prints(capfd: STDERR) -> None:
    """Nets of one and of three channels; colours, grey, colours with opacity."""
    for channels in (1, 3):
        for image in ("a.jpg", "g.png", "rgba.png"):
            words = [
                f"n{channels}.prototxt", f"n{channels}.caffemodel", f"m{channels}.binaryproto",
                "labels.txt",
            ]  # fmt: skip
            paths = [str(EXAMPLES / word) for word in words]
            assert models.classification([*paths, str(EXAMPLES / image)]) == 0
    printed = capfd.readouterr().out.replace(f"{EXAMPLES}/", "")
    assert printed == (EXAMPLES / "classification.txt").read_text()


def refused(capfd: STDERR, status: int) -> str:
    assert status == 1
    return capfd.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (b"", b"", "images: 0 bytes; an IDX file's header alone has 16"),
        (gzip.compress(b"x", mtime=0), b"", "images: compressed by gzip; gunzip it first"),
        (struct.pack(">IIII", 2049, 1, 1, 1), b"", "magic number 2049; a file of MNIST's images"),
        (struct.pack(">IIII", 2051, 2**32 - 1, 2**31, 2**31), b"", "the file is cut short"),
        (struct.pack(">IIII", 2051, 1, 1, 1) + b"x", struct.pack(">II", 2051, 1) + b"x",
         "labels: magic number 2051; a file of MNIST's labels has 2049"),
        (struct.pack(">IIII", 2051, 1, 1, 1) + b"x", struct.pack(">II", 2049, 2) + b"xy",
         "1 images, but .*labels has 2 labels"),
    ],
)  # fmt: skip
def test_files_that_are_not_mnists(
    tmp_path: Path, images: bytes, labels: bytes, message: str, capfd: STDERR
) -> None:
    (tmp_path / "images").write_bytes(images)
    (tmp_path / "labels").write_bytes(labels)
    words = [str(tmp_path / name) for name in ("images", "labels", "db")]
    said = refused(capfd, datasets.convert_mnist_data(words))
    assert re.search(message, said)
    assert not (tmp_path / "db").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "data_batch_1.bin: cannot be read: No such file"),
        (lambda folder: batch(folder / "data_batch_1.bin", 3), "9219 bytes; a batch of CIFAR-10"),
    ],
)
def test_files_that_are_not_cifars(
    tmp_path: Path, make: object, message: str, capfd: STDERR
) -> None:
    assert callable(make)
    make(tmp_path)
    words = [str(tmp_path), str(tmp_path), "lmdb"]
    assert message in refused(capfd, datasets.convert_cifar_data(words))
    assert not list(tmp_path.glob("cifar10*"))
    words[2] = "sqlite"
    assert "expected lmdb or leveldb" in refused(capfd, datasets.convert_cifar_data(words))


def classify(folder: Path, capfd: STDERR, **changed: str) -> str:
    names = {
        "net": "n3.prototxt", "weights": "n3.caffemodel", "mean": "m3.binaryproto",
        "labels": "labels.txt", "image": "a.jpg", **changed,
    }  # fmt: skip
    return refused(capfd, models.classification([str(folder / name) for name in names.values()]))


def test_what_classification_refuses(tmp_path: Path, capfd: STDERR) -> None:
    folder = Path(shutil.copytree(EXAMPLES, tmp_path / "work"))
    (folder / "few.txt").write_text("one\n")
    two = (folder / "n3.prototxt").read_text() + 'layer { name: "s" type: "Split" bottom: "ip" '
    (folder / "two.prototxt").write_text(two + 'top: "s" }')
    (folder / "flat.prototxt").write_text('input: "x" input_shape { dim: 2 dim: 3 }'
        'layer { name: "t" type: "TanH" bottom: "x" top: "t" }')  # fmt: skip
    wrong: Sequence[tuple[dict[str, str], str]] = [
        ({"mean": "m1.binaryproto"}, "a mean of 1 channels; the net's input has 3"),
        ({"labels": "few.txt"}, "few.txt: 1 labels; the net's output has 7 channels"),
        ({"image": "gone.jpg"}, "gone.jpg: cannot be read"),
        ({"image": "labels.txt"}, "labels.txt: not an image"),
        ({"net": "two.prototxt"}, "outputs ['prob', 's']; expected one of each"),
        ({"net": "flat.prototxt"}, "the input is [2, 3]; expected (N, 1 or 3, H, W)"),
        ({"net": "gone.prototxt"}, "gone.prototxt"),
    ]
    for changed, message in wrong:
        assert message in classify(folder, capfd, **changed)
