"""What stored labels mean: rules, maps, and descriptions of one's own."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.io import savemat

from caffe_port.cli import main
from caffe_port.datasets import LabelRules, dataset
from caffe_port.datasets.rules import read_label_map, read_stored
from caffe_port.errors import DataError, FormatError, UsageError
from tests.datasets.folders import grey


def applied(rules, values, classes, dtype=np.uint8):
    return rules.applied(np.array([values], dtype), classes, "mask.png")


def test_labels_as_they_are():
    truth = applied(LabelRules(), [0, 2, 255], 3)
    assert truth.labels.tolist() == [[0, 2, 255]]
    assert truth.void.tolist() == [[False, False, True]]
    assert truth.unknown == {}


def test_every_unknown_label_is_named_with_its_pixels():
    words = r"mask\.png: the truth holds label 3 \(2 pixels\), label 40 \(1 pixel\), outside the 3"
    with pytest.raises(DataError, match=words):
        applied(LabelRules(), [3, 3, 40, 0], 3)
    truth = applied(LabelRules(unknown="ignore"), [3, 3, 40, 0], 3)
    assert truth.unknown == {3: 2, 40: 1}
    assert truth.labels.tolist() == [[255, 255, 255, 0]]
    assert not truth.void.any()


def test_labels_that_start_at_one():
    rules = LabelRules(first=1, ignored=(0,))
    assert applied(rules, [0, 1, 150], 150).labels.tolist() == [[255, 0, 149]]
    with pytest.raises(DataError, match="seem to start at 1"):
        applied(LabelRules(), [0, 150], 150)
    with pytest.raises(DataError, match="label 255"):
        applied(rules, [255], 150)


def test_a_table_and_what_is_not_in_it():
    rules = LabelRules(table=((7, 0), (8, 1), (9, 255)), ignored=())
    assert applied(rules, [7, 8, 9], 2).labels.tolist() == [[0, 1, 255]]
    for label in (0, 1, 10):
        with pytest.raises(DataError, match=f"label {label} "):
            applied(rules, [label], 2)
    with pytest.raises(DataError, match="label 8 "):
        applied(rules, [8], 1)  # the network has no class 1
    rest = LabelRules(table=((7, 1),), ignored=(), rest=0, most=9)
    assert applied(rest, [0, 7, 9], 2).labels.tolist() == [[0, 1, 0]]
    with pytest.raises(DataError, match="label 10 "):
        applied(rest, [10], 2)


def test_labels_above_255_do_not_wrap_around():
    values = [256, 511, 300]
    with pytest.raises(DataError, match="label 256"):
        applied(LabelRules(), values, 50, np.uint16)
    rules = LabelRules(table=((256, 0), (511, 1), (300, 2)))
    assert applied(rules, values, 3, np.uint16).labels.tolist() == [[0, 1, 2]]


def test_another_number_of_classes_is_refused():
    with pytest.raises(UsageError, match="network has 21 classes, the data set cityscapes has 19"):
        applied(dataset("cityscapes").rules, [7], 21)


def test_out_of_range():
    with pytest.raises(UsageError, match="must be 0 to 65535, got 65536"):
        LabelRules(ignored=(65536,))
    with pytest.raises(UsageError, match="leads to class 3; expected 0 to 2"):
        LabelRules(classes=3, table=((0, 3),))


@pytest.mark.parametrize("values", ['{"7": 1.5}', '{"a": 1}', '{"7": -1}', "[1]", "3"])
def test_wrong_label_maps(tmp_path, values):
    (tmp_path / "map.json").write_text(values)
    with pytest.raises(DataError, match=r"map\.json: expected"):
        read_label_map(tmp_path / "map.json")


def test_mat_files(tmp_path):
    values = np.array([[1, 2], [459, 0]])
    for dtype in ("uint16", "int32", "float64", "float32"):
        for compressed in (False, True):
            path = tmp_path / f"{dtype}{compressed}.mat"
            savemat(path, {"other": "text", "LabelMap": values.astype(dtype)},
                    do_compression=compressed)  # fmt: skip
            assert np.array_equal(read_stored(path, "LabelMap"), values)
    with pytest.raises(FormatError, match="no variable 'S'"):
        read_stored(path, "S")
    with pytest.raises(DataError, match="nothing says which of its variables"):
        read_stored(path)
    savemat(path, {"S": np.array([[0.5]])})
    with pytest.raises(FormatError, match="numbers other than 0 to 65535"):
        read_stored(path, "S")
    savemat(path, {"S": np.zeros((2, 2, 2))})
    with pytest.raises(FormatError, match=r"shape \(2, 2, 2\); expected \(H, W\)"):
        read_stored(path, "S")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FormatError):
        read_stored(path, "S")


def own(tmp_path, **changes):
    values = {
        "name": "fruit", "classes": ["none", "apple"], "colours": [[0, 0, 0], [200, 10, 10]],
        "labels": {"map": [[10, 0], [20, 1]], "ignored": [0]},
        "layout": {"images": ["im/{split}/{id}.jpg"], "labels": ["gt/{id}.png"]},
        "splits": {"val": {"images": 1}},
    }  # fmt: skip
    path = tmp_path / "fruit.json"
    path.write_text(json.dumps(values | changes))
    return path


def test_a_custom_data_set(tmp_path):
    path = own(tmp_path)
    for folder in ("im/val", "gt", "out"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (3, 2)).save(tmp_path / "im/val/a.jpg")
    grey(tmp_path / "gt/a.png", np.array([[10, 20, 20], [0, 10, 10]]))
    grey(tmp_path / "out/a.png", np.array([[0, 1, 0], [1, 0, 0]]))
    arguments = ["score", tmp_path / "out", "--images", tmp_path, "--dataset", path,
                 "--json", tmp_path / "report.json"]  # fmt: skip
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "report.json").read_text())["after"]["iou"] == [3 / 4, 1 / 2]
    assert "apple" in done.output


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": "none apple"}, "classes must be a list of texts"),
        ({"classes": []}, "0 classes; expected 1 to 255"),
        ({"colours": [[0, 0, 0]]}, r"colours must be 2 times \[red, green, blue\]"),
        ({"layout": {"images": ["im/*.jpg"]}}, r"layout.images has 'im/\*.jpg' without {id}"),
        ({"layout": {}}, "layout.images is missing"),
        ({"labels": {"map": [[10, 2]]}}, "leads to class 2"),
        ({"labels": {"rest": 2}}, "labels.rest is 2; expected a class"),
        ({"labels": {"offset": 2}}, "labels has the unknown field 'offset'"),
        ({"ignore": 255}, "the description has the unknown field 'ignore'"),
        ({"splits": {"val": 3}}, "splits.val is int; expected an object"),
    ],
)
def test_wrong_descriptions(tmp_path, changes, words):
    with pytest.raises((DataError, UsageError), match=words):
        dataset(own(tmp_path, **changes))


def test_broken_descriptions(tmp_path):
    path = tmp_path / "mine.json"
    for text, words in (("{}", "field 'classes' is missing"), ("[]", "is list"), ("{", "not JSON")):
        path.write_text(text)
        with pytest.raises((DataError, FormatError), match=words):
            dataset(path)
    with pytest.raises(DataError, match="cannot be read"):
        dataset(tmp_path / "none.json")


# VOC's colours of classes 1, 2 and 0 stand for 0, 1 and 2, which are stored as 5, 3 and 9
OWN = ((128, 0, 0), (0, 128, 0), (0, 0, 0))
OWN_RULES = LabelRules(3, ((5, 0), (3, 1), (9, 2)), ignored=(255,), colours=OWN)


def with_palette(path, indices, colours):
    """A palette image with these colours from index 0 on."""
    image = Image.fromarray(np.array(indices, np.uint8))
    image.putpalette(np.array(colours, np.uint8).tobytes())
    image.save(path)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_the_sets_own_colours_are_converted(tmp_path, suffix):
    pixels = np.array([[OWN[2], OWN[0], OWN[1], (224, 224, 192)]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    truth = OWN_RULES.read(tmp_path / f"a.{suffix}", 3)
    assert truth.labels.tolist() == [[2, 0, 1, 255]]
    assert truth.void.tolist() == [[False, False, False, True]]
    with pytest.raises(UsageError, match="has 4 classes"):
        OWN_RULES.read(tmp_path / f"a.{suffix}", 4)
    pixels[0, 0] = (1, 2, 3)
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    with pytest.raises(DataError, match=r"1 colours of no class: \(1, 2, 3\) \(1 pixels\)"):
        OWN_RULES.read(tmp_path / f"a.{suffix}", 3)


def test_colours_that_also_stand_for_pixels_that_do_not_count_are_refused(tmp_path):
    Image.fromarray(np.array([[OWN[0]]], np.uint8)).save(tmp_path / "a.png")
    rules = dataclasses.replace(OWN_RULES, void_colours=(OWN[1],))
    with pytest.raises(DataError, match="caffe-port labels to-index"):
        rules.read(tmp_path / "a.png", 3)


def test_a_palette_is_compared_with_the_sets_own_colours(tmp_path):
    table = np.full((10, 3), 200)
    table[[5, 3, 9]] = OWN
    path = with_palette(tmp_path / "a.png", [[5, 3, 9, 9]], table)
    with pytest.raises(DataError, match="at other indices"):
        read_stored(path)  # VOC's colours, but for the set whose palette it is
    assert OWN_RULES.read(path, 3).labels.tolist() == [[0, 1, 2, 2]]
    path = with_palette(tmp_path / "b.png", [[0, 1, 2, 2]], [OWN[1], OWN[0], OWN[2]])
    with pytest.raises(DataError, match="at other indices"):
        OWN_RULES.read(path, 3)
    own = LabelRules(3, colours=((9, 9, 0), (0, 9, 9), (9, 0, 9)))
    path = with_palette(tmp_path / "c.png", [[0, 1, 2]], [own.colours[i] for i in (1, 0, 2)])
    with pytest.raises(DataError, match=r"index 0 has \(0, 9, 9\), the colour of class 1"):
        own.read(path, 3)
    assert read_stored(path).tolist() == [[0, 1, 2]]  # a palette of its own for other sets


def test_a_description_gives_its_colours_to_its_rules(tmp_path):
    described = {"name": "own", "classes": ["a", "b", "c"], "colours": OWN,
                 "void_colours": [[7, 7, 7]], "layout": {"images": ["{id}.jpg"]}}  # fmt: skip
    (tmp_path / "own.json").write_text(json.dumps(described))
    rules = dataset(tmp_path / "own.json").rules
    assert (rules.colours, rules.void_colours) == (OWN, ((7, 7, 7),))
    assert not rules.is_plain
    assert dataset("voc2012").rules.is_plain
    assert dataset("ade20k").rules.colours[0] == (120, 120, 120)
    assert dataset("nyudv2_40").rules.colours == ()  # no source gives it colours
