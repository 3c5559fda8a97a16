"""Model folders in the commands: written by convert, read by every command that takes a model."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import caffe_port as cp
from caffe_port.cli import main
from caffe_port.data.images import read_labels, write_labels
from caffe_port.weights import read_weights
from tests.goldens_dir import SHAPES
from tests.hub.models import KNOWN, RECORDING, folder_of
from tests.prediction.nets import model_file, write_photos

IMAGE = SHAPES / "JPEGImages" / "shape_val_0001.jpg"
MEAN = ["--mean", "1.5,2,3.25"]


def call(*words, status=0):
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.output


def blobs(path):
    return {
        (layer.name, i): blob.data.reshape(-1)
        for layer in read_weights(path).layers
        for i, blob in layer.numbered()
    }


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The bundled net as a folder, with the result of verify."""
    here = tmp_path_factory.mktemp("recorded")
    files = RECORDING / "net.prototxt", RECORDING / "net.caffemodel"
    call("verify", *files, RECORDING, "--json", here / "report.json")
    names = (SHAPES / "class_names.txt").read_text().split("\n")[:6]
    (here / "card.json").write_text(json.dumps({"classes": names, "crf": "v1_layer"}))
    more = "--card", here / "card.json", "--parity", here / "report.json"
    output = call("convert", *files, "--pretrained", here / "model", *more)
    assert output.startswith(f"{here / 'model' / 'model.safetensors'}: ")
    return here / "model"


def test_convert_there_and_back(recorded, tmp_path):
    assert "| result | pass |" in (recorded / "README.md").read_text()
    call("convert", recorded, "-o", tmp_path / "net.caffemodel")
    want, got = blobs(RECORDING / "net.caffemodel"), blobs(tmp_path / "net.caffemodel")
    assert want.keys() == got.keys()
    assert all(np.array_equal(want[key], got[key]) for key in want)
    call("convert", recorded, "-o", tmp_path / "net.pt", "--pretrained", tmp_path / "second")
    assert cp.load(tmp_path / "second").info == cp.load(recorded).info
    assert cp.load(tmp_path / "net.pt").spec == cp.load(recorded).spec


def test_verify_and_inspect(recorded):
    assert "pass" in call("verify", recorded, RECORDING)
    listed = json.loads(call("inspect", recorded, "--json"))
    assert listed["totals"]["parameters"] == 321_710
    assert "a model folder" in listed["title"]


def test_predict_uses_mean_scale_names_colours_and_crf(tmp_path):
    folder, _ = folder_of(tmp_path, **KNOWN)
    write_photos(tmp_path / "photos", [(13, 19)])
    call("predict", folder, tmp_path / "photos", "-o", tmp_path / "out", "--crf", "model")
    segmented = cp.Segmenter(folder, crf="model")(tmp_path / "photos" / "photo0.png")
    written = tmp_path / "out" / "labels" / "photo0.png"
    assert np.array_equal(read_labels(written), segmented.labels)
    assert Image.open(written).getpalette()[:12] == np.ravel(KNOWN["palette"]).tolist()
    page = (tmp_path / "out" / "index.html").read_text()
    assert all(one.name in page for one in segmented.found)
    words = call("predict", model_file(tmp_path), tmp_path / "photos", "-o", tmp_path / "no",
                 "--crf", "model", status=2)  # fmt: skip
    assert "the model states no dense CRF" in words


def voc(tmp_path):
    """A data set of one image whose truth is what the folder's model predicts."""
    folder, _ = folder_of(tmp_path, **KNOWN | {"crf": None})
    root = tmp_path / "voc"
    (image,) = write_photos(root / "JPEGImages", [(17, 21)])
    labels = cp.Segmenter(folder)(image).labels
    (root / "SegmentationClass").mkdir()
    write_labels(root / "SegmentationClass" / "photo0.png", labels)
    (root / "val.txt").write_text("photo0\n")
    return folder, root


