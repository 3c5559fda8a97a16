"""``caffe-port demo``: the numbers of real Caffe, and what it says when they differ."""

from __future__ import annotations

import json
import shutil

import pytest
from click.testing import CliRunner

from caffe_port.cli import main
from tests.goldens_dir import SHAPES


def call(*arguments):
    words = ["demo", *(str(a) for a in arguments)]
    return CliRunner().invoke(main, words, catch_exceptions=False)


@pytest.fixture
def small_example(tmp_path):
    """The example with three validation images."""
    root = tmp_path / "example"
    shutil.copytree(SHAPES / "caffe_run", root / "caffe_run")
    for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        (root / folder).mkdir()
        for i in range(3):
            name = f"shape_val_000{i}.{suffix}"
            shutil.copy(SHAPES / folder / name, root / folder / name)
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    names = "".join(f"shape_val_000{i}\n" for i in range(3))
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text(names)
    shutil.copy(SHAPES / "class_names.txt", root)
    return root


def test_every_label_equals_caffes(tmp_path):
    result = call("--example", SHAPES, "-o", tmp_path / "demo", "-j", 2)
    assert result.exit_code == 0, result.output
    for piece in ("85.744", "94.845", "0 of 1,119,840", "321,710 parameters", "ring"):
        assert piece in result.output
    values = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert values["labels_unlike_caffe"] == {"before": 0, "after": 0, "pixels": 1119840}
    assert values["parity"]["passed"] is True
    assert values["before"]["mean_iou"] == values["caffe_mean_iou"]["before"]
    assert values["after"]["mean_iou"] == values["caffe_mean_iou"]["after"]
    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert "Compared with real Caffe" in page
    assert "fc8_interp" in page
    assert (tmp_path / "demo" / "largefov.pt").stat().st_size > 1_000_000


def test_other_weights_are_detected(small_example, tmp_path):
    model = small_example / "caffe_run" / "model"
    shutil.copy(model / "train_iter_1200.caffemodel", model / "train_iter_2400.caffemodel")
    result = call("--example", small_example, "-o", tmp_path / "demo")
    assert result.exit_code == 1
    assert "arrays fail" in result.output
    values = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert values["labels_unlike_caffe"]["before"] > 0
    assert values["parity"]["passed"] is False


def test_a_folder_that_is_not_the_example_is_refused(tmp_path):
    result = call("--example", tmp_path, "-o", tmp_path / "demo")
    assert result.exit_code == 2
    assert "the example is not in" in result.output


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("result_val.json", b"{}", "figures before and after"),
        ("result_val.json", b"[", "expected"),
        ("result_val.npz", b"PK", "label maps cannot be read"),
        ("model/train_iter_2400.caffemodel", b"\x0a\xff", "byte"),
    ],
)
def test_damaged_files_of_the_example_are_named(small_example, tmp_path, file, content, message):
    (small_example / "caffe_run" / file).write_bytes(content)
    result = call("--example", small_example, "-o", tmp_path / "demo")
    assert result.exit_code == 2
    assert message in result.output


def test_an_interruption_ends_it(small_example, tmp_path, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("caffe_port.evaluation.pipeline.evaluate", interrupted)
    result = call("--example", small_example, "-o", tmp_path / "demo")
    assert result.exit_code == 130
