"""``caffe-port upgrade``, and what ``inspect`` shows of caffemodels and solver states."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import caffe_port
from caffe_port.cli import main
from caffe_port.proto import caffe_pb2, read_net
from caffe_port.weights import read_weights
from tests.goldens_dir import GOLDENS

IO = GOLDENS / "io"
LARGEFOV = GOLDENS / "nets" / "deeplab1_largefov_v1_hole"
SOLVER = GOLDENS / "solvers" / "bvlc_adam"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.mark.parametrize("name", ["v0_net", "v1_net", "old_inputs", "old_solver"])
def test_writes_what_caffes_tools_wrote(tmp_path: Path, name: str) -> None:
    target = tmp_path / "new.prototxt"
    result = call("upgrade", IO / f"{name}.prototxt", target)
    assert (result.exit_code, result.stderr) == (0, "")
    assert target.read_text() == (IO / f"{name}.upgraded.prototxt").read_text()
    again = tmp_path / "again.prototxt"
    assert call("upgrade", target, again).exit_code == 0
    assert again.read_text() == target.read_text()


def test_a_deeplab_v1_caffemodel_becomes_one_of_v2(tmp_path: Path) -> None:
    target = tmp_path / "new.caffemodel"
    assert call("upgrade", LARGEFOV / "net.caffemodel", target).exit_code == 0
    old, new = read_weights(LARGEFOV / "net.caffemodel"), read_weights(target)
    assert (old.generation, new.generation) == ("V1", "V2")
    for first, second in zip(old.layers, new.layers, strict=True):
        assert (first.name, first.type) == (second.name, second.type)
        for a, b in zip(first.blobs, second.blobs, strict=True):
            assert np.array_equal(a.data, b.data)
    assert call("upgrade", LARGEFOV / "net.prototxt", tmp_path / "new.prototxt").exit_code == 0
    assert "dilation: 12" in (tmp_path / "new.prototxt").read_text()
    caffe_port.load(tmp_path / "new.prototxt", target)  # strictly


def test_variables_are_filled_in(tmp_path: Path) -> None:
    source = tmp_path / "net.prototxt"
    source.write_text('name: "${EXP}"')
    assert call("upgrade", "--set", "EXP=voc12", source, tmp_path / "new.prototxt").exit_code == 0
    assert read_net(tmp_path / "new.prototxt").name == "voc12"
    assert call("upgrade", source, tmp_path / "none.prototxt").exit_code == 2
    assert not (tmp_path / "none.prototxt").exists()


def test_v1_loss_options_get_their_present_name_or_a_remark(tmp_path: Path) -> None:
    source, target = tmp_path / "net.prototxt", tmp_path / "new.prototxt"
    text = 'layers {{ name: "loss" type: SOFTMAX_LOSS softmaxloss_param {{ {} }} }}'
    source.write_text(text.format("ignore_label: 255"))
    assert call("upgrade", source, target).stderr == ""
    wanted = caffe_pb2.LayerParameter(name="loss", type="SoftmaxWithLoss")
    wanted.loss_param.ignore_label = 255
    assert list(read_net(target).layer) == [wanted]
    source.write_text(text.format("ignore_label: 0 ignore_label: 255"))
    remark = "layer 'loss' (SoftmaxWithLoss): only DeepLab v1 has 'softmaxloss_param'\n"
    assert call("upgrade", source, target).stderr == remark
    assert list(read_net(target).layer[0].softmaxloss_param.ignore_label) == [0, 255]


def test_an_option_without_effect_is_left_out_with_a_remark(tmp_path: Path) -> None:
    source, target = tmp_path / "net.prototxt", tmp_path / "new.prototxt"
    source.write_text('layer { name: "r" type: "ReLU" relu_param { engine: MKL2017 } }')
    result = call("upgrade", source, target)
    assert result.exit_code == 0
    assert "'relu_param.engine: MKL2017' is of another Caffe" in result.stderr
    assert not read_net(target).layer[0].relu_param.HasField("engine")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'layer { name: "x" type: "ReLU" my_field: 3 }', "'my_field'; it would be lost"),
        (b'base_lr: 0.1 my_field: 3 type: "SGD"', "unknown field 'my_field'"),
        (b"\x0a\x03net", "no layers"),
    ],
)
def test_refuses_what_would_be_lost_or_is_broken(
    tmp_path: Path, content: bytes, message: str
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content)
    result = call("upgrade", source, target)
    assert result.exit_code == 2
    assert message in result.stderr
    assert str(source) in result.stderr
    assert not target.exists()


def test_inspect_shows_embedded_layers() -> None:
    result = call("inspect", "--net", "--json", LARGEFOV / "net.caffemodel")
    listing = json.loads(result.stdout)
    assert listing["title"].endswith("as embedded, V1, deeplab1")
    rows = {row["layer"]: row for row in listing["rows"]}
    assert rows["fc6"]["type"] == "Convolution"
    assert "dilation: 12" in rows["fc6"]["options"]
    assert "as embedded" in call("inspect", "--net", LARGEFOV / "net.caffemodel").stdout


@pytest.mark.parametrize(
    "path", [SOLVER / "snap_iter_12.solverstate", IO / "hdf5" / "snap_iter_12.solverstate.h5"]
)
def test_inspect_shows_solver_states(path: Path) -> None:
    listing = json.loads(call("inspect", "--json", path).stdout)
    assert listing["totals"]["iteration"] == 12
    assert listing["totals"]["weights"].startswith("snap_iter_12.caffemodel")
    assert [row["shape"] for row in listing["rows"]][:2] == ["6 x 3 x 3 x 3", "6"]
    assert len(listing["rows"]) == 8
