"""``evaluate`` with scales, flips, windows and whole images."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from caffe_port.cli import main
from caffe_port.data.images import read_labels
from caffe_port.data.voc import voc_items
from caffe_port.errors import CaffePortError
from caffe_port.evaluation import InferenceOptions, NetFactory, Options, evaluate
from caffe_port.prediction import Segmenter
from tests.evaluation.standins import CLASSES, CROP, Brightest
from tests.prediction.nets import halving, model_file, photo

SIZES = [(17, 21), (30, 25), (9, 12)]
WAYS = [
    (["--flip"], {"flip": True}),
    (["--scales", "0.5,1,1.5", "--merge", "max"], {"scales": (0.5, 1, 1.5), "merge": "max"}),
    (["--whole-image"], {"whole_image": True}),
    (["--overlap", "0.5", "--batch", "2"], {"overlap": 0.5, "batch": 2}),
    (["--overlap", "0.3333333333333333"], {}),
]


@pytest.fixture
def folder(tmp_path):
    """Images in a VOC folder, two of them larger than the net's input, with the truth all 1."""
    root = tmp_path / "voc"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for number, size in enumerate(SIZES):
        Image.fromarray(photo(*size, number)).save(root / "JPEGImages" / f"im{number}.png")
        truth = np.ones(size, np.uint8)
        Image.fromarray(truth).save(root / "SegmentationClass" / f"im{number}.png")
    names = "\n".join(f"im{number}" for number in range(len(SIZES)))
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text(names + "\n")
    return root


def call(*arguments):
    words = ["evaluate", *(str(argument) for argument in arguments)]
    return CliRunner().invoke(main, words, catch_exceptions=False)


@pytest.mark.parity
@pytest.mark.parametrize(("options", "given"), WAYS, ids=str)
def test_labels_are_those_of_predict(tmp_path, folder, options, given):
    out = tmp_path / "out"
    done = call(model_file(tmp_path), "--images", folder, *options, "-o", out)
    assert done.exit_code == 0, done.output
    segment, right, pixels = Segmenter(halving(tmp_path), **given), 0, 0
    for number, size in enumerate(SIZES):
        expected = segment(photo(*size, number)).labels
        labels = read_labels(out / "before" / f"im{number}.png")
        np.testing.assert_array_equal(labels, expected)
        right, pixels = right + (expected == 1).sum(), pixels + expected.size
    report = json.loads((out / "report.json").read_text())
    assert report["before"]["pixel_accuracy"] == pytest.approx(right / pixels)
    described = report["settings"]["inference"]
    assert described == json.loads(json.dumps(segment.options.describe()))


def test_without_these_options_larger_images_are_refused(tmp_path, folder):
    done = call(model_file(tmp_path), "--images", folder, "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert "or cover it by windows: --overlap 0.33" in done.stderr


def test_other_options_are_other_settings(tmp_path, folder):
    words = [model_file(tmp_path), "--images", folder, "-o", tmp_path / "out"]
    assert call(*words, "--flip").exit_code == 0
    done = call(*words, "--whole-image")
    assert done.exit_code == 2
    assert "inference.flip was true, is false" in done.stderr
    assert call(*words, "--flip", "--batch", "3").exit_code == 0


def test_the_score_cache_keeps_merged_scores_by_their_options(tmp_path, folder):
    net = NetFactory(str(model_file(tmp_path)))
    items, cache = voc_items(folder), tmp_path / "cache"

    def run(out, **given):
        options = Options(
            (17, 21), inference=InferenceOptions(**given), score_cache=cache, jobs=1
        )  # fmt: skip
        return evaluate(items, net, tmp_path / out, options)

    first, again, other = run("a", flip=True), run("b", flip=True), run("c")
    assert [outcome.cached for outcome in first.outcomes] == [False] * 3
    assert [outcome.cached for outcome in again.outcomes] == [True] * 3
    assert [outcome.cached for outcome in other.outcomes] == [False] * 3
    for number in range(3):
        maps = [read_labels(tmp_path / out / "before" / f"im{number}.png") for out in "ab"]
        np.testing.assert_array_equal(*maps)


def test_a_custom_network_says_that_it_has_no_scales(tmp_path, voc):
    items, _ = voc
    options = Options(CROP.crop, CROP.mean, inference=InferenceOptions(flip=True), jobs=1)
    assert CLASSES == 3
    with pytest.raises(CaffePortError, match="leave out inference"):
        evaluate(items, Brightest(), tmp_path / "out", options)
