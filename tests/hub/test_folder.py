"""A model folder gives back the net that was saved, and what is known of it."""

import copy
import json

import numpy as np
import pytest
import torch

import caffe_port as cp
from caffe_port.crf import PRESETS
from caffe_port.data.images import voc_palette
from caffe_port.datasets import dataset
from caffe_port.errors import FormatError, ReadError, UsageError
from caffe_port.evaluation import NetFactory
from caffe_port.evaluation.score_net import preprocessing_of
from tests.goldens_dir import GOLDENS
from tests.hub.models import KNOWN, NAMES, PALETTE, folder_of
from tests.layers.helpers import net_of
from tests.prediction.nets import HALVING, halving, photo
from tests.spec.making import INPUT, conv, layer


def same(one, two):
    keys = one.state_dict()
    return all(torch.equal(keys[key], value) for key, value in two.state_dict().items())


def test_a_folder_has_four_files_and_gives_the_net_back(tmp_path):
    folder, net = folder_of(tmp_path)
    names = {"README.md", "config.json", "model.safetensors", "net.prototxt"}
    assert {path.name for path in folder.iterdir()} == names
    for again in (cp.from_pretrained(folder), cp.load(folder), cp.load(str(folder))):
        assert again.spec == net.spec
        assert same(net, again)


@pytest.mark.parametrize("case", ["deeplab1_largefov_v1_hole", "deeplab_largefov_train"])
def test_nets_of_other_dialects_and_phases(tmp_path, case):
    source = GOLDENS / "nets" / case
    phase = json.loads((source / "case.json").read_text())["phase"]
    net = cp.load(source / "net.prototxt", source / "net.caffemodel", phase=phase)
    net.save_pretrained(tmp_path / "model")
    again = cp.from_pretrained(tmp_path / "model")
    assert again.spec == net.spec
    assert same(net, again)
    net_settings = json.loads((tmp_path / "model" / "config.json").read_text())["net"]
    assert net_settings["phase"] == phase
    assert net_settings["dialect"] == net.spec.dialect


def test_level_stages_and_shapes_are_remembered(tmp_path):
    text = INPUT + conv("a", "x", more="include { stage: 'deploy' min_level: 2 }")
    text += conv("b", "x", more="exclude { stage: 'deploy' }")
    (tmp_path / "net.prototxt").write_text(text)
    shapes = {"x": (2, 3, 9, 11)}
    options = {"stages": ["deploy"], "level": 3, "input_shapes": shapes}
    net = cp.load(tmp_path / "net.prototxt", **options)
    net.save_pretrained(tmp_path / "model")
    again = cp.from_pretrained(tmp_path / "model")
    assert again.spec == net.spec
    assert again.spec.shapes["x"] == (2, 3, 9, 11)
    other = cp.from_pretrained(tmp_path / "model", input_shapes={"x": (1, 3, 5, 5)})
    assert other.spec.shapes["x"] == (1, 3, 5, 5)


def test_shared_weights_and_a_net_without_text(tmp_path):
    shared = "param { name: 'w' } param { name: 'b' }"
    net = net_of(INPUT + conv("a", "x", more=shared) + conv("b", "x", more=shared))
    assert not net.spec.text
    net.save_pretrained(tmp_path / "model")
    again = cp.from_pretrained(tmp_path / "model")
    assert same(net, again)
    assert again.get_parameter("a.weight") is again.get_parameter("b.weight")


def test_all_that_is_known_comes_back_and_stays(tmp_path):
    folder, _ = folder_of(tmp_path, **KNOWN)
    net = cp.from_pretrained(folder)
    assert net.info.as_dict() == cp.ModelInfo(**KNOWN).as_dict()
    assert net.info.crf == PRESETS["v2_vgg16"]
    copy.deepcopy(net).save_pretrained(tmp_path / "second", text="Another.")
    again = cp.from_pretrained(tmp_path / "second").info
    assert again == cp.ModelInfo(**KNOWN | {"text": "Another."})


def test_other_classes_do_not_keep_the_old_colours(tmp_path):
    folder, _ = folder_of(tmp_path, **KNOWN)
    net = cp.from_pretrained(folder)
    net.save_pretrained(tmp_path / "second", classes=["a", "b", "c", "d"])
    info = cp.from_pretrained(tmp_path / "second").info
    assert (info.classes, info.palette) == (("a", "b", "c", "d"), ())


def test_the_data_layer_and_a_known_data_set_are_asked(tmp_path):
    data = """layer { name: "data" type: "ImageSegData" top: "data" top: "label"
      transform_param { mean_value: 10 mean_value: 20 mean_value: 30 scale: 0.25 crop_size: 17 }
      image_data_param { source: "missing.txt" batch_size: 1 label_type: PIXEL } }"""
    start, end = HALVING.index("layer {"), HALVING.index('layer { name: "conv"')
    text = (HALVING[:start] + data + HALVING[end:]).replace("num_output: 4", "num_output: 19")
    (tmp_path / "net.prototxt").write_text(text)
    shapes = {"data": (1, 3, 17, 21), "label": (1, 1, 17, 21)}
    net = cp.load(tmp_path / "net.prototxt", input_shapes=shapes)
    net.save_pretrained(tmp_path / "model", dataset="Cityscapes")
    info = cp.from_pretrained(tmp_path / "model").info
    assert (info.mean, info.scale, info.blob) == ((10, 20, 30), 0.25, "full")
    assert info.classes == dataset("cityscapes").classes
    assert np.array_equal(info.colours()[:19], dataset("cityscapes").colours[:19])


