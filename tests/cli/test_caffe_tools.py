"""Caffe's tools, against what Caffe's own made where that was recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from caffe_port.cli.caffe_tools import datasets, models
from caffe_port.data.database import read_datum
from caffe_port.data.lmdb import LmdbFile
from caffe_port.live.net import Net
from caffe_port.proto import caffe_pb2, read_net, read_solver
from caffe_port.weights import read_mean
from tests.goldens_dir import GOLDENS, SHAPES

LMDB = SHAPES / "caffe_run" / "lmdb"
MODEL = SHAPES / "caffe_run" / "model" / "train_iter_2400.caffemodel"
IO = GOLDENS / "io"
STDERR = pytest.CaptureFixture[str]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """The list that the recorded database was made of."""
    lines = (SHAPES / "list_cls.txt").read_text().splitlines()[:12]
    path = tmp_path / "list.txt"
    path.write_text("\n".join(line.removeprefix("/") for line in lines))
    return path


def converted(images: Path, *flags: str) -> list[tuple[bytes, bytes]]:
    target = images.parent / "db"
    assert datasets.convert_imageset([*flags, f"{SHAPES}/", str(images), str(target)]) == 0
    return list(LmdbFile(target))


def test_convert_imageset_makes_caffes_records(images: Path, capfd: STDERR) -> None:
    made = converted(images, "--resize_height=32", "-resize_width", "40", "-check_size")
    assert made == list(LmdbFile(LMDB / "db"))
    log = capfd.readouterr().err
    assert "A total of 12 images." in log
    assert "Processed 12 files." in log


def test_compute_image_mean_makes_caffes_file(tmp_path: Path, capfd: STDERR) -> None:
    target = tmp_path / "mean.binaryproto"
    assert datasets.compute_image_mean([str(LMDB / "db"), str(target)]) == 0
    assert target.read_bytes() == (LMDB / "mean.binaryproto").read_bytes()
    log = capfd.readouterr().err
    assert "Number of channels: 3" in log
    mean = read_mean(target)[2].mean(dtype=np.float64)
    assert f"mean_value channel [2]: {mean:g}" in log


def test_the_mean_need_not_be_written(capfd: STDERR) -> None:
    assert datasets.compute_image_mean([str(LMDB / "db")]) == 0
    assert "Write to" not in capfd.readouterr().err


def test_grey_images(images: Path) -> None:
    (_, record), *_ = converted(images, "-gray", "-resize_height=8", "-resize_width=9")
    assert read_datum(record, "").values.shape == (1, 8, 9)


def test_encoded_images_are_the_files(images: Path) -> None:
    made = converted(images, "-encoded")
    first = caffe_pb2.Datum.FromString(made[0][1])
    name = images.read_text().split()[0]
    assert first.encoded
    assert first.data == (SHAPES / name).read_bytes()


def test_images_reencoded(images: Path) -> None:
    flags = ("-encode_type=png", "-resize_height=8", "-resize_width=9")
    datum = read_datum(converted(images, *flags)[0][1], "", color=True)
    assert datum.values.shape == (3, 8, 9)
    (_, plain), *_ = LmdbFile(images.parent / "db")
    assert caffe_pb2.Datum.FromString(plain).data.startswith(b"\x89PNG")


def test_shuffled_images_are_the_same_ones(images: Path) -> None:
    made = converted(images, "-shuffle", "-encoded")
    names = [key.decode().partition("_")[2] for key, _ in made]
    assert sorted(names) == sorted(line.split()[0] for line in images.read_text().splitlines())


def test_images_that_cannot_be_read_are_left_out_and_counted(images: Path, capfd: STDERR) -> None:
    lines = images.read_text().splitlines()
    images.write_text("\n".join([*lines[:2], "JPEGImages/gone.jpg 1"]))
    assert len(converted(images)) == 2
    assert "1 of 3 images could not be read and are omitted" in capfd.readouterr().err


def test_check_size_refuses_and_leaves_nothing(images: Path, capfd: STDERR) -> None:
    small = images.parent / "small.png"
    from PIL import Image

    Image.new("RGB", (3, 2)).save(small)
    first = images.read_text().splitlines()[0]
    images.write_text(f"{SHAPES}/{first}\n{small} 1\n")
    target = images.parent / "db"
    assert datasets.convert_imageset(["-check_size", "", str(images), str(target)]) == 1
    assert "small.png is (2, 3, 3), the first is" in capfd.readouterr().err
    assert not target.exists()


def test_extract_features_keeps_each_item(tmp_path: Path, capfd: STDERR) -> None:
    text = (GOLDENS / "cli" / "test.prototxt").read_text().replace("${ROOT}", str(SHAPES))
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(text)
    folders = [tmp_path / "scores", tmp_path / "dims"]
    arguments = [MODEL, prototxt, "fc8_shapes,data_dim", ",".join(map(str, folders)), 2, "lmdb"]
    assert models.extract_features([str(a) for a in arguments]) == 0
    assert "Successfully extracted the features!" in capfd.readouterr().err
    net = Net(str(prototxt), caffe_pb2.TEST, weights=MODEL)
    for i in range(2):
        net.forward()
        for folder, blob in zip(folders, ("fc8_shapes", "data_dim"), strict=True):
            key, record = list(LmdbFile(folder))[i]
            assert key == b"%010d" % i
            np.testing.assert_array_equal(read_datum(record, "").values, net.blobs[blob].data[0])


@pytest.mark.parametrize("name", ["v0_net", "v1_net", "old_inputs"])
def test_upgraded_nets_are_caffes(tmp_path: Path, name: str) -> None:
    target = tmp_path / "new.prototxt"
    assert models.upgrade_net_proto_text([str(IO / f"{name}.prototxt"), str(target)]) == 0
    (theirs,) = IO.glob(f"{name}*upgraded*.prototxt")
    assert read_net(target) == read_net(theirs)


def test_upgraded_solvers(tmp_path: Path) -> None:
    target = tmp_path / "new.prototxt"
    source = IO / "old_solver.prototxt"
    assert models.upgrade_solver_proto_text([str(source), str(target)]) == 0
    assert read_solver(target) == read_solver(source)


def test_upgraded_weights(tmp_path: Path) -> None:
    target = tmp_path / "new.caffemodel"
    source = GOLDENS / "nets" / "deeplab1_largefov_v1_hole" / "net.caffemodel"
    assert models.upgrade_net_proto_binary([str(source), str(target)]) == 0
    assert target.stat().st_size > 1000


def test_upgrades_distinguish_text_from_binary(tmp_path: Path, capfd: STDERR) -> None:
    assert models.upgrade_net_proto_binary([str(IO / "v1_net.prototxt"), str(tmp_path / "x")]) == 1
    assert "expected a .caffemodel" in capfd.readouterr().err
    assert models.upgrade_net_proto_text([str(MODEL), str(tmp_path / "x")]) == 1
    assert "expected a prototxt" in capfd.readouterr().err
    assert not (tmp_path / "x").exists()


def test_draw_net(tmp_path: Path, capsys: STDERR) -> None:
    target = tmp_path / "net.png"
    source = GOLDENS / "nets" / "deeplab1_largefov_v1_hole" / "net.prototxt"
    assert models.draw_net([str(source), str(target), "--rankdir", "TB", "--phase=TRAIN"]) == 0
    assert target.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == f"Drawing net to {target}\n"


def test_draw_net_names_what_it_cannot_draw(tmp_path: Path, capfd: STDERR) -> None:
    source = IO / "v1_net.prototxt"
    assert models.draw_net([str(source), str(tmp_path / "net.png"), "-phase=TEST"]) == 1
    assert "v1_net.prototxt: layer 'src' has both include" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        (datasets.compute_image_mean, [], "compute_image_mean [flags] INPUT_DB"),
        (datasets.compute_image_mean, ["-backend=sqlite", "x"], "expected lmdb or leveldb"),
        (datasets.compute_image_mean, ["gone"], "gone"),
        (datasets.convert_imageset, ["a", "b"], "ROOTFOLDER/ LISTFILE DB_NAME"),
        (datasets.convert_imageset, ["-encode_type=gif", "a", "b", "c"], "-encode_type is 'gif'"),
        (datasets.convert_imageset, ["", "gone.txt", "db"], "gone.txt"),
        (models.extract_features, ["w", "n", "a,b", "d", "1", "lmdb"], "2 blobs for 1 databases"),
        (
            models.extract_features,
            ["w", "n", "a", "d", "-1", "lmdb"],
            "unknown command line flag '1'",
        ),
        (models.extract_features, ["w", "n", "a", "d", "x", "lmdb"], "number of batches is 'x'"),
        (models.extract_features, ["w", "n", "a", "d", "1", "sqlite"], "expected lmdb or leveldb"),
        (models.draw_net, ["n", "o", "-phase=SOME"], "-phase is 'SOME'"),
    ],
)
def test_refused_arguments(
    program: Callable[[list[str]], int], arguments: list[str], message: str, capfd: STDERR
) -> None:
    assert program(arguments) == 1
    assert message in capfd.readouterr().err
