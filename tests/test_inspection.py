"""Listings: nets, solvers, weights, mean images, and files that are none of them."""

import json

import numpy as np
import pytest

from caffe_port.errors import FormatError
from caffe_port.inspection import inspect_file
from caffe_port.proto import caffe_pb2, read_solver
from tests.goldens_dir import GOLDENS
from tests.spec.making import INPUT, conv, layer

CASE = GOLDENS / "layers" / "bvlc_conv_group"
SHARED = GOLDENS / "layers" / "bvlc_weight_sharing"


def write(folder, content, name="net.prototxt"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_net(tmp_path):
    listing = inspect_file(write(tmp_path, 'name: "n" ' + INPUT + conv("c", "x", "out")))
    assert listing.title.endswith("net 'n', V2, bvlc, phase TEST")
    row = dict(zip(listing.columns, listing.rows[1], strict=True))
    assert row == {
        "layer": "c", "type": "Convolution", "bottoms": "x", "tops": "out (2 x 3 x 6 x 6)",
        "parameters": 12, "multiply-adds": 2 * 36 * 9,
    }  # fmt: skip
    assert listing.totals["parameters"] == 12
    assert listing.totals["bytes of parameters"] == 48
    assert listing.totals["bytes of blobs, all kept"] == 2 * 4 * 2 * 3 * 36
    assert listing.totals["inputs"] == "x"
    assert listing.totals["outputs"] == "out"
    assert listing.notes == []
    assert json.loads(json.dumps(listing.as_dict()))["rows"][1] == row


def test_options_and_unknown_fields(tmp_path):
    text = INPUT + layer("d", "ReLU", "x", "${T}", "mine: 1 include { phase: TRAIN }")
    path = write(tmp_path, text)
    listing = inspect_file(
        path, phase="TRAIN", variables={"T": "t"}, input_shapes={"x": (1, 2)}, dialect="deeplab2"
    )
    assert listing.title.endswith("deeplab2, phase TRAIN")
    assert listing.rows[1][3] == "t (1 x 2)"
    assert listing.notes == ["line 2: layer 'd': unknown field 'mine'"]


def test_shared_parameters_count_once():
    listing = inspect_file(SHARED / "net.prototxt")
    assert [row[4] for row in listing.rows] == [0, 84, 0]


def test_comments_in_any_encoding(tmp_path):
    text = ("# " + "\u7f51" * 3000 + "\n" + INPUT).encode()
    assert inspect_file(write(tmp_path, text)).rows[0][1] == "Input"
    latin = b"# r\xe9seau\n" + INPUT.encode()
    assert inspect_file(write(tmp_path, latin)).rows[0][1] == "Input"


def test_a_solver():
    listing = inspect_file(GOLDENS / "solvers" / "bvlc_adam" / "solver.prototxt")
    assert listing.title.endswith("solver")
    assert ("type", "Adam") in listing.rows


def test_weights():
    listing = inspect_file(CASE / "net.caffemodel")
    rows = [dict(zip(listing.columns, row, strict=True)) for row in listing.rows]
    assert [(r["layer"], r["blob"], r["dtype"]) for r in rows] == [
        ("op", 0, "float32"), ("op", 1, "float32"),
    ]  # fmt: skip
    assert listing.totals["parameters"] == sum(r["count"] for r in rows)
    assert listing.totals["bytes of the file"] == (CASE / "net.caffemodel").stat().st_size


def test_a_converted_model(tmp_path):
    import caffe_port

    caffe_port.load(CASE / "net.prototxt", CASE / "net.caffemodel").save(tmp_path / "net.pt")
    listing = inspect_file(tmp_path / "net.pt")
    assert any(note.startswith("prototxt: ") for note in listing.notes)
    assert "phase: TEST" in listing.notes


FORK_SOLVER = """net: "x.prototxt"
base_lr: 0.5
device_id: [2, 3]
eval_type: "detection"
plateau_winsize: 10000 plateau_winsize: 20000
train_state { stage: "x" odd: 3 }"""


def test_a_solver_of_a_fork_is_shown_with_remarks_and_refused_elsewhere(tmp_path):
    path = write(tmp_path, FORK_SOLVER)
    listing = inspect_file(path)
    assert listing.title.endswith(": solver")
    assert ("base_lr", "0.5") in listing.rows
    assert ("device_id", "2") in listing.rows
    assert listing.notes == [
        "line 3: 'device_id' is given more than once; Caffe takes one",
        "line 4: unknown field 'eval_type'",
        "line 5: unknown field 'plateau_winsize'",
        "line 5: unknown field 'plateau_winsize'",
        "line 6: unknown field 'train_state.odd'",
    ]
    with pytest.raises(FormatError, match="line 3, column 1: 'device_id' is given more than once"):
        read_solver(path)
    with pytest.raises(FormatError, match="'base_lr' is given more than once"):
        inspect_file(write(tmp_path, "base_lr: 1 base_lr: 2"))


def test_text_that_is_neither_a_net_nor_a_solver(tmp_path):
    text = 'item { name: "background" label: 0 }\nitem { name: "aeroplane" label: 1 }'
    with pytest.raises(FormatError, match=r"line 1, column 1: neither a net, .* 'item' is of") as e:
        inspect_file(write(tmp_path, text))
    assert e.value.path is not None


VALUES = np.repeat([104.0, 117.0, 123.0], 4)
LEGACY = {"num": 1, "channels": 3, "height": 2, "width": 2}
SHAPE = {"shape": {"dim": [3, 2, 2]}}


@pytest.mark.parametrize("name", ["mean.binaryproto", "mean", "imagenet_mean.bin"])
@pytest.mark.parametrize(
    "fields",
    [
        {**LEGACY, "data": VALUES},
        {**SHAPE, "data": VALUES},
        {**SHAPE, "double_data": VALUES},
        {**SHAPE, "raw_data_type": 2, "raw_data": VALUES.astype("f2").tobytes()},
    ],
    ids=["legacy", "shape", "double", "raw"],
)
def test_a_mean_image_under_any_name(tmp_path, name, fields):
    content = caffe_pb2.BlobProto(**fields).SerializeToString()
    listing = inspect_file(write(tmp_path, content, name))
    assert listing.title.endswith("mean image, 3 x 2 x 2")
    assert listing.rows == [("0", "104.0000"), ("1", "117.0000"), ("2", "123.0000")]


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 100, b"\x89PNG\r\n\x1a\n" + b"\x00" * 50, b"\x80\x02}q\x00."]
)
def test_files_that_are_none_of_these(tmp_path, content):
    with pytest.raises(FormatError) as caught:
        inspect_file(write(tmp_path, content, "file.bin"))
    assert caught.value.path == str(tmp_path / "file.bin")


def test_a_broken_prototxt_keeps_its_line(tmp_path):
    with pytest.raises(FormatError) as caught:
        inspect_file(write(tmp_path, INPUT + "\nlayer {"))
    assert caught.value.line == 3