def test_evaluate_uses_mean_scale_names_and_colours(tmp_path):
    folder, root = voc(tmp_path)
    arguments = "--images", root, "--list", root / "val.txt", "-j", 1
    call("evaluate", folder, *arguments, "-o", tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["before"]["mean_iou"] == 1
    assert report["classes"] == list(KNOWN["classes"])
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert (settings["mean"], settings["scale"]) == (list(KNOWN["mean"]), 0.5)
    # a converted model knows them too, Caffe's file does not
    call("convert", folder, "-o", tmp_path / "net.pt")
    call("convert", folder, "-o", tmp_path / "net.caffemodel")
    alone = folder / "net.prototxt", tmp_path / "net.caffemodel"
    for name, model in (("second", [tmp_path / "net.pt"]), ("third", alone)):
        call("evaluate", *model, *arguments, *MEAN, "-o", tmp_path / name)
        other = json.loads((tmp_path / name / "report.json").read_text())
        assert (other["before"]["mean_iou"] == 1) == (name == "second")


def test_evaluate_takes_the_mean_of_the_nets_data_layer(tmp_path):
    folder, root = voc(tmp_path)
    text = (folder / "net.prototxt").read_text()
    data = """layer { name: "data" type: "ImageSegData" top: "data" top: "label"
      transform_param { mean_value: 1.5 mean_value: 2 mean_value: 3.25 scale: 0.5 crop_size: 17 }
      image_data_param { source: "missing.txt" batch_size: 1 label_type: PIXEL } }"""
    start, end = text.index("layer {"), text.index('layer { name: "conv"')
    (tmp_path / "data.prototxt").write_text(text[:start] + data + text[end:])
    shapes = "--input-shape", "data=1,3,17,21", "--input-shape", "label=1,1,17,21"
    call("convert", folder, "-o", tmp_path / "net.caffemodel")
    call("evaluate", tmp_path / "data.prototxt", tmp_path / "net.caffemodel", *shapes, "-j", 1,
         "--images", root, "--list", root / "val.txt", "-o", tmp_path / "out")  # fmt: skip
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["before"]["mean_iou"] == 1


def test_unravel(recorded, tmp_path):
    call("unravel", recorded, IMAGE, "--curves", 0, "--pictures", 1, "-o", tmp_path / "out")
    assert "triangle" in (tmp_path / "out" / "index.html").read_text()


def test_what_does_not_fit(tmp_path, recorded):
    out = "--pretrained", tmp_path / "out"
    card = tmp_path / "card.json"
    card.write_text("[]")
    named = tmp_path / "named.json"
    named.write_text('{"title": "A net"}')
    files = RECORDING / "net.prototxt", RECORDING / "net.caffemodel"
    for words, expected in [
        (("convert", *files, *out, "--card", card), "not a JSON object of the fields"),
        (("convert", *files, "-o", tmp_path / "a.pt", "--parity", card), "give --pretrained"),
        (("convert", *files, "-o", tmp_path / "a.onnx", "--card", named), "only .pt and .safetens"),
        (("convert", files[0], *out), "a prototxt needs WEIGHTS"),
        (("convert", *files), "nothing to write: give -o, --emit-module or --pretrained"),
        (("convert", recorded, files[1], "-o", tmp_path / "a.pt"), "whose weights are in it"),
        (("convert", tmp_path, "-o", tmp_path / "a.pt"), "a folder without config.json"),
        (("predict", tmp_path, IMAGE, "-o", tmp_path / "x"), "a folder without config.json"),
        (("evaluate", tmp_path, "--images", SHAPES, "-o", tmp_path / "x"), "without config.json"),
        (("unravel", tmp_path, IMAGE, "-o", tmp_path / "x"), "a folder without config.json"),
        (("inspect", tmp_path), "a folder without config.json"),
    ]:
        assert expected in " ".join(call(*words, status=2).split())
    assert not (tmp_path / "out").exists()
