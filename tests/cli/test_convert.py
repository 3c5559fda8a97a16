"""caffe-port convert: there and back, and what it refuses."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from caffe_port import Segmenter, load
from caffe_port.cli import main
from caffe_port.errors import FormatError
from caffe_port.weights import read_weights
from tests.goldens_dir import GOLDENS, ROOT

CASE = GOLDENS / "nets" / "deeplab1_largefov_v1_hole"
NET, WEIGHTS = CASE / "net.prototxt", CASE / "net.caffemodel"


def run(*args):
    return CliRunner().invoke(main, ["convert", *map(str, args)])


def blobs(path):
    return {
        (layer.name, i): blob.data.reshape(-1).copy()
        for layer in read_weights(path).layers
        for i, blob in layer.numbered()
    }


@pytest.mark.parametrize("suffix", ["pt", "safetensors", "caffemodel", "caffemodel.h5"])
def test_there_and_back_gives_the_same_blobs(tmp_path, suffix):
    there, back = tmp_path / f"there.{suffix}", tmp_path / "back.caffemodel"
    result = run(NET, WEIGHTS, "-o", there)
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"{there}: 16 layers with ")
    source = [there] if suffix in ("pt", "safetensors") else [NET, there]
    assert run(*source, "-o", back).exit_code == 0
    want, got = blobs(WEIGHTS), blobs(back)
    assert want.keys() == got.keys()
    assert all(np.array_equal(want[key], got[key]) for key in want)


def test_variables_and_leniency(tmp_path):
    net = tmp_path / "net.prototxt"
    net.write_text(NET.read_text().replace('name: "fc6"', 'name: "fc6_${EXP}"'))
    out = tmp_path / "out.pt"
    refused = run(net, WEIGHTS, "-o", out)
    assert refused.exit_code == 2
    assert "${EXP} has no value" in refused.output
    strict = run(net, WEIGHTS, "-o", out, "--set", "EXP=voc12")
    assert strict.exit_code == 2
    assert "missing: layer 'fc6_voc12', blob 0" in strict.output
    assert not out.exists()
    lenient = run(net, WEIGHTS, "-o", out, "--set", "EXP=voc12", "--lenient")
    assert lenient.exit_code == 0, lenient.output
    assert "kept its filler: layer 'fc6_voc12', blob 0" in lenient.output
    assert "not in the net: layer 'fc6' with 2 blobs" in lenient.output
    assert out.exists()


def test_what_cannot_be_converted(tmp_path):
    out = tmp_path / "out.pt"
    for args, words in [
        ([NET, "-o", out], "a prototxt needs WEIGHTS"),
        ([NET, WEIGHTS], "nothing to write"),
        ([NET, WEIGHTS, "-o", tmp_path / "out.zip"], "unknown suffix"),
        ([NET, NET, "-o", out], "net.prototxt"),
        ([WEIGHTS, WEIGHTS, "-o", out], "expected prototxt"),
        ([tmp_path / "none", WEIGHTS, "-o", out], "does not exist"),
    ]:
        result = run(*args)
        assert result.exit_code == 2, result.output
        assert words in result.output
    assert list(tmp_path.iterdir()) == []


def test_converting_onto_itself(tmp_path):
    first = tmp_path / "net.pt"
    assert run(NET, WEIGHTS, "-o", first).exit_code == 0
    before = blobs(first)
    assert run(first, "-o", first).exit_code == 0
    after = blobs(first)
    assert all(np.array_equal(before[key], after[key]) for key in before)
    assert list(tmp_path.iterdir()) == [first]


def described(path, classes):
    colours = [[40 * i, 5, 250] for i in range(classes)]
    path.write_text(
        json.dumps({"name": "own", "classes": [f"shape {i}" for i in range(classes)],
                    "colours": colours, "layout": {"images": ["{id}.jpg"]}})
    )  # fmt: skip
    return path


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_model_remembers_the_classes_of_a_data_set(tmp_path, suffix):
    shapes = ROOT / "examples" / "shapes_voc"
    net = shapes / "caffe_run" / "recording" / "net.prototxt"
    weights = shapes / "caffe_run" / "model" / "train_iter_2400.caffemodel"
    own, out = described(tmp_path / "own.json", 6), tmp_path / f"first.{suffix}"
    result = run(net, weights, "--dataset", own, "-o", out)
    assert result.exit_code == 0, result.output
    own.unlink()  # the model has what it needs
    again = tmp_path / f"again.{suffix}"
    assert run(out, "-o", again).exit_code == 0
    image = shapes / "JPEGImages" / "shape_val_0001.jpg"
    for model in (out, again):
        found = Segmenter(model)(image)
        assert [one.name for one in found.found] == ["shape 0", "shape 1", "shape 5", "shape 3"]
        assert found.colours[:6].tolist() == [[40 * i, 5, 250] for i in range(6)]
    assert Segmenter(out, names=list("abcdef"))(image).found[0].name == "a"
    predicted = CliRunner().invoke(
        main, ["predict", str(out), str(image), "-o", str(tmp_path / "p")]
    )
    assert predicted.exit_code == 0, predicted.output
    assert "shape 5" in (tmp_path / "p" / "index.html").read_text()


def test_classes_that_do_not_fit_are_refused(tmp_path):
    shapes = ROOT / "examples" / "shapes_voc" / "caffe_run"
    files = [shapes / "recording" / "net.prototxt", shapes / "model" / "train_iter_2400.caffemodel"]
    own = described(tmp_path / "own.json", 7)
    for name, words in (
        ("a.pt", "the network has 6 classes, the data set own has 7"),
        ("a.caffemodel", "only .pt and .safetensors files store classes"),
    ):
        result = run(*files, "--dataset", own, "-o", tmp_path / name)
        assert result.exit_code == 2
        assert words in " ".join(result.output.split())
        assert not (tmp_path / name).exists()
    net = load(*files)
    net.notes = {"classes": '["a"]', "class_colours": "[[0, 0, 300]]"}
    with pytest.raises(FormatError, match="classes that the model remembers are malformed"):
        Segmenter(net)
