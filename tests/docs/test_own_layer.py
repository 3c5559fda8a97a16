"""The layer of docs/own_layer.md takes part in everything; test_blocks runs the page itself."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import preloaded
from tests.docs.pages import blocks
from tests.goldens_dir import ROOT, SHAPES

RUN = SHAPES / "caffe_run"
WEIGHTS = RUN / "model" / "train_iter_2400.caffemodel"
USING = f"""
import numpy as np, torch, warnings
import caffe_port as cp
from caffe_port.export import emit_module, register_module_rule, register_onnx_rule, write_onnx
from caffe_port.unravel import trace

warnings.simplefilter("error")
net = cp.load("net.prototxt", {str(WEIGHTS)!r})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The page's files, and its net."""
    for block in blocks(ROOT / "docs" / "own_layer.md"):
        if block.title.endswith((".py", ".prototxt")):
            (tmp_path / block.title).write_text(block.text)
    plain = (RUN / "recording" / "net.prototxt").read_text()
    shifted = (tmp_path / "shifted.prototxt").read_text()
    (tmp_path / "net.prototxt").write_text(plain + shifted)
    return tmp_path


def python(folder: Path, *words: str) -> tuple[int, str]:
    done = preloaded.run(
        [sys.executable, *words], cwd=folder, env={**os.environ, "CAFFE_PORT_IMPORT": "offset.py"}
    )
    return done.returncode, done.stdout + done.stderr


def using(folder: Path, code: str) -> None:
    status, shown = python(folder, "-c", USING + code)
    assert status == 0, shown


@pytest.mark.parametrize(("shift", "status"), [(2.5, 0), (2.4, 1)])
def test_verify_compares_it(folder: Path, shift: float, status: int) -> None:
    recording = folder / "recording"
    shutil.copytree(RUN / "recording", recording)
    shutil.copy(folder / "net.prototxt", recording)
    blobs = dict(np.load(recording / "case.npz"))
    blobs["data/scores"] = blobs["data/fc8_interp"] + np.float32(shift)
    np.savez(recording / "case.npz", **blobs)
    words = ["verify", "net.prototxt", str(recording / "net.caffemodel"), "recording"]
    code = "from caffe_port.start import caffe_port; caffe_port()"
    found, shown = python(folder, "-c", code, *words, "--json", "report.json")
    assert found == status, shown
    rows = {row["name"]: row for row in json.loads((folder / "report.json").read_text())["rows"]}
    assert (rows["scores"]["verdict"] == "pass") is (status == 0)


def test_it_is_exported_with_equal_numbers(folder: Path) -> None:
    using(
        folder,
        """
emit_module(net, "exported.py")
write_onnx(net, "net.onnx")
import exported, onnxruntime
made = [c for c in vars(exported).values() if getattr(c, "__module__", "") == "exported"]
module = made[-1]()
module.load_state_dict(torch.load("exported.state.pt", weights_only=True))
x = torch.rand(1, 3, 161, 161) * 100
wanted = net(x)["scores"]
assert torch.equal(module.eval()(x), wanted)
session = onnxruntime.InferenceSession("net.onnx")
found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
assert np.abs(found - wanted.detach().numpy()).max() < 1e-3
""",
    )


def test_points_pass_through_it_unchanged(folder: Path) -> None:
    using(
        folder,
        """
x = torch.rand(1, 3, 161, 161) * 100
found = trace(net, {"data": x}, "scores")
assert found
for points in found.values():
    assert np.array_equal(points["scores"], points["fc8_interp"])
    assert len(points["data"])
""",
    )


def test_its_facts_are_used(folder: Path) -> None:
    using(
        folder,
        """
from caffe_port.pycaffe import coord_map, layers as L
layer = net.spec.layer("shifted")
assert layer.is_itemwise(1) and layer.op.by == 2.5
assert net.spec.unknown == ()
x = L.Input(input_param={"shape": {"dim": [1, 1, 4, 4]}})
assert coord_map.coord_map_from_to(L.Offset(x), x)[1:] == (1, 0)
""",
    )


def test_a_type_has_one_rule(folder: Path) -> None:
    """Also before anything has imported the rules of the built-in types."""
    using(
        folder,
        """
for add in (register_module_rule, register_onnx_rule):
    for type in ("ReLU", "Offset"):
        try:
            add(type)(lambda node, code: "")
        except ValueError as error:
            assert f"layer type '{type}' has a rule for" in str(error)
        else:
            raise AssertionError(type)
""",
    )


def test_kept_results_are_not_used_with_another_file(folder: Path) -> None:
    code = "from caffe_port.start import caffe_port; caffe_port()"
    words = ["evaluate", "net.prototxt", str(WEIGHTS), "--images", str(SHAPES), "--crop", "161"]
    status, shown = python(folder, "-c", code, *words, "-o", "scored")
    assert status == 0, shown
    path = folder / "offset.py"
    path.write_text(path.read_text() + "# changed\n")
    status, shown = python(folder, "-c", code, *words, "-o", "scored")
    assert status == 2
    assert "imports" in shown
    assert "--fresh" in shown
