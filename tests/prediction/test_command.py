"""``caffe-port predict`` from the outside."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from caffe_port.cli import main
from caffe_port.data.images import read_labels
from caffe_port.loading import load
from caffe_port.prediction import Segmenter
from tests import preloaded
from tests.goldens_dir import SHAPES
from tests.prediction.nets import halving, model_file, write_photos
from tests.prediction.test_video import write_video
from tests.waiting import LIMIT, wait_until

RUN = SHAPES / "caffe_run"
WEIGHTS = RUN / "model" / "train_iter_2400.caffemodel"
CRF = "bi_w=4,bi_xy_std=49,bi_rgb_std=13,pos_w=3,pos_xy_std=3"
IDS = ["shape_val_0000", "shape_val_0001", "shape_val_0007"]


def call(*arguments, **options):
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(main, words, catch_exceptions=False, **options)


class Page(HTMLParser):
    """The links, images and headings of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.images, self.texts, self.text = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "a":
            self.links.append(unquote(found["href"]))
        if tag == "img":
            self.images.append(unquote(found["src"]))
            self.texts.append(found["alt"])

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def shapes_model(tmp_path_factory):
    """The bundled model in one file."""
    path = tmp_path_factory.mktemp("model") / "shapes.pt"
    load(RUN / "recording" / "net.prototxt", WEIGHTS).save(path)
    return path


@pytest.fixture
def shapes_photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for id in IDS:
        (folder / f"{id}.jpg").write_bytes((SHAPES / "JPEGImages" / f"{id}.jpg").read_bytes())
    return folder


def test_the_bundled_model_needs_no_option(tmp_path, shapes_model, shapes_photos):
    out = tmp_path / "out"
    done = call("predict", shapes_model, shapes_photos, "-o", out)
    assert done.exit_code == 0, done.output
    assert f"3 images; gallery: {out / 'index.html'}" in done.output
    with np.load(RUN / "result_val.npz") as caffe:
        for id in IDS:
            labels = read_labels(out / "labels" / f"{id}.png")
            np.testing.assert_array_equal(labels, caffe[f"raw/{id}"])
    page = Page((out / "index.html").read_text(encoding="utf-8"))
    kinds = ("overlays", "labels", "confidence", "entropy")
    assert len(page.images) == 4 * len(IDS)
    assert {image.split("/")[0] for image in page.images} == set(kinds)
    assert page.images == page.links
    assert all((out / image).is_file() for image in page.images)
    assert all(id in page.text for id in IDS)
    assert all(page.texts)


def test_labels_equal_those_of_evaluate_before_and_after_the_crf(tmp_path, shapes_photos):
    model = (RUN / "recording" / "net.prototxt", WEIGHTS)
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(IDS))
    call("evaluate", *model, "--images", SHAPES, "--list", listed, "--crf", CRF,
         "-o", tmp_path / "evaluated")  # fmt: skip
    for options, kind in (((), "before"), (("--crf", CRF), "after")):
        out = tmp_path / kind
        done = call("predict", *model, shapes_photos, *options, "-o", out)
        assert done.exit_code == 0, done.output
        for id in IDS:
            expected = read_labels(tmp_path / "evaluated" / kind / f"{id}.png")
            np.testing.assert_array_equal(read_labels(out / "labels" / f"{id}.png"), expected)


