"""tools/record_caffe.py inside a stand-in for pycaffe, read back by read_recording."""

from __future__ import annotations

import importlib.util
import os
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
    """Runs the tool in a folder with net files; returns the recording."""
    monkeypatch.setitem(sys.modules, "caffe", fake_caffe)
    monkeypatch.delattr(os, "fork", raising=False)  # so that the fake is this process's
    monkeypatch.setattr(fake_caffe.io.skimage.io, "imread", fake_caffe.imread)
    monkeypatch.chdir(tmp_path)
    Path("w.caffemodel").write_bytes(b"")
    Path("cat.jpg").write_bytes(b"")
    np.save("x.npy", np.arange(48, dtype=np.float64).reshape(2, 3, 4, 2))
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    tool = load_tool()

    def run(words, *arguments):
        Path("net.prototxt").write_text(words)
        assert tool.main(["net.prototxt", *arguments, "-o", "r.h5"]) == 0
        return read_recording(tmp_path / "r.h5")

    return run


def test_inputs_blobs_parameters_and_versions(record):
    found = record("", "w.caffemodel", "--array", "x=x.npy")
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
    first = record("", "--random", "x", "--seed", "4").inputs["x"]
    again = record("", "--random", "x", "--seed", "4").inputs["x"]
    other = record("", "--random", "x", "--seed", "5").inputs["x"]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert fake_caffe.seeds[-1] == 5


def test_random_labels_are_class_numbers(record):
    found = record("accuracy", "--random", "x", "--labels", "label=7").inputs["label"]
    assert found.shape == (2,)
    assert set(found) <= set(range(7))
    tool, shape = load_tool(), (1, 1, 50, 50)
    labels = tool.random_labels(np.random.RandomState(1), shape, "3,255")
    assert labels.shape == shape
    assert sorted(set(labels.ravel())) == [0, 1, 2, 255]
    assert 0.05 < (labels == 255).mean() < 0.15


def test_random_numbers_are_not_labels(record):
    with pytest.raises(SystemExit, match=r"'accuracy'.*class numbers.*--labels label=N"):
        record("accuracy", "--random", "x", "--random", "label")


def test_images_are_bgr_less_the_mean(record):
    found = record("", "--image", "x=cat.jpg", "--mean", "1,2,3")
    assert found.inputs["x"].shape == (2, 3, 4, 5)
    assert found.inputs["x"][1, :, 0, 0].tolist() == [254, 125.5, -3]


def test_several_images_fill_the_batch(record, monkeypatch):
    Path("dog.jpg").write_bytes(b"")
    monkeypatch.setattr(fake_caffe.io, "load_image", lambda path, color: np.ones((4, 4, 3)) * (
        path == "dog.jpg"))  # fmt: skip
    found = record("", "--image", "x=cat.jpg", "--image", "x=dog.jpg").inputs["x"]
    assert found[:, 0, 0, 0].tolist() == [0, 255]


def test_images_of_one_channel_are_grey(record):
    found = record("grey", "--image", "x=cat.jpg", "--mean", "10").inputs["x"]
    assert found.shape == (2, 1, 4, 5)
    assert found[0, 0, 0, 0] == 0.25 * 255 - 10


def test_training_records_what_the_forward_pass_changed(record):
    found = record("", "--phase", "TRAIN", "--random", "x")
    assert found.meta.phase == "TRAIN"
    assert found.params["scale", 0].tolist() == [3]
    assert found.after["scale", 0].tolist() == [4]


def test_chosen_blobs(record):
    found = record("", "--random", "x", "--blobs", "out/y", "--no-params", "--phase", "TRAIN")
    assert list(found.data) == ["out/y"]
    assert not found.meta.complete
    assert len(found.params) == len(found.after) == 0


def test_backward_from_loss_weights(record):
    found = record("loss force", "--random", "x", "--backward")
    assert found.meta.backward
    assert found.topdiffs["loss"] == np.float32(0.5)
    assert list(found.topdiffs) == ["loss"]
    assert np.array_equal(found.diffs["out/y"], 0.5 * found.data["out/y"])
    wanted = (found.diffs["out/y"] * found.inputs["x"]).sum()
    assert found.param_diffs["scale", 0] == pytest.approx(wanted, rel=1e-5)


def test_a_loss_without_force_backward_leaves_the_diff_of_the_input_0(record):
    found = record("loss", "--random", "x", "--backward")
    assert not found.diffs["x"].any()
    assert found.diffs["out/y"].any()


def test_backward_from_random_diffs_where_there_is_no_loss(record):
    found = record("force", "--random", "x", "--backward")
    assert np.array_equal(found.topdiffs["out/y"], found.diffs["out/y"])
    assert np.array_equal(found.diffs["x"], 3 * found.topdiffs["out/y"])
    assert found.topdiffs["out/y"].std() > 0.5


def test_the_diff_of_a_parameter_layers_top_starts_the_backward_pass(record):
    found = record("loss learned", "--random", "x", "--backward")
    assert (found.topdiffs["p"] == 0.25).all()
    assert np.array_equal(found.diffs["p"], found.topdiffs["p"])
    assert np.array_equal(found.param_diffs["p", 0], found.topdiffs["p"])


def test_backward_is_refused_where_caffe_computes_no_diff(record, tmp_path):
    with pytest.raises(SystemExit, match=r"Add force_backward: true to\s+net.prototxt"):
        record("", "--random", "x", "--backward")
    assert not list(tmp_path.glob("r.h5*"))


def test_scratch_of_the_forward_pass_is_not_a_diff(record):
    with pytest.raises(SystemExit, match="no diff"):
        record("hinge", "--random", "x", "--labels", "label=2", "--backward")
    found = record("hinge loss", "--random", "x", "--labels", "label=2", "--backward")
    assert list(found.topdiffs) == ["loss"]


