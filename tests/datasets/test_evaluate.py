"""`caffe-port evaluate --dataset`: a network's score on a data set whose labels are not classes."""

from __future__ import annotations

import json

import numpy as np
from click.testing import CliRunner
from PIL import Image

from caffe_port.cli import main
from caffe_port.data.images import read_labels
from tests.goldens_dir import ROOT

SHAPES = ROOT / "examples" / "shapes_voc"
RUN = SHAPES / "caffe_run"
NAMES = ["shape_val_0000", "shape_val_0001"]


def evaluate(tmp_path, out, *more):
    arguments = ["evaluate", RUN / "recording" / "net.prototxt",
                 RUN / "model" / "train_iter_2400.caffemodel", "-o", tmp_path / out, "-j", 1,
                 *more]  # fmt: skip
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_labels_that_start_at_one(tmp_path):
    (tmp_path / "images" / "val").mkdir(parents=True)
    (tmp_path / "truth").mkdir()
    for name in NAMES:
        source = next((SHAPES / "JPEGImages").glob(f"{name}.*"))
        (tmp_path / "images" / "val" / source.name).write_bytes(source.read_bytes())
        folder = next(f for f in SHAPES.glob("SegmentationClass*") if (f / f"{name}.png").is_file())
        labels = read_labels(folder / f"{name}.png").astype(int)
        stored = np.where(labels == 255, 0, labels + 1).astype(np.uint8)
        Image.fromarray(stored).save(tmp_path / "truth" / f"{name}.png")
    description = {
        "name": "shapes", "classes": [f"shape {i}" for i in range(6)],
        "labels": {"first": 1, "ignored": [0]},
        "layout": {"images": [f"images/{{split}}/{{id}}{source.suffix}"],
                   "labels": ["truth/{id}.png"]},
        "splits": {"val": {"images": 2}},
    }  # fmt: skip
    (tmp_path / "shapes.json").write_text(json.dumps(description))
    (tmp_path / "list.txt").write_text("\n".join(NAMES))
    known = evaluate(tmp_path, "voc", "--images", SHAPES, "--list", tmp_path / "list.txt")
    assert known.exit_code == 0, known.output
    mapped = evaluate(tmp_path, "own", "--images", tmp_path, "--dataset",
                      tmp_path / "shapes.json", "--boundary")  # fmt: skip
    assert mapped.exit_code == 0, mapped.output
    reports = [json.loads((tmp_path / out / "report.json").read_text()) for out in ("voc", "own")]
    assert reports[0]["before"]["confusion"] == reports[1]["before"]["confusion"]
    assert reports[1]["classes"] == description["classes"]
    assert 0 < reports[1]["boundary"]["before"]["mean_iou"] <= 1
    plain = ["--images", tmp_path / "images" / "val", "--labels", tmp_path / "truth"]
    shifted = evaluate(tmp_path, "shifted", *plain, "--unknown-labels", "ignore")
    assert shifted.exit_code == 2
    assert "shifted" in shifted.output
    assert not (tmp_path / "shifted" / "report.json").exists()
    reduced = evaluate(tmp_path, "reduced", *plain, "--reduce-zero-label")
    assert reduced.exit_code == 0, reduced.output
    report = json.loads((tmp_path / "reduced" / "report.json").read_text())
    assert report["before"]["confusion"] == reports[0]["before"]["confusion"]
    other = evaluate(tmp_path, "other", "--images", tmp_path, "--dataset", "ade20k")
    assert other.exit_code == 2