def test_options_reach_the_segmenter(tmp_path):
    (path,) = write_photos(tmp_path / "photos", [(45, 30)])
    out = tmp_path / "out"
    done = call(
        "predict", model_file(tmp_path), path, "-o", out, "--scales", "0.5,1", "--flip",
        "--merge", "max", "--overlap", "0.5", "--crop", "9x11", "--mean", "1,2,3", "--batch", "3",
        "--write", "scores,probabilities", "--format", "npz", "--dtype", "float16",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    segment = Segmenter(
        halving(tmp_path), scales=(0.5, 1), flip=True, merge="max", overlap=0.5, crop=(9, 11),
        mean=(1, 2, 3), batch=3,
    )  # fmt: skip
    result = segment(path)
    stored = np.load(out / "scores" / "photo0.npz")["scores"]
    np.testing.assert_array_equal(stored, result.scores.astype(np.float16))
    stored = np.load(out / "probabilities" / "photo0.npz")["probabilities"]
    np.testing.assert_array_equal(stored, result.probabilities.astype(np.float16))
    np.testing.assert_array_equal(read_labels(out / "labels" / "photo0.png"), result.labels)
    links = Page((out / "index.html").read_text(encoding="utf-8")).links
    assert {"scores/photo0.npz", "probabilities/photo0.npz"} <= set(links)


def test_bad_files_are_named_and_set_the_status(tmp_path):
    write_photos(tmp_path / "photos", [(20, 20), (20, 20)])
    (tmp_path / "photos" / "photo0.png").write_bytes(b"<script>")
    words = [model_file(tmp_path), tmp_path / "photos", tmp_path / "absent.jpg"]
    done = call("predict", *words, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "failed: " in done.stderr
    assert "photo0.png" in done.stderr
    assert "absent.jpg" in done.stderr
    assert (tmp_path / "out" / "labels" / "photo1.png").is_file()
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "Failed: 2" in text


def test_a_second_call_keeps_and_a_change_recomputes(tmp_path):
    write_photos(tmp_path / "photos", [(20, 20), (21, 20)])
    words = ["predict", model_file(tmp_path), tmp_path / "photos", "-o", tmp_path / "out"]
    call(*words)
    assert "2 images, 2 of them kept" in call(*words).output
    assert "kept" not in call(*words, "--flip").output
    write_photos(tmp_path / "photos", [(22, 20)])
    assert "2 images, 1 of them kept" in call(*words, "--flip").output


def test_another_model_recomputes(tmp_path):
    write_photos(tmp_path / "photos", [(20, 20)])
    words = [tmp_path / "photos", "-o", tmp_path / "out"]
    call("predict", model_file(tmp_path), *words)
    net = halving(tmp_path)
    net.layer_params("score")[1].data[2] += 100
    net.save(tmp_path / "halving.pt")
    assert "kept" not in call("predict", tmp_path / "halving.pt", *words).output
    assert (read_labels(tmp_path / "out" / "labels" / "photo0.png") == 2).all()


def test_a_list_on_standard_input(tmp_path):
    paths = write_photos(tmp_path / "photos", [(20, 20), (21, 20)])
    done = call("predict", model_file(tmp_path), "-", "-o", tmp_path / "out", input=str(paths[1]))
    assert done.exit_code == 0, done.output
    assert [path.name for path in (tmp_path / "out" / "labels").iterdir()] == ["photo1.png"]


def test_an_output_folder_inside_the_input_folder(tmp_path):
    write_photos(tmp_path / "photos", [(20, 20)])
    words = ["predict", model_file(tmp_path), tmp_path / "photos", "-o", tmp_path / "photos/out"]
    call(*words)
    assert "1 image, 1 of them kept" in call(*words).output


def test_frames_of_a_video(tmp_path):
    film = write_video(tmp_path / "film.avi", 5)
    words = ["predict", model_file(tmp_path), film, "--frames", "3", "-o", tmp_path / "out"]
    done = call(*words)
    assert done.exit_code == 0, done.output
    found = sorted(path.name for path in (tmp_path / "out" / "labels" / "film").iterdir())
    assert found == ["000001.png", "000002.png", "000003.png"]
    assert "3 images, 3 of them kept" in call(*words).output


def test_names_and_odd_file_names_in_the_gallery(tmp_path):
    (path,) = write_photos(tmp_path / "photos", [(30, 30)])
    path.rename(tmp_path / "photos" / "a #1 & 50% <b>.png")
    names = tmp_path / "names.txt"
    names.write_text("<sky>\nsea\nsand\nstone\n")
    done = call("predict", model_file(tmp_path), tmp_path / "photos", "--names", names,
                "-o", tmp_path / "out")  # fmt: skip
    assert done.exit_code == 0, done.output
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert all((tmp_path / "out" / image).is_file() for image in page.images)
    assert "<sky>" not in text
    assert "a #1 & 50% <b>" in page.text
    assert re.search(r": <?s\w+>? \d+\.\d %", page.texts[0])


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["net.prototxt", "photos"], 2, "a prototxt holds no weights"),
        (["halving.pt"], 2, "Missing argument"),
        (["halving.pt", "empty"], 2, "hold no image"),
        (["halving.pt", "photos", "--scales", "half"], 2, "expected numbers such as"),
        (["halving.pt", "photos", "--scales", "-1"], 2, "expected numbers above 0"),
        (["halving.pt", "photos", "--write", "labels"], 2, "expected scores or probabilities"),
        (["halving.pt", "photos", "--crop", "16"], 2, "the next size that fits is 17x17"),
        (["halving.pt", "photos", "--crf", "none"], 2, "none"),
        (["photos/photo0.png", "photos"], 2, "photo0.png"),
    ],
)
def test_calls_that_cannot_be_carried_out(tmp_path, monkeypatch, words, status, message):
    model_file(tmp_path)
    halving(tmp_path)
    (tmp_path / "halving.prototxt").rename(tmp_path / "net.prototxt")
    write_photos(tmp_path / "photos", [(20, 20)])
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    done = call("predict", *words, "-o", "out")
    assert done.exit_code == status
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_ctrl_c_keeps_what_is_done(tmp_path):
    write_photos(tmp_path / "photos", [(60, 60)] * 200)
    out = tmp_path / "out"
    words = ["predict", str(model_file(tmp_path)), str(tmp_path / "photos"), "-o", str(out)]
    words += ["--scales", "0.5,1,2", "--flip"]
    process = preloaded.start(
        [sys.executable, "-c", "from caffe_port.start import caffe_port; caffe_port()", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until(lambda: len(list((out / "labels").glob("[!.]*.png"))) >= 2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, errors
    kept = len(list((out / "labels").glob("[!.]*.png")))
    assert 2 <= kept < 200
    assert f"the results of {kept} images are kept in {out}; run the same command" in errors
    assert (out / "index.html").is_file()
    assert not list(out.rglob(".*"))


FRUIT = """{"name": "fruit", "classes": ["none", "apple", "pear", "plum"],
 "colours": [[0, 0, 0], [200, 10, 10], [10, 200, 10], [10, 10, 200]],
 "labels": {"map": [[10, 0], [20, 1], [30, 2], [40, 3]]},
 "layout": {"images": ["im/{id}.png"], "labels": ["gt/{id}.png"]}, "splits": {"val": {}}}"""


def test_a_data_set_gives_names_and_colours(tmp_path):
    write_photos(tmp_path / "photos", [(30, 330)])
    (tmp_path / "fruit.json").write_text(FRUIT)
    words = ["predict", model_file(tmp_path), tmp_path / "photos", "-o", tmp_path / "out"]
    done = call(*words, "--dataset", tmp_path / "fruit.json")
    assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "out" / "labels" / "photo0.png") as labels:
        assert labels.getpalette()[3:6] == [200, 10, 10]
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    segment = Segmenter(halving(tmp_path), dataset=tmp_path / "fruit.json")
    result = segment(tmp_path / "photos" / "photo0.png")
    for one in result.found:
        red, green, blue = json.loads(FRUIT)["colours"][one.label]
        assert f"rgb({red},{green},{blue})" in text
        assert one.name in text
    drawn = result.overlay(opacity=1, legend=False)
    shown = segment.colours[result.labels]
    coloured = result.labels > 0
    np.testing.assert_array_equal(drawn[coloured], shown[coloured])
    assert "kept" not in call(*words).output


def test_label_maps_with_voc_colours_of_other_classes_are_reused(tmp_path):
    write_photos(tmp_path / "photos", [(30, 330)])
    fruit = {**json.loads(FRUIT), "colours": [[128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]}
    (tmp_path / "fruit.json").write_text(json.dumps(fruit))
    words = ["predict", model_file(tmp_path), tmp_path / "photos", "-o", tmp_path / "out",
             "--dataset", tmp_path / "fruit.json"]  # fmt: skip
    assert call(*words).exit_code == 0
    assert "1 image, 1 of them kept" in call(*words).output


def test_a_data_set_of_other_classes_is_refused(tmp_path):
    write_photos(tmp_path / "photos", [(30, 30)])
    words = [model_file(tmp_path), tmp_path / "photos", "-o", tmp_path / "out"]
    done = call("predict", *words, "--dataset", "cityscapes")
    assert done.exit_code == 2
    assert "19 class names for a network of 4 classes" in done.stderr


def test_the_orientation_of_exif_is_applied_on_request(tmp_path):
    (path,) = write_photos(tmp_path / "photos", [(20, 30)], ".jpg")
    with Image.open(path) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    words = ["predict", model_file(tmp_path), path, "-o", tmp_path / "out"]
    for options, size in ([], (20, 30)), (["--exif", "apply"], (30, 20)):
        done = call(*words, *options)
        assert done.exit_code == 0, done.output
        assert "kept" not in done.output
        assert read_labels(tmp_path / "out" / "labels" / "photo0.png").shape == size


def test_the_largest_image_is_an_option(tmp_path):
    write_photos(tmp_path / "photos", [(20, 30)])
    words = ["predict", model_file(tmp_path), tmp_path / "photos", "-o", tmp_path / "out"]
    assert call(*words, "--max-pixels", "599").exit_code == 1
    assert call(*words, "--max-pixels", "600").exit_code == 0