def test_what_is_not_known_is_not_stated(tmp_path):
    folder, _ = folder_of(tmp_path)
    assert json.loads((folder / "config.json").read_text())["info"] == {"blob": "full"}
    info = cp.from_pretrained(folder).info
    assert np.array_equal(info.colours(), voc_palette())
    with pytest.raises(UsageError, match="the model states no dense CRF"):
        cp.Segmenter(folder, crf="model")


def test_the_segmenter_uses_what_the_folder_says(tmp_path):
    folder, net = folder_of(tmp_path, **KNOWN)
    image = photo(13, 19)
    want = cp.Segmenter(
        halving(tmp_path), mean=KNOWN["mean"], names=NAMES, crf="v2_vgg16", crf_colours="rgb"
    )
    want.scale = 0.5
    got = cp.Segmenter(folder, crf="model")
    assert got.names == list(NAMES)
    assert got.colours[:4].tolist() == [list(colour) for colour in PALETTE]
    one, two = want(image), got(image)
    assert np.array_equal(one.scores, two.scores)
    assert np.array_equal(one.labels, two.labels)
    assert not np.array_equal(one.scores, cp.Segmenter(net)(image).scores)
    assert cp.Segmenter(folder, mean=(9, 9, 9), names=list("abcd")).mean == (9, 9, 9)


def test_the_evaluations_network_knows_the_folder(tmp_path):
    folder, net = folder_of(tmp_path, **KNOWN)
    factory = NetFactory(str(folder))
    assert preprocessing_of(factory.spec, factory.info, None) == (KNOWN["mean"], 0.5)
    x = torch.randn(1, 3, 17, 21, generator=torch.Generator().manual_seed(1))
    network = factory()
    scores = network.enlarge(network.classify(x.numpy()))
    assert np.array_equal(scores, net(x)["full"].detach().numpy())
    before = NetFactory(str(folder)).describe()
    cp.from_pretrained(folder).save_pretrained(folder, mean=(0, 0, 0))
    after = NetFactory(str(folder)).describe()
    assert {name for name in before if before[name] != after[name]} == {"config"}


def test_a_stated_score_blob_is_used(tmp_path):
    text = HALVING + layer("other", "Interp", "score", more="interp_param { zoom_factor: 2 }")
    net = halving(tmp_path, text)
    net.save_pretrained(tmp_path / "model", blob="full")
    assert cp.Segmenter(tmp_path / "model").scores.blob == "full"
    assert NetFactory(str(tmp_path / "model"))().classify is not None
    with pytest.raises(UsageError, match="which blob holds the scores"):
        cp.Segmenter(net)


WRONG = [
    ({"colour": 1}, "unknown field colour; fields: title, classes"),
    ({"classes": ["a", "b"]}, "classes: 2 names for a net of 4 classes"),
    ({"classes": [1, 2, 3, 4]}, "classes has 1; expected a text"),
    ({"classes": NAMES, "palette": PALETTE[:3]}, "palette has 3 colours for 4 classes"),
    ({"classes": NAMES, "palette": [(0, 0, 256)] * 4}, "expected red, green, blue, each 0 to 255"),
    ({"mean": [1, 2]}, r"mean is \[1, 2\]; expected blue, green, red, finite"),
    ({"mean": [1, 2, float("nan")]}, "expected blue, green, red, finite"),
    ({"mean": [1, 2, 10**400]}, "expected blue, green, red, finite"),
    ({"scale": "1"}, "scale is .*; expected a number, finite"),
    ({"blob": "fill"}, "blob: the net 'halving' has no blob 'fill'"),
    ({"crf": "v9"}, "no CRF preset is called 'v9'"),
    ({"crf_colours": "grey"}, "crf_colours is 'grey'; expected 'layer' or 'rgb'"),
    ({"licence": 4}, "licence has 4; expected a text"),
]


@pytest.mark.parametrize(("known", "words"), WRONG)
def test_wrong_values_are_refused_before_anything_is_written(tmp_path, known, words):
    net = halving(tmp_path)
    with pytest.raises(UsageError, match=words):
        net.save_pretrained(tmp_path / "model", **known)
    assert not (tmp_path / "model").exists()


def test_other_peoples_folders_are_left_alone(tmp_path):
    net = halving(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine")
    with pytest.raises(UsageError, match=r"holds other files \(README.md\); choose a new or empty"):
        net.save_pretrained(tmp_path / "mine")
    (tmp_path / "mine" / "config.json").write_text('{"model_type": "bert"}')
    for name in ("net.prototxt", "model.safetensors"):
        (tmp_path / "mine" / name).write_text("")
    with pytest.raises(FormatError, match="not of a caffe_port model"):
        net.save_pretrained(tmp_path / "mine")
    assert (tmp_path / "mine" / "README.md").read_text() == "mine"
    with pytest.raises(UsageError, match="is a file; expected a folder"):
        net.save_pretrained(tmp_path / "halving.prototxt")


def test_an_interrupted_folder_is_not_a_model_and_can_be_written_again(tmp_path, monkeypatch):
    folder, net = folder_of(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("caffe_port.hub.saving.card_text", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            net.save_pretrained(folder)
    with pytest.raises(FormatError, match=r"a folder without config.json; expected a model's"):
        cp.load(folder)
    net.save_pretrained(folder)
    assert same(net, cp.load(folder))


def test_what_is_not_a_model_folder(tmp_path):
    folder, _ = folder_of(tmp_path)
    with pytest.raises(UsageError, match=r"whose weights are in it: leave out w.caffemodel, or"):
        cp.load(folder, "w.caffemodel")
    with pytest.raises(FormatError, match=r"a folder without config\.json"):
        cp.load(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ReadError, match=r"model\.safetensors: cannot be read: No such file"):
        cp.load(folder)
