"""Every known data set in its true folders: found, read, scored."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from caffe_port.cli import main
from caffe_port.datasets import dataset, dataset_items, known_datasets
from caffe_port.errors import DataError, UsageError
from tests.datasets.folders import REAL, SHAPE, make, predict

# what the sets' publishers say
COUNTS = {
    "voc2012": {"train": 1464, "val": 1449, "trainval": 2913, "test": 1456},
    "voc2007": {"train": 209, "val": 213, "trainval": 422, "test": 210},
    "sbd": {"train": 8498, "val": 2857},
    "pascal_context59": {"train": 4998, "val": 5105, "trainval": 10103},
    "pascal_context60": {"train": 4998, "val": 5105, "trainval": 10103},
    "pascal_person_part": {"train": 1716, "val": 1817},
    "cityscapes": {"train": 2975, "val": 500, "test": 1525},
    "cocostuff10k": {"train": 9000, "test": 1000, "all": 10000},
    "cocostuff10k_171": {"train": 9000, "test": 1000, "all": 10000},
    "cocostuff164k": {"train": 118287, "val": 5000},
    "cocostuff164k_171": {"train": 118287, "val": 5000},
    "nyudv2_40": {"train": 381, "val": 414, "trainval": 795, "test": 654},
    "ade20k": {"train": 20210, "val": 2000},
}
SOME = {
    "cityscapes": {0: "road", 11: "person", 13: "car", 18: "bicycle"},
    "ade20k": {0: "wall", 12: "person", 149: "flag"},
    "pascal_context59": {0: "aeroplane", 58: "wood"},
    "pascal_context60": {0: "background", 11: "table", 28: "cloth", 59: "wood"},
    "cocostuff10k": {0: "person", 11: "street sign", 91: "banner", 181: "wood"},
    "cocostuff10k_171": {0: "person", 11: "stop sign", 170: "wood"},
    "nyudv2_40": {0: "wall", 39: "otherprop"},
}


def score(tmp_path, name, *more):
    """Runs the command; returns its outcome and the report."""
    report = tmp_path / "report.json"
    report.unlink(missing_ok=True)
    arguments = ["score", tmp_path / "results", "--images", tmp_path / "data", "--dataset", name,
                 "--list", REAL[name].split, "--json", report, *more]  # fmt: skip
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return done, json.loads(report.read_text()) if report.exists() else None


def test_all_sets_are_tested():
    assert sorted(REAL) == known_datasets() == sorted(COUNTS)


@pytest.mark.parametrize("name", REAL)
def test_description(name):
    data = dataset(name.replace("_", "-").upper())
    assert len(data.classes) == len(set(data.classes)) == REAL[name].classes
    assert {split: part.images for split, part in data.splits.items()} == COUNTS[name]
    assert all(data.classes[i] == text for i, text in SOME.get(name, {}).items())
    assert data.colours.shape == (256, 3)
    assert [data.rules.class_of(label) for label in data.rules.stored()] == list(
        range(len(data.classes))
    )


@pytest.mark.parametrize("name", REAL)
def test_perfect_predictions_score_100(tmp_path, name):
    maps = make(tmp_path / "data", name)
    predict(tmp_path / "results", REAL[name], maps)
    done, report = score(tmp_path, name)
    assert done.exit_code == 0, done.output
    assert report["after"]["mean_iou"] == 1
    assert report["after"]["pixels"] == sum(int((truth != 255).sum()) for truth in maps)
    assert report["classes"] == list(dataset(name).classes)


@pytest.mark.parametrize("name", REAL)
def test_a_prediction_of_known_iou(tmp_path, name):
    # the first image is predicted as its left class: of its R counted rows of 8 pixels, 4 R are
    # right and 4 R of the other class are taken for it; the second image is perfect
    maps = make(tmp_path / "data", name)
    first, second, *_ = sorted(REAL[name].stored)
    guesses = [maps[0].copy(), maps[1].copy()]
    guesses[0][maps[0] == second] = first
    predict(tmp_path / "results", REAL[name], guesses)
    done, report = score(tmp_path, name)
    assert done.exit_code == 0, done.output
    iou = report["after"]["iou"]
    rows = SHAPE[0] - (REAL[name].ignored >= 0)
    extra = 2 * rows if len(REAL[name].stored) < 3 else 0  # of the first class in the second image
    assert iou[first] == (4 * rows + extra) / (8 * rows + extra)
    assert iou[second] == 6 * rows / (10 * rows)


@pytest.mark.parametrize("name", REAL)
def test_a_label_that_the_set_does_not_have_is_an_error(tmp_path, name):
    real = REAL[name]
    maps = make(tmp_path / "data", name)
    predict(tmp_path / "results", real, maps)
    stored = np.full(SHAPE, real.wrong)
    real.write(tmp_path / "data" / real.files[0][1], stored)
    done, report = score(tmp_path, name)
    assert done.exit_code == 1
    words = f"the truth holds label {real.wrong} (48 pixels), outside the {real.classes} classes"
    assert words in done.output
    assert len(report["not_scored"]) == 1
    done, report = score(tmp_path, name, "--unknown-labels", "ignore")
    assert done.exit_code == 0
    assert f"label {real.wrong} (48 pixels)" in done.output
    assert report["after"]["mean_iou"] == 1


@pytest.mark.parametrize("name", REAL)
def test_items(tmp_path, name):
    real = REAL[name]
    make(tmp_path / "data", name)
    items = dataset_items(dataset(name), tmp_path / "data", real.split)
    assert [item.id for item in items] == list(real.ids)
    found = [(item.image, item.label.resolve()) for item in items]
    assert found == [
        (tmp_path / "data" / image, (tmp_path / "data" / label).resolve())
        for image, label in real.files
    ]
    (tmp_path / "data" / real.files[1][1]).unlink()
    with pytest.raises(DataError, match=r"the label map of .* is missing; looked for"):
        dataset_items(dataset(name), tmp_path / "data", real.split)
    assert len(dataset_items(dataset(name), tmp_path / "data", real.split, with_labels=False)) == 2


def test_a_custom_list(tmp_path):
    make(tmp_path / "data", "cityscapes")
    data, real = dataset("cityscapes"), REAL["cityscapes"]
    lists = {
        "ids.txt": "munster_000173_000019\n",
        "images.txt": "leftImg8bit/val/munster/munster_000173_000019_leftImg8bit.png\n",
        "pairs.txt": f"\ufeff/{real.files[1][0]}\t/{real.files[1][1]}\n",
        "absolute.txt": f"{tmp_path / 'data' / real.files[1][0]}\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        (item,) = dataset_items(data, tmp_path / "data", tmp_path / name)
        assert item.id == real.ids[1]
        assert item.label == tmp_path / "data" / real.files[1][1]
    (tmp_path / "twice.txt").write_text(lists["ids.txt"] * 2)
    with pytest.raises(DataError, match=r"line 2: .* is already on .*line 1"):
        dataset_items(data, tmp_path / "data", tmp_path / "twice.txt")


def test_missing_data(tmp_path):
    data = dataset("ade20k")
    with pytest.raises(DataError, match=r"holds no images of split 'val' of ade20k; looked for"):
        dataset_items(data, tmp_path, "val")
    with pytest.raises(DataError, match="neither a list file nor a split of ade20k; it has train"):
        dataset_items(data, tmp_path, "minival")
    with pytest.raises(DataError, match="not a folder"):
        dataset_items(data, tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no data set 'imagenet'; known are ade20k, cityscapes"):
        dataset("imagenet")


def test_test_splits_have_no_labels(tmp_path):
    image = tmp_path / "leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png"
    make(tmp_path, "cityscapes")
    image.parent.mkdir(parents=True)
    image.write_bytes((tmp_path / REAL["cityscapes"].files[0][0]).read_bytes())
    (item,) = dataset_items(dataset("cityscapes"), tmp_path, "test")
    assert (item.id, item.label) == ("berlin_000000_000019_leftImg8bit", None)


def test_an_incomplete_split_is_noted(tmp_path):
    predict(tmp_path / "results", REAL["ade20k"], make(tmp_path / "data", "ade20k"))
    done, _ = score(tmp_path, "ade20k")
    assert "note: ade20k: split val has 2 images here; 2,000 were published" in done.output
