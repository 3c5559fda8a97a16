"""``caffe-port convert --emit-module`` and ``-o net.onnx``."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner

from caffe_port.cli import main
from tests.export.making import NETS, imported

FOLDER = next(f for f in NETS if "v1_hole" in f.name)
TRAINED = next(f for f in NETS if f.name == "deeplab_largefov_train")


def convert(folder, *arguments):
    files = [folder / "net.prototxt", folder / "net.caffemodel"]
    return CliRunner().invoke(main, ["convert", *map(str, [*files, *arguments])])


def test_a_module_and_its_state_dict_next_to_it(tmp_path):
    result = convert(FOLDER, "--emit-module", tmp_path / "largefov.py")
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["largefov.py", "largefov.state.pt"]
    assert "largefov.state.pt" in result.output
    module = imported(tmp_path / "largefov.py")
    module.load_state_dict(torch.load(tmp_path / "largefov.state.pt", weights_only=True))
    assert 'torch.load("largefov.state.pt"' in (tmp_path / "largefov.py").read_text()


def test_the_state_dict_where_o_says(tmp_path):
    from safetensors.torch import load_file

    state = tmp_path / "weights" / "state.safetensors"
    result = convert(FOLDER, "--emit-module", tmp_path / "largefov.py", "-o", state)
    assert result.exit_code == 0, result.output
    imported(tmp_path / "largefov.py").load_state_dict(load_file(state))


def test_one_warning_per_layer_left_out(tmp_path):
    result = convert(TRAINED, "--phase", "TEST", "--emit-module", tmp_path / "net.py")
    assert result.exit_code == 0, result.output
    warned = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 2
    assert "'loss' (SoftmaxWithLoss)" in warned[0]
    assert "'accuracy' (SegAccuracy)" in warned[1]


def test_an_onnx_file(tmp_path):
    onnx = pytest.importorskip("onnx")
    result = convert(FOLDER, "-o", tmp_path / "net.onnx")
    assert result.exit_code == 0, result.output
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    assert onnx.load(tmp_path / "net.onnx").producer_name == "caffe_port"


@pytest.mark.parametrize(
    ("arguments", "batch", "opset"),
    [
        ([], "batch", 18),
        (["--input-shape", "data=1,3,33,33", "--opset", "13"], 1, 13),
        (["--input-shape", "data=1,3,33,33", "--dynamic"], "batch", 18),
        (["--no-dynamic"], 2, 18),
    ],
)
def test_the_sizes_of_an_onnx_file(arguments, batch, opset, tmp_path):
    onnx = pytest.importorskip("onnx")
    result = convert(FOLDER, "-o", tmp_path / "net.onnx", *arguments)
    assert result.exit_code == 0, result.output
    model = onnx.load(tmp_path / "net.onnx")
    (first, *_) = model.graph.input[0].type.tensor_type.shape.dim
    assert (first.dim_param or first.dim_value) == batch
    assert model.opset_import[0].version == opset


@pytest.mark.parametrize(
    ("arguments", "piece"),
    [
        ([], "give -o, --emit-module or --pretrained"),
        (["--emit-module", "net.txt"], ".py file"),
        (["--emit-module", "net.py", "-o", "net.onnx"], ".pt, .pth, .safetensors"),
        (["--emit-module", "net.py", "--phase", "TRAIN"], "--phase TEST"),
        (["-o", "net.tflite"], "unknown suffix"),
        (["-o", "net.pt", "--opset", "18"], "are for -o FILE.onnx"),
        (["-o", "net.pt", "--no-dynamic"], "are for -o FILE.onnx"),
        (["-o", "net.onnx", "--opset", "12"], "--opset 12: expected 13 to 22"),
    ],
)
def test_what_cannot_be_written_ends_with_status_2(arguments, piece, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = convert(FOLDER, *arguments)
    assert result.exit_code == 2
    assert piece in result.output
    assert list(tmp_path.iterdir()) == []
