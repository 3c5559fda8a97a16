"""Data layers whose code is not here, in nets that run, are converted and read again."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import caffe_port
from caffe_port.cli import main
from caffe_port.errors import LayerError
from caffe_port.export import ExportWarning, emit_module

NET = """
layer { name: "d" type: "%s" top: "data" top: "label" %s }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 2 weight_filler { type: "constant" value: 2 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
FOREIGN = NET % ("VideoData", "")
PYTHON = NET % ("Python", 'python_param { module: "pascal_layers" layer: "VOC" }')
LEVELDB = NET % ("Data", 'data_param { source: "gone" batch_size: 4 }')
SHAPES = {"data": (4, 3), "label": (4, 2)}
OPTIONS = [word for name, shape in SHAPES.items()
           for word in ("--input-shape", f"{name}={','.join(map(str, shape))}")]  # fmt: skip
ALL = pytest.mark.parametrize("text", [FOREIGN, PYTHON, LEVELDB], ids=["fork", "Python", "LevelDB"])


@ALL
def test_it_runs_on_what_is_given(tmp_path: Path, text: str) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    net = caffe_port.load(path, input_shapes=SHAPES)
    x, y = torch.ones(5, 3), torch.ones(5, 2)
    assert torch.equal(net({"data": x}, keep=["ip"])["ip"], torch.full((5, 2), 6.0))
    assert set(net({"data": x})) == {"ip"}  # the loss lacks its label
    assert net({"data": x, "label": y})["loss"].item() == 5 * 2 * 25 / (2 * 5)


@pytest.mark.parametrize("text", [FOREIGN, PYTHON])
def test_without_data_the_error_names_the_layer(tmp_path: Path, text: str) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    net = caffe_port.load(path, input_shapes=SHAPES)
    with pytest.raises(LayerError, match=r"layer 'd'.*give the data of its tops 'data', 'label'"):
        net({})


@ALL
def test_commands_need_no_code_and_a_converted_model_remembers_the_shapes(
    tmp_path: Path, text: str
) -> None:
    path, first, second = (tmp_path / name for name in ("net.prototxt", "a.pt", "b.pt"))
    path.write_text(text)
    caffe_port.load(path, input_shapes=SHAPES).save(first)
    for command in (["inspect", path], ["convert", path, first, "-o", second]):
        words = [str(word) for word in command] + OPTIONS
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
    again = caffe_port.load(second)
    assert again.spec.shapes["label"] == (4, 2)
    assert torch.equal(again({"data": torch.ones(4, 3)})["ip"], torch.full((4, 2), 6.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExportWarning)  # the data and the loss are left out
        emit_module(again, tmp_path / "module.py", tmp_path / "module.pt")
    assert "def forward(self, data" in (tmp_path / "module.py").read_text()
