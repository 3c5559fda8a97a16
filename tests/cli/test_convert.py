"""caffe-port convert: there and back, and what it refuses."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from caffe_port import Segmenter, load
from caffe_port.cli import main
from caffe_port.errors import FormatError
from caffe_port.model_info import ModelInfo
from caffe_port.weights import read_weights, write_weights
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
        ("a.caffemodel", "only .pt and .safetensors files and --pretrained folders store what"),
    ):
        result = run(*files, "--dataset", own, "-o", tmp_path / name)
        assert result.exit_code == 2
        assert words in " ".join(result.output.split())
        assert not (tmp_path / name).exists()
    result = run(*files, "--dataset", "voc2013", "-o", tmp_path / "a.pt")
    assert result.exit_code == 2
    assert "no data set 'voc2013'; known are ade20k" in result.output


@pytest.mark.parametrize(
    ("note", "words"),
    [
        ("{", "what it remembers of the model is not JSON"),
        ("[]", r"info is \[\]; expected an object"),
        ('{"classes": ["a"], "palette": [[0, 0, 300]]}', "info: palette has .*; expected red"),
        ('{"classes": ["a", 1]}', "info: classes has 1; expected a text"),
    ],
)
def test_what_a_model_remembers_may_be_malformed(tmp_path, note, words):
    net = load(NET, WEIGHTS)
    path = tmp_path / "a.safetensors"
    settings = {**net.spec.settings(), "info": note}
    write_weights(path, net.stored_layers(), prototxt=net.spec.prototxt, metadata=settings)
    with pytest.raises(FormatError, match=words) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_model_remembers_what_a_card_says(tmp_path, suffix):
    known = {"mean": [1, 2, 3], "scale": 0.5, "crf": "v2_vgg16", "licence": "mit"}
    (tmp_path / "card.json").write_text(json.dumps(known))
    out = tmp_path / f"out.{suffix}"
    assert run(NET, WEIGHTS, "--card", tmp_path / "card.json", "-o", out).exit_code == 0
    info = load(out).info
    assert (info.mean, info.scale, info.licence) == ((1, 2, 3), 0.5, "mit")
    assert info.crf.bi_xy_std == (65,)
    plain = tmp_path / f"plain.{suffix}"
    assert run(NET, WEIGHTS, "-o", plain).exit_code == 0
    assert load(plain).info == ModelInfo()
