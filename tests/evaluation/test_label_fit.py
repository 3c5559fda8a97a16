"""A truth that is numbered in another way than the classes is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from caffe_port.cli import main
from caffe_port.errors import UsageError
from caffe_port.evaluation.network import Options
from caffe_port.evaluation.scoring import ConfusionMatrix, expect_fit
from tests.evaluation.standins import Brightest, evaluate


def matrix(truth, prediction, classes):
    found = ConfusionMatrix(classes)
    found.add(np.array([truth]), np.array([prediction]))
    return found


def fit(truth, prediction, classes, unknown=(), void=0, stated=False):
    expect_fit(matrix(truth, prediction, classes), unknown, void, stated=stated)


def test_shifted_classes():
    with pytest.raises(UsageError, match=r"shifted by -1 .* class 0 where the truth has label 1"):
        fit([1, 2, 3, 4], [0, 1, 2, 3], 5)
    with pytest.raises(UsageError, match=r"shifted by \+1"):
        fit([0, 1, 2, 3], [1, 2, 3, 4], 5)


def test_classes_in_another_order():
    city = [7, 8, 11, 12, 13]
    with pytest.raises(UsageError, match=r"numbered in another way .* label 8 \(IoU 100 %\)"):
        fit(city, [0, 1, 2, 3, 4], 19)


def test_a_poor_network_is_not_a_shift():
    random = np.random.default_rng(0)
    truth = random.integers(0, 5, 1000)
    for prediction in (random.integers(0, 5, 1000), np.zeros(1000, int), np.full(1000, 4)):
        fit(truth, prediction, 5)
        fit(truth, prediction, 5, unknown=[5])
    fit([0, 1, 2, 3, 4], [0, 1, 3, 2, 4], 5)  # two classes are taken for each other
    fit([0, 0, 1, 1], [1, 1, 0, 0], 2)


def test_one_label_beyond_the_classes():
    with pytest.raises(UsageError, match=r"start at 1: label 3 is the only one beyond the 3"):
        fit([1, 2], [0, 1], 3, unknown=[3])
    fit([0, 1, 2], [0, 1, 2], 3, unknown=[3])  # a class that the network does not know
    fit([1, 2], [0, 1], 3, unknown=[3, 9])


def test_masks_of_0_and_255():
    with pytest.raises(UsageError, match=r"nothing but label 0 and 9 pixels of the ignored label"):
        fit([0, 0], [0, 1], 2, void=9)
    fit([0, 0], [0, 1], 2, void=9, stated=True)
    fit([0, 0], [0, 1], 2)
    fit([0, 1], [0, 1], 2, void=9)


def voc(root, truths, shown):
    """A folder whose images show their classes to ``Brightest``."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", "results"):
        (root / name).mkdir(parents=True)
    for i, (truth, classes) in enumerate(zip(truths, shown, strict=True)):
        colours = np.eye(3, dtype=np.uint8)[:, ::-1][classes] * 255
        Image.fromarray(colours).save(root / "JPEGImages" / f"im{i}.png")
        Image.fromarray(truth.astype(np.uint8)).save(root / "SegmentationClass" / f"im{i}.png")
        Image.fromarray(classes.astype(np.uint8)).save(root / "results" / f"im{i}.png")
    names = "".join(f"im{i}\n" for i in range(len(truths)))
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text(names)


def ade(root):
    shown = [np.random.default_rng(i).integers(0, 3, (9, 7)) for i in range(2)]
    truths = [classes + 1 for classes in shown]
    for truth in truths:
        truth[0] = 0
    voc(root, truths, shown)
    return shown


def run_score(root, *more):
    arguments = ["score", root / "results", "--images", root, "--classes", 3,
                 "--json", root / "report.json", *more]  # fmt: skip
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    path = root / "report.json"
    return done, json.loads(path.read_text()) if path.exists() else None


def test_labels_that_start_at_1_are_an_error_or_right_but_never_shifted(tmp_path):
    ade(tmp_path)
    done, _ = run_score(tmp_path)
    assert done.exit_code == 1
    assert (
        "seem to start at 1, with 0 for pixels without a label: --reduce-zero-label" in done.output
    )
    (tmp_path / "report.json").unlink()
    done, report = run_score(tmp_path, "--unknown-labels", "ignore")
    assert (done.exit_code, report) == (2, None)
    assert "The score would be that of classes shifted by one" in done.output.replace("\n", " ")
    done, report = run_score(tmp_path, "--reduce-zero-label")
    assert (done.exit_code, report["after"]["mean_iou"]) == (0, 1)
    assert report["after"]["pixels"] == 2 * 8 * 7


def test_the_same_in_an_evaluation(tmp_path):
    from caffe_port.data.voc import voc_items
    from caffe_port.datasets import LabelRules

    ade(tmp_path)
    items, options = voc_items(tmp_path), Options((9, 7), (0.0, 0.0, 0.0), unknown_labels="ignore")
    with pytest.raises(UsageError, match="seem to start at 1"):
        evaluate(items, Brightest(), tmp_path / "out", options)
    rules = LabelRules(first=1, ignored=(0,))
    options = Options((9, 7), (0.0, 0.0, 0.0), labels=rules)
    result = evaluate(items, Brightest(), tmp_path / "out", options)
    assert result.before.mean_iou() == 1
    assert (result.void, result.before.pixels) == (2 * 7, 2 * 8 * 7)


def test_a_label_map(tmp_path):
    shown = [np.random.default_rng(5).integers(0, 3, (9, 7))]
    stored = np.array([50, 7, 255])[shown[0]]
    voc(tmp_path, [stored], shown)
    (tmp_path / "map.json").write_text('{"50": 0, "7": 1, "255": 2}')
    done, report = run_score(tmp_path, "--label-map", tmp_path / "map.json")
    assert (done.exit_code, report["after"]["mean_iou"]) == (0, 1)
    assert report["after"]["pixels"] == 63
    done, report = run_score(tmp_path, "--label-map", tmp_path / "map.json", "--ignore-label", 7)
    assert report["after"]["pixels"] == int((stored != 7).sum())
    done, _ = run_score(tmp_path, "--label-map", tmp_path / "map.json", "--reduce-zero-label")
    assert done.exit_code == 2
    assert "give one" in done.output


def test_0_and_255_in_the_command(tmp_path):
    shown = [np.random.default_rng(5).integers(0, 2, (9, 7))]
    voc(tmp_path, [shown[0] * 255], shown)
    done, report = run_score(tmp_path, "--classes", 2)
    assert (done.exit_code, report) == (2, None)
    assert '--label-map FILE.json with {"0": 0, "255": 1} in the file' in done.output
    (tmp_path / "map.json").write_text('{"0": 0, "255": 1}')
    done, report = run_score(tmp_path, "--classes", 2, "--label-map", tmp_path / "map.json")
    assert (done.exit_code, report["after"]["mean_iou"]) == (0, 1)