def test_layers_that_caffe_cannot_run_backward_are_skipped(record):
    with pytest.raises(SystemExit, match="no output has a backward pass"):
        record("accuracy force", "--random", "x", "--labels", "label=2", "--backward")
    found = record("accuracy loss force", "--random", "x", "--labels", "label=2", "--backward")
    assert list(found.topdiffs) == ["loss"]
    assert found.diffs["x"].any()


def test_what_a_data_layer_read_is_an_input(record):
    found = record("data layer")
    assert found.inputs["x"].min() == found.inputs["x"].max() == 9


def test_what_a_data_layer_read_is_recorded_before_a_layer_changes_it(record):
    found = record("data layer, in place")
    assert found.inputs["x"].max() == 9
    assert found.data["x"].max() == 4.5
    assert found.data["out/y"].max() == 13.5


def test_memory_data_is_given_by_the_command(record):
    np.save("batch.npy", np.arange(120).reshape(2, 3, 4, 5))
    found = record("memory", "--array", "x=batch.npy", "--labels", "label=5")
    assert found.inputs["x"].max() == 119
    assert found.inputs["label"].shape == (2, 1, 1, 1)
    assert np.array_equal(found.inputs["label"], found.data["label"])
    assert np.array_equal(found.data["out/y"], 3 * found.inputs["x"])


def test_blobs_without_elements(record):
    np.save("nothing.npy", np.zeros((0, 3, 4, 5)))
    found = record("nothing", "--array", "x=nothing.npy")
    assert found.data["out/y"].shape == (0, 3, 4, 5)


@pytest.mark.parametrize(
    ("words", "arguments", "reason"),
    [
        ("", ["gone.caffemodel"], "no such file: gone.caffemodel"),
        ("", [], "set input 'x'"),
        ("", ["--array", "x"], "expected BLOB=FILE"),
        ("", ["--array", "x=gone.npy"], "no such file: gone.npy"),
        ("", ["--array", "x=objects.npy"], "input 'x' from.*objects.npy.*allow_pickle"),
        ("", ["--array", "y=x.npy"], "no blob 'y'"),
        ("", ["--array", "x=x.npy", "--random", "x"], "'x' is given twice"),
        ("", ["--random", "y"], "no blob 'y'"),
        ("", ["--labels", "y=3"], "no blob 'y'"),
        ("", ["--labels", "x"], "expected BLOB=N"),
        ("", ["--labels", "x=0"], "--labels ...=0: expected N"),
        ("", ["--labels", "x=3,a"], "expected N or N,IGNORED"),
        ("", ["--random", "x", "--blobs", "x,z"], "no blob 'z'"),
        ("", ["--image", "x=x.npy", "--mean", "1,2"], "1 number, or 1 for each of 3"),
        ("", ["--image", "x=x.npy", "--mean", "grey"], "could not convert.*'grey'"),
        ("data layer", ["--random", "x"], "a data layer fills 'x'"),
        ("memory", ["--random", "x"], "set input 'label'"),
        ("memory", ["--array", "x=x.npy", "--labels", "label=2"], r"shape \(2, 3, 4, 5\)"),
    ],
)
def test_mistakes_are_explained_and_leave_no_file(record, tmp_path, words, arguments, reason):
    with pytest.raises(SystemExit, match=reason):
        record(words, *arguments)
    assert not list(tmp_path.glob("r.h5*"))


def test_a_missing_net_and_an_unwritable_folder(record):
    tool = load_tool()
    with pytest.raises(SystemExit, match=r"no such file: gone.prototxt"):
        tool.main(["gone.prototxt", "-o", "r.h5"])
    with pytest.raises(SystemExit, match=r"cannot write gone/r.h5: No such file"):
        tool.main(["w.caffemodel", "-o", "gone/r.h5"])


def run_apart(folder, words, *arguments):
    """Runs the tool as a program, with the stand-in as its caffe."""
    shutil.copy(fake_caffe.__file__, folder / "caffe.py")
    (folder / "net.prototxt").write_text(words)
    command = [sys.executable, TOOL, "net.prototxt", "-o", "r.h5", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_when_caffe_aborts_the_layer_is_named(tmp_path):
    result = run_apart(tmp_path, "abort", "--random", "x")
    assert result.returncode == 1
    assert "Caffe ended by signal 6 in the forward pass of layer 'scale' (Scale)" in result.stderr
    assert not list(tmp_path.glob("r.h5*"))


def test_the_program_reports_success_and_mistakes(tmp_path):
    result = run_apart(tmp_path, "", "--random", "x")
    assert (result.returncode, result.stdout) == (0, "r.h5: 2 of 2 blobs recorded\n")
    assert read_recording(tmp_path / "r.h5").data["x"].any()
    before = (tmp_path / "r.h5").read_bytes()
    result = run_apart(tmp_path, "")
    assert result.returncode == 1
    assert result.stderr == (
        "record_caffe: set input 'x' with --image, --array, --random or --labels\n"
    )
    assert (tmp_path / "r.h5").read_bytes() == before


def test_a_failure_while_writing_keeps_the_old_file(record, tmp_path, monkeypatch):
    record("", "--random", "x")
    before = (tmp_path / "r.h5").read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(h5py.Group, "create_dataset", fail)
    with pytest.raises(OSError, match="disk full"):
        record("", "--random", "x")
    assert (tmp_path / "r.h5").read_bytes() == before
    assert len(list(tmp_path.glob("r.h5*"))) == 1


def test_help_needs_no_caffe():
    result = subprocess.run(
        [sys.executable, TOOL, "--help"], capture_output=True, text=True, check=True
    )
    assert "caffe-port verify" in result.stdout


def test_the_source_uses_python_2_syntax_only():
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
