"""caffe-port crf_grid: every combination tried, counted right, the best handed on."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from caffe_port.cli import main
from caffe_port.crf import CRFParameters, DenseCRF, parse_parameters, refine
from caffe_port.crf.files import read_scores, write_scores
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.crf_grid import Grid, mean_ious, values
from caffe_port.evaluation.network import VOC_MEAN
from tests.crf.making import problem

AXES = "--pos-w 2,3 --pos-xy-std 2 --bi-w 1:5:2 --bi-xy-std 10,20 --bi-rgb-std 8 -i 3"


@pytest.fixture
def folders(tmp_path):
    for name in ("images", "features", "labels"):
        (tmp_path / name).mkdir()
    for seed in range(3):
        image, unary = problem(20, 25, labels=3, seed=seed)
        Image.fromarray(image).save(tmp_path / "images" / f"im{seed}.png")
        write_scores(tmp_path / "features" / f"im{seed}_blob_0.mat", -unary)
        truth = np.kron(unary[:, 2::5, 2::5].argmin(0), np.ones((5, 5), int)).astype(np.uint8)
        truth[:2] = 255
        Image.fromarray(truth).save(tmp_path / "labels" / f"im{seed}.png")
    return tmp_path


def grid(folders, *more):
    arguments = ["-id", "images", "-fd", "features", "-gt", "labels", "-o", "out"]
    paths = [a if a.startswith("-") else str(folders / a) for a in arguments]
    return CliRunner().invoke(main, ["crf_grid", *paths, *AXES.split(), *more])


def by_hand(folders, parameters, colours):
    counts = np.zeros((3, 3), np.int64)
    for seed in range(3):
        image, unary = problem(20, 25, labels=3, seed=seed)
        if colours == "layer":
            image = image[:, :, ::-1].astype(np.float32) - np.array(VOC_MEAN, np.float32)
        found = refine(-unary, image, parameters).argmax(0)
        truth = np.array(Image.open(folders / "labels" / f"im{seed}.png"))
        np.add.at(counts, (truth[2:], found[2:]), 1)
    return np.mean([counts[c, c] / (counts[c].sum() + counts[:, c].sum() - counts[c, c])
                    for c in range(3)])  # fmt: skip


@pytest.mark.parametrize("colours", ["layer", "rgb"])
def test_the_figures_are_those_of_each_setting_alone(folders, colours):
    result = grid(folders, "--crf-colours", colours, "-j", "2")
    assert result.exit_code == 0, result.output
    found = json.loads((folders / "out" / "grid.json").read_text())
    assert found["images"] == 3
    assert len(found["settings"]) == 2 * 3 * 2
    scores = [setting["mean_iou"] for setting in found["settings"]]
    assert scores == sorted(scores, reverse=True)
    for setting in found["settings"]:
        score = setting.pop("mean_iou")
        assert score == pytest.approx(
            by_hand(folders, CRFParameters(**setting, iterations=3), colours)
        )
    best = parse_parameters((folders / "out" / "best.json").read_text())
    assert best == CRFParameters(**found["settings"][0], iterations=3)
    page = (folders / "out" / "report.html").read_text()
    assert page.count("<table") == 1 + 3  # of the axes three have several values
    assert f"{100 * scores[0]:.2f}" in page


def test_a_subset_is_spread_over_the_images(folders):
    result = grid(folders, "--images", "2")
    assert result.exit_code == 0, result.output
    assert json.loads((folders / "out" / "grid.json").read_text())["images"] == 2


def test_files_that_do_not_fit_are_errors(folders):
    Image.fromarray(np.full((20, 25), 7, np.uint8)).save(folders / "labels" / "im1.png")
    result = grid(folders)
    assert result.exit_code == 2
    said = result.output.replace("\n", "")
    assert "im1.png: the truth holds label 7 (500 pixels), outside the 3 classes" in said
    Image.fromarray(np.zeros((20, 24), np.uint8)).save(folders / "labels" / "im1.png")
    assert "its image has (20, 25)" in grid(folders).output
    (folders / "labels" / "im1.png").unlink()
    assert "im1.png: cannot be read" in grid(folders).output
    Image.fromarray(np.zeros((20, 25), np.uint8)).save(folders / "labels" / "im1.png")
    write_scores(folders / "features" / "im1_blob_0.mat", np.full((3, 20, 25), np.nan, np.float32))
    assert "im1_blob_0.mat: unary[0, 0, 0] is nan" in grid(folders).output.replace("\n", "")


def test_labels_and_arrays_of_a_data_set(folders):
    assert grid(folders).exit_code == 0
    plain = json.loads((folders / "out" / "grid.json").read_text())
    for path in (folders / "labels").glob("*.png"):
        stored = np.array(Image.open(path)).astype(int)
        Image.fromarray(np.where(stored == 255, 0, stored + 1).astype(np.uint8)).save(path)
    for path in (folders / "features").glob("*.mat"):
        np.save(path.with_name(path.name.replace("_blob_0.mat", ".npy")), read_scores(path))
        path.unlink()
    described = {"name": "own", "classes": ["a", "b", "c"], "labels": {"first": 1, "ignored": [0]},
                 "layout": {"images": ["{id}.png"]}}  # fmt: skip
    (folders / "own.json").write_text(json.dumps(described))
    for more in (["--dataset", str(folders / "own.json")], ["--reduce-zero-label"]):
        result = grid(folders, *more)
        assert result.exit_code == 0, result.output
        assert json.loads((folders / "out" / "grid.json").read_text()) == plain
    described["classes"] += ["d"]
    (folders / "own.json").write_text(json.dumps(described))
    result = grid(folders, "--dataset", str(folders / "own.json"))
    assert result.exit_code == 2
    said = result.output.replace("\n", "")
    assert "im0.npy: the network has 3 classes, the data set own has 4" in said


@pytest.mark.parametrize(
    ("text", "want"),
    [("3", (3,)), ("3,4.5", (3, 4.5)), ("3:6:1", (3, 4, 5, 6)), ("0.1:0.3:0.1", (0.1, 0.2, 0.3))],
)
def test_values(text, want):
    assert values(text) == pytest.approx(want)


@pytest.mark.parametrize("text", ["", "a", "1:2", "1:2:0", "2:1:1", "1:2:-1", "0:1e9:1", "1:inf:1"])
def test_values_that_are_none(text):
    with pytest.raises(UsageError, match="expected"):
        values(text)


def test_mean_iou_leaves_out_classes_that_do_not_occur():
    counts = np.array([[[6, 2, 0], [0, 4, 0], [0, 0, 0]]])
    assert mean_ious(counts) == pytest.approx([(6 / 8 + 4 / 6) / 2])
    with pytest.raises(DataError, match="the settings cannot be ranked"):
        mean_ious(np.zeros_like(counts))


def test_features_of_different_classes_are_named(folders):
    few = np.zeros((2, 20, 25), np.float32)
    write_scores(folders / "features" / "im2_blob_0.mat", few)
    (folders / "labels" / "im2.png").unlink()
    Image.fromarray(np.zeros((20, 25), np.uint8)).save(folders / "labels" / "im2.png")
    output = grid(folders).output.replace("\n", "")
    assert "im2_blob_0.mat: 2 classes; " in output
    assert "im0_blob_0.mat has 3" in output


def test_the_grid_s_order_is_that_of_its_settings():
    settings = Grid((1, 2), (3,), (4, 5), (6,), (7,)).settings()
    assert [(p.pos_w[0], p.bi_w[0]) for p in settings] == [(1, 4), (1, 5), (2, 4), (2, 5)]


def test_other_weights_share_lattices():
    image, unary = problem(9, 11, labels=3)
    crf = DenseCRF(9, 11, 3).add_gaussian(2, weight=1).add_bilateral(20, 8, image, weight=1)
    want = DenseCRF(9, 11, 3).add_gaussian(2, weight=3).add_bilateral(20, 8, image, weight=4)
    assert np.array_equal(crf.with_weights(3, 4).infer(unary), want.infer(unary))
    assert not np.array_equal(crf.infer(unary), want.infer(unary))
    with pytest.raises(UsageError, match="1 weights for 2 kernels"):
        crf.with_weights(3)
