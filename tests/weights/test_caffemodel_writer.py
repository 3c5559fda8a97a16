"""Writing caffemodels: read back by protobuf, and equal to Caffe's own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import caffe_port
import caffe_port.pycaffe as caffe
from caffe_port.errors import UsageError
from caffe_port.proto import caffe_pb2
from caffe_port.weights import StoredBlob, StoredLayer, caffemodel
from caffe_port.weights.caffemodel import read_caffemodel, write_caffemodel
from tests.goldens_dir import GOLDENS, ROOT
from tests.weights.making import array, assert_same_layers, layer, small_net

SAVED = ROOT / "tests" / "weights" / "saved_message"
OF_BVLC = [*(GOLDENS / "layers").glob("bvlc*/net.caffemodel"), SAVED / "net.caffemodel"]
V2_CASES = sorted(
    path.parent.name
    for path in (GOLDENS / "layers").glob("*/net.caffemodel")
)  # fmt: skip


def parse(path: Path) -> Any:
    net = caffe_pb2.NetParameter()
    net.ParseFromString(path.read_bytes())
    return net


def without_blobs(net: Any) -> Any:
    bare = type(net)()
    bare.CopyFrom(net)
    for item in bare.layer:
        item.ClearField("blobs")
    return bare


def test_protobuf_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "x.caffemodel"
    values, double = array(2, 3, 1, 1), array(2, dtype="f8")
    write_caffemodel(path, [layer("conv", values, double), layer("relu", type="ReLU")], name="net")
    net = parse(path)
    assert net.name == "net"
    assert [(x.name, x.type) for x in net.layer] == [("conv", "Convolution"), ("relu", "ReLU")]
    first, second = net.layer[0].blobs
    assert list(first.shape.dim) == [2, 3, 1, 1]
    assert list(first.data) == values.ravel().tolist()
    assert list(second.double_data) == double.tolist()
    assert len(second.data) == 0


@pytest.mark.parametrize("case", V2_CASES)
def test_equals_caffes_own_file_byte_for_byte(tmp_path: Path, case: str) -> None:
    golden = GOLDENS / "layers" / case / "net.caffemodel"
    net = parse(golden)
    path = tmp_path / "again.caffemodel"
    write_caffemodel(path, read_caffemodel(golden).layers, net_message=without_blobs(net))
    assert path.read_bytes() == golden.read_bytes()


def test_there_are_cases() -> None:
    assert len(V2_CASES) > 40


def test_any_memory_layout_is_written_in_c_order(tmp_path: Path) -> None:
    plain = array(3, 4, 5)
    layouts = [
        plain, np.asfortranarray(plain), plain.astype(">f4"), plain[:, ::-1][:, ::-1],
        np.broadcast_to(plain[:1], (1, 4, 5)),
    ]  # fmt: skip
    path = tmp_path / "x.caffemodel"
    write_caffemodel(path, [layer("x", *layouts)])
    assert_same_layers(
        read_caffemodel(path).layers, [layer("x", plain, plain, plain, plain, plain[:1])]
    )


def test_legacy_scalar_and_empty_blobs_come_back(tmp_path: Path) -> None:
    blobs = (
        StoredBlob(array(1, 1, 2, 3), legacy=True),
        StoredBlob(np.array(2.5, "f4")),
        StoredBlob(np.empty((0, 3), "f8")),
        StoredBlob(array(2, 3), diff=array(2, 3, seed=1)),
    )
    path = tmp_path / "x.caffemodel"
    write_caffemodel(path, [StoredLayer("x", "X", blobs)])
    back = read_caffemodel(path).layers
    assert back[0].blobs[0].legacy
    assert back[0].blobs[2].data.shape == (0, 3)
    assert back[0].blobs[3].diff is not None
    assert back[0].blobs[3].diff.tolist() == array(2, 3, seed=1).tolist()
    assert [b.num for b in parse(path).layer[0].blobs] == [1, 0, 0, 0]


def test_two_gigabytes_are_refused_before_writing(tmp_path: Path) -> None:
    huge = np.broadcast_to(np.float32(1), (2**29,))
    with pytest.raises(UsageError, match=r"2147483647: write .caffemodel.h5"):
        write_caffemodel(tmp_path / "x.caffemodel", [layer("x", huge)])
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.caffemodel"
    path.write_bytes(b"old")

    def full(_: object) -> bytes:
        raise OSError("no space left")

    monkeypatch.setattr(caffemodel, "raw_bytes", full)
    with pytest.raises(OSError, match="no space"):
        write_caffemodel(path, [layer("x", array(3))])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("stored", "match"),
    [
        (layer("x", array(3, dtype="f2")), "layer 'x', blob 0 is float16"),
        (layer("x", np.arange(3)), "is int64"),
        (StoredLayer("x", "", (StoredBlob(array(3), legacy=True),)), "legacy but has 1 axes"),
        (StoredLayer("x", "", (StoredBlob(array(3), diff=array(4)),)), r"its diff float32\(4,\)"),
        (StoredLayer("x", "", (StoredBlob(array(3)),), (1,)), r"has only the blobs \[1\]"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, stored: StoredLayer, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        write_caffemodel(tmp_path / "x.caffemodel", [stored])
    assert list(tmp_path.iterdir()) == []


def test_net_message_must_fit(tmp_path: Path) -> None:
    path, net = tmp_path / "x.caffemodel", small_net()
    with pytest.raises(UsageError, match="'conv' of the net's message holds blobs"):
        write_caffemodel(path, [], net_message=net)
    bare = without_blobs(net)
    with pytest.raises(UsageError, match="no layer for the blobs of fc8, fc9"):
        write_caffemodel(path, [layer("fc8", array(1)), layer("fc9", array(1))], net_message=bare)
    with pytest.raises(UsageError, match="no layer for the blobs of conv"):
        write_caffemodel(path, [layer("conv", array(1))] * 2, net_message=bare)
    assert not path.exists()


def test_net_message_keeps_its_own_fields_and_order(tmp_path: Path) -> None:
    path, net = tmp_path / "x.caffemodel", small_net()
    net.input.append("data")
    net.input_dim.extend([1, 3, 8, 8])
    (tmp_path / "whole").write_bytes(net.SerializeToString())
    layers = read_caffemodel(tmp_path / "whole").layers
    bare = without_blobs(net)
    write_caffemodel(path, layers[::-1], net_message=bare)
    assert path.read_bytes() == net.SerializeToString(deterministic=True)
    assert without_blobs(net) == bare  # the message is left as it was


@pytest.mark.parametrize("golden", sorted(OF_BVLC), ids=lambda path: path.parent.name)
def test_a_net_that_is_loaded_and_saved_is_caffes_file_byte_for_byte(
    tmp_path: Path, golden: Path
) -> None:
    """Its loss layers have loss_weight 1, its BatchNorms lr_mult 0; no state, no force_backward."""
    case = golden.with_name("case.json")
    phase = json.loads(case.read_text())["phase"] if case.exists() else "TRAIN"
    net = caffe_port.load(golden.with_name("net.prototxt"), golden, phase=phase)
    net.save(tmp_path / "again.caffemodel")
    assert (tmp_path / "again.caffemodel").read_bytes() == golden.read_bytes()


def test_pycaffe_saves_the_same(tmp_path: Path) -> None:
    net = caffe.Net(str(SAVED / "net.prototxt"), caffe.TRAIN)
    net.copy_from(str(SAVED / "net.caffemodel"))
    net.save(tmp_path / "again.caffemodel")
    assert (tmp_path / "again.caffemodel").read_bytes() == (SAVED / "net.caffemodel").read_bytes()
