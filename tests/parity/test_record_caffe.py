"""tools/record_caffe.py inside a stand-in for pycaffe, read back by read_recording."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from caffe_port.parity.recording import read_recording
from tests.parity import fake_caffe

TOOL = Path(__file__).parents[2] / "tools" / "record_caffe.py"


def load_tool():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("record_caffe", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


@pytest.fixture
def record(monkeypatch, tmp_path):
    """Runs the tool in a folder with net files; returns the recording's path."""
    monkeypatch.setitem(sys.modules, "caffe", fake_caffe)
    monkeypatch.chdir(tmp_path)
    for name, text in {"net": "plain", "loss": "loss", "reader": "data layer, loss"}.items():
        Path(f"{name}.prototxt").write_text(text)
    Path("w.caffemodel").write_bytes(b"")
    np.save("x.npy", np.arange(48, dtype=np.float64).reshape(2, 3, 4, 2))
    tool = load_tool()

    def run(*arguments):
        assert tool.main([*arguments, "-o", "r.h5"]) == 0
        return read_recording(tmp_path / "r.h5")

    return run


def test_inputs_blobs_parameters_and_versions(record):
    found = record("net.prototxt", "w.caffemodel", "--array", "x=x.npy")
    assert found.meta.phase == "TEST"
    assert (found.meta.backward, found.meta.complete) == (False, True)
    assert found.meta.versions["caffe"] == "1.0.0-fake"
    assert found.meta.versions["numpy"] == np.__version__
    assert found.meta.versions["h5py"] == h5py.__version__
    assert found.inputs["x"].shape == (2, 3, 4, 2)
    assert np.array_equal(found.data["out/y"], 3 * found.inputs["x"])
    assert found.params["scale", 0].tolist() == [3]
    assert len(found.after) == len(found.diffs) == 0


def test_random_inputs_follow_the_seed(record):
    first = record("net.prototxt", "--random", "x", "--seed", "4").inputs["x"]
    again = record("net.prototxt", "--random", "x", "--seed", "4").inputs["x"]
    other = record("net.prototxt", "--random", "x", "--seed", "5").inputs["x"]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert fake_caffe.seeds[-1] == 5


def test_images_are_bgr_less_the_mean(record):
    Path("cat.jpg").write_bytes(b"")
    found = record("net.prototxt", "--image", "x=cat.jpg", "--mean", "1,2,3")
    assert found.inputs["x"].shape == (2, 3, 4, 5)
    assert found.inputs["x"][1, :, 0, 0].tolist() == [254, 125.5, -3]


def test_training_records_what_the_forward_pass_changed(record):
    found = record("net.prototxt", "--phase", "TRAIN", "--random", "x")
    assert found.meta.phase == "TRAIN"
    assert found.params["scale", 0].tolist() == [3]
    assert found.after["scale", 0].tolist() == [4]


def test_chosen_blobs(record):
    found = record("net.prototxt", "--random", "x", "--blobs", "out/y", "--no-params")
    assert list(found.data) == ["out/y"]
    assert not found.meta.complete
    assert len(found.params) == 0


def test_backward_from_loss_weights(record):
    found = record("loss.prototxt", "--random", "x", "--backward")
    assert found.meta.backward
    assert found.topdiffs["loss"] == np.float32(0.5)
    assert list(found.topdiffs) == ["loss"]
    assert np.array_equal(found.diffs["out/y"], 0.5 * found.data["out/y"])
    wanted = (found.diffs["out/y"] * found.inputs["x"]).sum()
    assert found.param_diffs["scale", 0] == pytest.approx(wanted, rel=1e-5)


def test_backward_from_random_diffs_where_there_is_no_loss(record):
    found = record("net.prototxt", "--random", "x", "--backward")
    assert np.array_equal(found.topdiffs["out/y"], found.diffs["out/y"])
    assert np.array_equal(found.diffs["x"], 3 * found.topdiffs["out/y"])
    assert found.topdiffs["out/y"].std() > 0.5


def test_what_a_data_layer_read_is_an_input(record):
    found = record("reader.prototxt")
    assert found.inputs["x"].min() == found.inputs["x"].max() == 9


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["gone.prototxt"], "no such file: gone.prototxt"),
        (["net.prototxt", "gone.caffemodel"], "no such file: gone.caffemodel"),
        (["net.prototxt"], "set input 'x'"),
        (["net.prototxt", "--array", "x"], "expected BLOB=FILE"),
        (["net.prototxt", "--array", "x=gone.npy"], "no such file: gone.npy"),
        (["net.prototxt", "--array", "y=x.npy"], "no blob 'y'"),
        (["net.prototxt", "--random", "y"], "no blob 'y'"),
        (["net.prototxt", "--random", "x", "--blobs", "x,z"], "no blob 'z'"),
        (["net.prototxt", "--image", "x=x.npy", "--mean", "1,2"], "1 or 3 numbers"),
        (["net.prototxt", "--image", "x=x.npy", "--mean", "grey"], "expected numbers"),
        (["reader.prototxt", "--random", "x"], "a data layer fills 'x'"),
    ],
)
def test_mistakes_are_explained_and_leave_no_file(record, tmp_path, arguments, reason):
    with pytest.raises(SystemExit, match=reason):
        record(*arguments)
    assert not list(tmp_path.glob("*.h5"))


def test_a_failure_while_writing_keeps_the_old_file(record, tmp_path, monkeypatch):
    record("net.prototxt", "--random", "x")
    before = (tmp_path / "r.h5").read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(h5py.Group, "create_dataset", fail)
    with pytest.raises(OSError, match="disk full"):
        record("net.prototxt", "--random", "x")
    assert (tmp_path / "r.h5").read_bytes() == before
    assert len(list(tmp_path.glob("*.h5"))) == 1


def test_help_needs_no_caffe():
    result = subprocess.run(
        [sys.executable, TOOL, "--help"], capture_output=True, text=True, check=True
    )
    assert "caffe-port verify" in result.stdout


def test_source_keeps_to_what_python_2_reads():
    source = TOOL.read_text(encoding="ascii")
    code = re.sub(r'""".*?"""', '""', source, flags=re.DOTALL)
    assert not re.search(r"""\b[fF]["']|->|:=|\bnonlocal\b|\byield from\b|\basync\b""", code)
    assert not re.search(r"def \w+\([^)]*:|\*, |\braise .* from \b|super\(\)", code)
    assert "from __future__ import division, print_function" in code
    assert "caffe_port" not in re.sub(r"#.*", "", code)


def test_source_compiles_with_python_2(tmp_path):
    python = shutil.which("python2.7")
    works = python and subprocess.run([python, "-V"], capture_output=True, check=False)
    if works and works.returncode == 0:
        copy = shutil.copy(TOOL, tmp_path / "record_caffe.py")
        subprocess.run([python, "-m", "py_compile", copy], check=True)
        assert (tmp_path / "record_caffe.pyc").exists()
    else:
        compile(TOOL.read_text(encoding="ascii"), str(TOOL), "exec")
