"""`caffe-port labels`: to-index, to-server, check, datasets; and label maps as they are found."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from caffe_port.cli import main
from caffe_port.data.images import read_labels, voc_palette
from caffe_port.datasets import dataset
from caffe_port.datasets.finding import palette_named
from caffe_port.errors import DataError
from tests.datasets.folders import REAL, grey, make, palette, predict

LABELS = np.array([[0, 1, 15], [20, 255, 15]], np.uint8)


def colours(labels, table=None):
    table = voc_palette() if table is None else table
    found = table[labels]
    found[labels == 255] = (224, 224, 192)
    return Image.fromarray(found.astype(np.uint8))


def run(*arguments):
    return CliRunner().invoke(main, ["labels", *map(str, arguments)])


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "PNG", "webp"])
def test_colours_are_refused_with_the_command_that_converts_them(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    colours(LABELS).save(path, **({"lossless": True} if suffix == "webp" else {}))
    with pytest.raises(DataError, match=r"caffe-port labels to-index .*a\.\w+ -o FOLDER"):
        read_labels(path)
    done = run("to-index", path, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert image.mode == "L"
    assert np.array_equal(read_labels(tmp_path / "out" / "a.png"), LABELS)


def test_a_palette_with_vocs_colours_at_other_indices(tmp_path):
    order = [15, 0, 255, 20, 1]  # as an editor packs a palette
    table = voc_palette()[order]
    table[2] = (224, 224, 192)
    indices = np.vectorize(order.index)(LABELS).astype(np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(table.tobytes())
    image.save(tmp_path / "packed.png")
    words = r"index 0 has \(192, 128, 128\), the colour of class 15 \(5 of 5 indices differ\)"
    with pytest.raises(DataError, match=words):
        read_labels(tmp_path / "packed.png")
    assert run("to-index", tmp_path / "packed.png", "-o", tmp_path / "out").exit_code == 0
    assert np.array_equal(read_labels(tmp_path / "out" / "packed.png"), LABELS)
    done = run("to-index", tmp_path / "packed.png", "-o", tmp_path / "kept", "--keep-indices")
    assert done.exit_code == 0, done.output
    assert np.array_equal(read_labels(tmp_path / "kept" / "packed.png"), indices)


@pytest.mark.parametrize("own", ["voc", "grey", "own", "few"])
def test_other_palettes_are_read_by_their_indices(tmp_path, own):
    image = Image.fromarray(LABELS)
    tables = {
        "voc": voc_palette(),
        "grey": np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1),
        "own": np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8),
        "few": np.zeros((256, 3), np.uint8),
    }
    image.putpalette(tables[own].tobytes())
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_labels(tmp_path / "a.png"), LABELS)


def test_colours_of_no_class_are_counted(tmp_path):
    image = np.array(colours(LABELS))
    image[0, 0], image[1, 0] = (1, 2, 3), (1, 2, 3)
    Image.fromarray(image).save(tmp_path / "a.png")
    done = run("to-index", tmp_path / "a.png", "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert "1 colours of no class: (1, 2, 3) (2 pixels)" in done.output
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True
    Image.fromarray(image).save(tmp_path / "b.jpg")  # losses
    colours(LABELS).save(tmp_path / "c.png")
    done = run("to-index", tmp_path / "a.png", tmp_path / "c.png", "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "1 of 2 label maps are converted" in done.output


def test_palettes_of_data_sets(tmp_path):
    city, labels = dataset("cityscapes"), np.array([[0, 13, 18]])
    image = city.colours[labels]
    image[0, 1] = (111, 74, 0)  # dynamic, which does not count
    Image.fromarray(image).save(tmp_path / "a_gtFine_color.png")
    done = run("to-index", tmp_path, "--palette", "cityscapes", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    found = read_labels(tmp_path / "out" / "a_gtFine_color.png")
    assert found.tolist() == [[0, 255, 18]]
    with pytest.warns(UserWarning, match="the colour of class 13 and also of labels that do not"):
        palette_named("cityscapes").labels(city.colours[labels], "a.png")


def test_a_colour_of_two_classes_is_refused():
    ade = dataset("ade20k")
    assert ade.colours[6].tolist() == ade.colours[48].tolist()
    with pytest.raises(
        DataError, match=r"\(140, 140, 140\) is the colour of the classes \[6, 48\]"
    ):
        palette_named("ade20k").labels(ade.colours[np.array([[0, 48]])], "a.png")
    assert palette_named("ade20k").labels(ade.colours[np.array([[0, 7]])], "a").tolist() == [[0, 7]]


def test_a_custom_palette(tmp_path):
    (tmp_path / "two.json").write_text("[[9, 9, 9], [200, 0, 0]]")
    Image.fromarray(np.array([[[200, 0, 0], [9, 9, 9]]], np.uint8)).save(tmp_path / "a.png")
    done = run("to-index", tmp_path / "a.png", "--palette", tmp_path / "two.json", "-o", tmp_path)
    assert done.exit_code == 0, done.output
    assert read_labels(tmp_path / "a.png").tolist() == [[1, 0]]
    (tmp_path / "two.json").write_text("[[9, 9, 256]]")
    done = run("to-index", tmp_path / "a.png", "--palette", tmp_path / "two.json", "-o", tmp_path)
    assert done.exit_code == 2
    assert "expected [[red, green, blue], ...] of 0 to 255" in done.output


@pytest.mark.parametrize("name", ["cityscapes", "sbd", "nyudv2_40", "ade20k", "pascal_context59"])
def test_stored_labels_to_indices(tmp_path, name):
    maps, real = make(tmp_path / "data", name), REAL[name]
    folder = (tmp_path / "data" / real.files[0][1]).parents[1 if name == "cityscapes" else 0]
    done = run("to-index", folder, "--dataset", name, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    for (_, label), classes in zip(real.files, maps, strict=True):
        path = tmp_path / "out" / (tmp_path / "data" / label).relative_to(folder)
        assert np.array_equal(read_labels(path.with_suffix(".png")), classes)


@pytest.mark.parametrize("name", ["cityscapes", "ade20k", "voc2012"])
def test_to_server(tmp_path, name):
    real, maps = REAL[name], make(tmp_path / "data", name)
    predict(tmp_path / "results", real, maps)
    done = run("to-server", tmp_path / "results", "--dataset", name, "-o", tmp_path / "server")
    assert done.exit_code == 0, done.output
    for id, classes in zip(real.ids, maps, strict=True):
        expected = np.vectorize(lambda c: real.stored[0 if c == 255 else c])(classes)
        assert np.array_equal(read_labels(tmp_path / "server" / f"{id}.png"), expected)
    grey(tmp_path / "results" / f"{real.ids[0]}.png", np.full((6, 8), real.classes))
    done = run("to-server", tmp_path / "results", "--dataset", name, "-o", tmp_path / "server")
    assert done.exit_code == 1
    assert f"label {real.classes}; expected 0 to {real.classes - 1}" in done.output


def test_servers_that_are_not_known(tmp_path):
    done = run("to-server", tmp_path, "--dataset", "nyudv2_40", "-o", tmp_path / "server")
    assert done.exit_code == 2
    palette(tmp_path / "a.png", LABELS)
    done = run("to-server", tmp_path, "--dataset", "nyudv2_40", "-o", tmp_path / "server")
    assert "no evaluation server is known" in done.output


def test_check(tmp_path):
    make(tmp_path / "data", "cityscapes")
    arguments = ["check", "--dataset", "cityscapes", "--images", tmp_path / "data"]
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    assert "2 images, 0 with faults" in done.output
    assert "split val has 2 images here; 500 were published" in done.output
    grey(tmp_path / "data" / REAL["cityscapes"].files[0][1], np.full((6, 8), 40))
    grey(tmp_path / "data" / REAL["cityscapes"].files[1][1], np.full((6, 9), 7))
    done = run(*arguments)
    assert done.exit_code == 1
    assert "label 40 (48 pixels)" in done.output
    assert "labelIds.png: (6, 9), its image (6, 8)" in done.output.replace("\n", "")


def test_check_reads_images_to_their_end(tmp_path):
    make(tmp_path / "data", "ade20k")
    image = tmp_path / "data" / REAL["ade20k"].files[1][0]
    image.write_bytes(image.read_bytes()[:-300])
    done = run("check", "--dataset", "ade20k", "--images", tmp_path / "data")
    assert done.exit_code == 1
    assert "ADE_val_00000002.jpg: not an image that can be decoded" in done.output.replace("\n", "")


def test_datasets():
    done = run("datasets")
    assert "cityscapes: Cityscapes, fine annotations; 19 classes; train 2,975" in done.output
    assert len(done.output.splitlines()) == len(REAL)


def test_sixteen_bits_of_labels(tmp_path):
    values = np.array([[0, 300], [7, 300]], np.uint16)
    for suffix in ("png", "tif"):
        Image.fromarray(values).save(tmp_path / f"a.{suffix}")
        with pytest.raises(DataError, match="label 300 of a 16-bit image"):
            read_labels(tmp_path / f"a.{suffix}")
        (tmp_path / "map.json").write_text(json.dumps({"0": 0, "7": 1, "300": 2}))
        done = run("to-index", tmp_path / f"a.{suffix}", "--label-map", tmp_path / "map.json",
                   "-o", tmp_path / "out")  # fmt: skip
        assert done.exit_code == 0, done.output
        assert read_labels(tmp_path / "out" / "a.png").tolist() == [[0, 2], [1, 2]]
    Image.fromarray(np.array([[0, 20]], np.uint16)).save(tmp_path / "small.png")
    assert read_labels(tmp_path / "small.png").tolist() == [[0, 20]]
