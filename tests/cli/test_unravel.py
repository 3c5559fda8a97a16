"""``caffe-port unravel`` from the outside, on the bundled example."""

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from caffe_port import load
from caffe_port.cli import main
from caffe_port.data.images import read_labels
from tests.goldens_dir import SHAPES

RUN = SHAPES / "caffe_run"
NET = RUN / "recording" / "net.prototxt"
WEIGHTS = RUN / "model" / "train_iter_2400.caffemodel"
IMAGES = [SHAPES / "JPEGImages" / f"shape_val_000{i}.jpg" for i in (0, 1)]
SETTINGS = ["--crop", 161, "--names", SHAPES / "class_names.txt"]


def call(*arguments):
    return CliRunner().invoke(main, ["unravel", *map(str, arguments)])


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out = tmp_path_factory.mktemp("unravel")
    result = call(
        NET, WEIGHTS, *IMAGES, *SETTINGS, "--truth", SHAPES / "SegmentationClass", "--shift",
        "full_shift", "--shift", "no_shift", "--curves", 1, "--pictures", 1, "-o", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return out, (out / "index.html").read_text()


def test_the_page_is_self_contained(report):
    out, page = report
    assert not re.findall(r'(?:src|href)="(?!data:|shape_val_0000_\d\.gif")', page)
    links = re.findall(r'href="([^"]*)"', page)
    assert sorted(links) == sorted(path.name for path in out.glob("*.gif"))
    assert len(links) >= 1


def test_what_the_page_says(report):
    _, page = report
    for words in (
        "2 images, traced from fc8_interp, full_shift, no_shift, 1 channel per window",
        "Are the points in the object?", "compared with the truth", "How much of a label",
        "Does the score depend on these pixels?", "Deletion", "Insertion",
        "disc, no_shift: heat map",
        "Points in each layer",
    ):  # fmt: skip
        assert words in page
    assert "<h2>shape_val_0000</h2>" in page
    assert "<h2>shape_val_0001</h2>" not in page
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert headings[:3] == ["shape_val_0000", "All images", "Are the points in the object?"]
    assert page.count('class="player"') == len(re.findall("<h3>", page))


def test_the_animations_go_from_scores_to_image(report):
    out, _ = report
    for path in out.glob("*.gif"):
        with Image.open(path) as image:
            assert image.n_frames >= 20


def test_chosen_labels_only(tmp_path):
    result = call(
        NET, WEIGHTS, IMAGES[0], *SETTINGS, "--labels", "0", "--curves", 0, "-o", tmp_path
    )
    assert result.exit_code == 0, result.output
    page = (tmp_path / "index.html").read_text()
    assert re.findall("<h3>(.*?)</h3>", page) == ["background"]
    assert "compared with the prediction" in page
    assert "Deletion" not in page


def test_images_of_one_name_and_a_converted_model(tmp_path):
    load(NET, WEIGHTS).save(tmp_path / "net.pt")
    options = [*SETTINGS, "--curves", 0, "-k", 2]
    result = call(tmp_path / "net.pt", IMAGES[0], IMAGES[0], *options, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<h2>shape_val_0000 (2)</h2>" in page
    names = {path.name for path in (tmp_path / "out").glob("*.gif")}
    assert {"shape_val_0000_1.gif", "shape_val_0000 (2)_1.gif"} <= names
    assert 'href="shape_val_0000%20%282%29_1.gif"' in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([NET, WEIGHTS], "no image: expected NET"),
        ([NET, WEIGHTS, IMAGES[0], "--labels", "disc"], "expected numbers such as"),
        ([NET, WEIGHTS, IMAGES[0], "--labels", "9"], "label 9; the scores have the labels 0 to 5"),
        ([NET, WEIGHTS, IMAGES[0], "--top", "fc9"], "--top fc9"),
        ([NET, WEIGHTS, IMAGES[0], "--mean", "1,2"], "three numbers"),
        ([NET, WEIGHTS, IMAGES[0], "--crop", "big"], "N or HEIGHTxWIDTH"),
        ([NET, WEIGHTS, IMAGES[0], "--crop", "65"], "shape_val_0000.jpg: the image is"),
        ([NET, WEIGHTS, IMAGES[0], "--truth", RUN], "shape_val_0000.png: cannot be read"),
    ],
)
def test_refused_arguments(tmp_path, arguments, message):
    result = call(*SETTINGS, *arguments, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def described(path, classes):
    """A data set whose label maps store each class plus one, and whose class 1 is called moon."""
    names = ["background", "moon", *(f"shape {i}" for i in range(2, classes))]
    path.write_text(json.dumps({
        "name": "own", "classes": names, "colours": [[30 * i, 7, 9] for i in range(classes)],
        "labels": {"first": 1, "ignored": [0]}, "layout": {"images": ["{id}.jpg"]},
    }))  # fmt: skip
    return path


def test_a_data_set(tmp_path, report):
    """The figures of labels stored in another way, with the set's names and colours."""
    truth = tmp_path / "truth"
    truth.mkdir()
    for image in IMAGES:
        labels = read_labels(SHAPES / "SegmentationClass" / f"{image.stem}.png")
        stored = np.where(labels == 255, 0, labels + 1).astype(np.uint8)
        Image.fromarray(stored).save(truth / f"{image.stem}.PNG")
    options = ["--crop", 161, "--truth", truth, "--curves", 1, "--pictures", 1]
    shifts = ["--shift", "full_shift", "--shift", "no_shift"]
    result = call(
        NET, WEIGHTS, *IMAGES, *options, *shifts, "--dataset", described(tmp_path / "own.json", 6),
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<h3>moon</h3>" in page
    assert "disc" not in page
    numbers = [re.findall(r"<td[^>]*>([\d.]+)</td>", text) for text in (page, report[1])]
    assert numbers[0]
    assert numbers[0] == numbers[1]
    result = call(
        NET, WEIGHTS, IMAGES[0], *options, "--dataset", described(tmp_path / "own.json", 7),
        "-o", tmp_path / "wrong",
    )  # fmt: skip
    assert result.exit_code == 2
    assert "the network has 6 classes, the data set own has 7" in " ".join(result.output.split())


def test_a_truth_of_another_size(tmp_path):
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "shape_val_0000.png")
    result = call(NET, WEIGHTS, IMAGES[0], *SETTINGS, "--truth", tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "pixels for an image of" in result.output
