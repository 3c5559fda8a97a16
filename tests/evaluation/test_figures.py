"""Figures as JSON, names of classes, figures from elsewhere."""

from __future__ import annotations

import json
import math
import os

import pytest

from caffe_port.data.voc import VOC_CLASSES
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.figures import as_json, class_names, read_reference
from tests.evaluation.standins import CROP, Brightest, Swaps, evaluate
from tests.goldens_dir import SHAPES


def test_class_names(tmp_path):
    assert class_names(21) == list(VOC_CLASSES)
    assert class_names(3) == ["0", "1", "2"]
    assert class_names(6, SHAPES / "class_names.txt")[-1] == "ring"
    with pytest.raises(UsageError, match="6 class names for a network of 21 classes"):
        class_names(21, SHAPES / "class_names.txt")
    with pytest.raises(DataError, match="cannot be read"):
        class_names(2, tmp_path / "gone")


def test_caffes_result_is_a_reference():
    reference = read_reference(SHAPES / "caffe_run" / "result_val.json", "Caffe")
    assert reference.mean_iou == (
        pytest.approx(0.85744, abs=1e-5),
        pytest.approx(0.94845, abs=1e-5),
    )
    assert len(reference.per_class[1]) == 6


def test_our_own_report_is_a_reference(voc, tmp_path):
    result = evaluate(voc[0], Brightest(), tmp_path / "out", CROP, make_refiner=Swaps())
    values = as_json(result, ["a", "b", "c"])
    (tmp_path / "report.json").write_text(json.dumps(values, allow_nan=False))
    reference = read_reference(tmp_path / "report.json", "earlier")
    assert reference.mean_iou == (result.before.mean_iou(), result.after.mean_iou())
    assert reference.per_class[0] == tuple(result.before.iou())


def test_half_a_reference_is_accepted(tmp_path):
    (tmp_path / "r.json").write_text('{"before": {"mean_iou": 0.5, "iou": [0.5, null]}}')
    reference = read_reference(tmp_path / "r.json", "x")
    assert reference.mean_iou == (0.5, None)
    assert math.isnan(reference.per_class[0][1])


@pytest.mark.parametrize(
    "text", ["", "[]", '{"raw": {}, "crf": {"iou": []}}', '{"raw": 3}', "[" * 9999]
)
def test_other_json_is_refused(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DataError, match=r"r\.json: expected"):
        read_reference(tmp_path / "r.json", "x")


def test_a_missing_reference_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_reference(tmp_path / "gone.json", "x")


def test_json_holds_every_image_and_no_nan(voc, tmp_path):
    voc[0][1].image.write_bytes(b"")
    result = evaluate(voc[0], Brightest(), tmp_path / "out", CROP, skip_bad=True)
    values = as_json(result, ["a", "b", "c"])
    again = json.loads(json.dumps(values, allow_nan=False))
    assert again["images"] == 4
    assert [entry["id"] for entry in again["per_image"]] == [item.id for item in voc[0]]
    assert again["per_image"][1]["mean_iou_before"] is None
    assert "im1" in again["skipped"][0]
    assert again["after"] is None
    assert again["before"]["confusion"] == result.before.counts.tolist()
    assert again["settings"]["crop"] == [12, 10]
    assert set(again["versions"]) >= {"python", "numpy", "torch", "pillow"}


def test_names_and_figures_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"class names cannot be read: .*not a regular file"):
        class_names(3, tmp_path / "pipe")
    with pytest.raises(DataError, match="not a regular file"):
        read_reference(tmp_path / "pipe", "theirs")
