"""Scores of folders that other programs filled: each kind of file, each thing that can be wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from caffe_port.cli import main
from caffe_port.crf.files import write_bin, write_scores
from caffe_port.data.images import write_labels
from caffe_port.evaluation.boundary import Boundary, boundaries_json
from tests.data.voc_making import write_image

SIZE = (6, 8)
IDS = ("a", "b")


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Two images of three classes in VOC's layout."""
    root = tmp_path / "voc"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("a\nb\n")
    for id in IDS:
        write_image(root / "JPEGImages" / f"{id}.jpg", SIZE)
        write_labels(root / "SegmentationClass" / f"{id}.png", truth(id))
    return root


def truth(id: str) -> np.ndarray:
    labels = np.full(SIZE, 255, np.uint8)
    labels[:2], labels[2:4] = 0, 1 if id == "a" else 2
    return labels


def predicted(id: str) -> np.ndarray:
    labels = truth(id) % 255
    labels[3] = 0  # 8 of 16 pixels of the second class, in each image
    return labels


def scores(id: str) -> np.ndarray:
    """Of the padded image; ties go to the lowest class."""
    planes = np.full((3, 9, 9), -5, np.float32)
    planes[:, 6:], planes[2, :, 8] = 9, 9
    for label in range(3):
        planes[label, :6, :8][predicted(id) == label] = 1
        planes[label, :6, :8][predicted(id) > label] = -1
    planes[2, :6, :8][predicted(id) == 0] = 1
    return planes


def fill(folder: Path, kind: str) -> Path:
    folder.mkdir(exist_ok=True)
    for id in IDS:
        if kind == "png":
            write_labels(folder / f"{id}.png", predicted(id))
        elif kind == "labels":
            write_bin(folder / f"{id}.bin", predicted(id).astype(np.int16))
        elif kind == "bin":
            write_bin(folder / f"{id}.bin", np.exp(scores(id)[:, :6, :8]))
        else:
            write_scores(folder / f"{id}_blob_0.mat", scores(id))
    return folder


def run(*args: object) -> Result:
    return CliRunner().invoke(main, ["score", *map(str, args), "--classes", "3"])


@pytest.mark.parametrize("kind", ["png", "labels", "bin", "mat"])
def test_each_kind_gives_the_figures_by_hand(voc: Path, tmp_path: Path, kind: str) -> None:
    folder, report = fill(tmp_path / "out", kind), tmp_path / "report" / "score.json"
    result = run(folder, "--images", voc, "--json", report)
    assert result.exit_code == 0, result.output
    found = json.loads(report.read_text())
    # class 0: 32 right of 32 + 16 taken; classes 1, 2: 8 of 16
    assert found["after"]["iou"] == [32 / 48, 0.5, 0.5]
    assert found["after"]["mean_iou"] == pytest.approx(5 / 9)
    assert found["after"]["confusion"] == [[32, 0, 0], [8, 8, 0], [8, 0, 8]]
    assert found["not_scored"] == []
    assert "55.556" in result.output


def test_what_cannot_be_scored_is_named_and_left_out(voc: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "out", "mat")
    write_scores(folder / "b_blob_0.mat", scores("b")[:, :5])
    result = run(folder, "--images", voc)
    assert result.exit_code == 1
    assert "not scored: " in result.output
    assert "b_blob_0.mat: scores of 9x5 do not cover 8x6 pixels" in result.output
    (folder / "b_blob_0.mat").unlink()
    assert "b_blob_0.mat" in run(folder, "--images", voc).output
    write_labels(folder / "a.png", np.full(SIZE, 7, np.uint8))
    assert "a.png: prediction holds label 7" in run(folder, "--images", voc).output
    assert run(folder, "--images", voc, "--kind", "mat").exit_code == 1


def test_the_table_of_images_and_the_boundaries(voc: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "out", "png")
    table, report = tmp_path / "tables" / "images.csv", tmp_path / "score.json"
    more = ("--boundary", "--per-image", table, "--json", report, "-j", 2)
    result = run(folder, "--images", voc, *more)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["id"], row["pixels"], row["error"]) for row in rows] == [
        ("a", "32", ""), ("b", "32", "")
    ]  # fmt: skip
    # class 0: 16 right of 16 + 8 taken; the second class: 8 of 16; the third does not occur
    assert [rows[0][f"iou_{i}"] for i in range(3)] == ["0.666667", "0.500000", ""]
    assert [rows[1][f"iou_{i}"] for i in range(3)] == ["0.666667", "", "0.500000"]
    assert {row["mean_iou"] for row in rows} == {"0.583333"}
    assert {row["pixel_accuracy"] for row in rows} == {"0.750000"}
    expected = Boundary(3)
    for id in IDS:
        expected.add(truth(id), predicted(id))
    found = json.loads(report.read_text())["boundary"]
    assert found == boundaries_json(after=expected)
    # no region has more than two rows, so the band of one pixel is the whole region
    assert found["after"]["iou"] == [pytest.approx(32 / 48), 0.5, 0.5]
    assert f"{100 * expected.mean_f():.3f}" in result.output
    (folder / "b.png").unlink()
    result = run(folder, "--images", voc, *more)
    assert result.exit_code == 1
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert "b.png" in rows[1]["error"]
    assert (rows[0]["error"], rows[1]["pixels"], rows[1]["mean_iou"]) == ("", "", "")
    plain = tmp_path / "plain.json"
    assert run(folder, "--images", voc, "--json", plain).exit_code == 1
    assert "boundary" not in json.loads(plain.read_text())


def test_nothing_to_score_or_no_truth_is_status_2(voc: Path, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    result = run(folder, "--images", voc)
    assert result.exit_code == 2
    assert "no file for any of the 2 images; expected NAME.png, NAME.bin" in result.output
    for path in (voc / "SegmentationClass").iterdir():
        path.unlink()
    (voc / "SegmentationClass").rmdir()
    result = run(fill(folder, "png"), "--images", voc)
    assert result.exit_code == 2
    assert "val.txt: line 1: no label map" in result.output


def test_scores_are_cut_to_the_images_when_converted(voc: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "out", "mat")
    convert = ["crf_convert", *map(str, folder.glob("*.mat")), "--to", "bin", "-o", str(folder)]
    done = CliRunner().invoke(main, [*convert, "-id", str(voc / "JPEGImages")])
    assert done.exit_code == 0, done.output
    assert run(folder, "--images", voc, "--kind", "bin").exit_code == 0
    write_image(voc / "JPEGImages" / "a.jpg", (10, 8))
    failed = CliRunner().invoke(main, [*convert, "-id", str(voc / "JPEGImages")])
    assert failed.exit_code == 2
    assert "(3, 9, 9) does not cover 10 x 8 pixels" in failed.output
