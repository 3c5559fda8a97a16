"""`caffe-port evaluate --dataset`: a network's score on a data set whose labels are not classes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from caffe_port.cli import main
from caffe_port.data.images import read_labels, read_note, write_labels
from caffe_port.datasets import dataset, known_datasets
from caffe_port.datasets.finding import to_server
from tests.goldens_dir import ROOT

SHAPES = ROOT / "examples" / "shapes_voc"
RUN = SHAPES / "caffe_run"
# VOC's colours of the classes 1 to 5 and 0: at VOC's indices they would be other classes
COLOURS = [[128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 0, 0]]
NAMES = ["shape_val_0000", "shape_val_0001"]


def evaluate(tmp_path, out, *more):
    arguments = ["evaluate", RUN / "recording" / "net.prototxt",
                 RUN / "model" / "train_iter_2400.caffemodel", "-o", tmp_path / out, "-j", 1,
                 *more]  # fmt: skip
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def palette_of(file):
    with Image.open(file) as image:
        used = sorted(set(np.asarray(image).ravel().tolist()))
        palette = np.array(image.getpalette("RGB")).reshape(-1, 3)
        return used, palette[used].tolist()


def shown_in_the_sets_colours(tmp_path, classes):
    """The label maps and report of tmp_path/own, those that are there already included."""
    files = [tmp_path / "own" / "before" / f"{name}.png" for name in NAMES]
    page = (tmp_path / "own" / "report.html").read_text(encoding="utf-8")
    for file in files:
        used, colours = palette_of(file)
        assert len(used) > 1
        assert colours == [COLOURS[i] for i in used]
    for name, colour in zip(classes, COLOURS, strict=True):
        rgb = ",".join(map(str, colour))
        assert f'rgb({rgb})"></i>{name}</span>' in page
    report = json.loads((tmp_path / "own" / "report.json").read_text())
    scored = ["score", tmp_path / "own" / "before", "--images", tmp_path, "--json",
              tmp_path / "score.json"]  # fmt: skip
    scored = [*map(str, scored), "--dataset", str(tmp_path / "shapes.json")]
    done = CliRunner().invoke(main, scored)
    assert done.exit_code == 0, done.output
    values = json.loads((tmp_path / "score.json").read_text())
    assert values["after"]["confusion"] == report["before"]["confusion"]
    labels = read_labels(files[0], np.array(COLOURS, np.uint8))
    write_labels(files[0], labels, note=read_note(files[0]))  # as an earlier version wrote them
    assert palette_of(files[0])[1] != [COLOURS[i] for i in palette_of(files[0])[0]]
    again = evaluate(tmp_path, "own", "--images", tmp_path, "--dataset", tmp_path / "shapes.json")
    assert again.exit_code == 0, again.output
    used, colours = palette_of(files[0])
    assert colours == [COLOURS[i] for i in used]
    report = json.loads((tmp_path / "own" / "report.json").read_text())
    assert report["per_image"][0]["seconds"] is None  # not recomputed
    packed = Image.open(files[1])
    packed.putpalette([*COLOURS[1], *COLOURS[0], *np.ravel(COLOURS[2:]).tolist()])
    packed.save(files[1])
    done = CliRunner().invoke(main, scored)
    assert done.exit_code == 1
    assert "the known colours at other indices" in done.output


def test_labels_that_start_at_one(tmp_path):
    (tmp_path / "images" / "val").mkdir(parents=True)
    (tmp_path / "truth").mkdir()
    for name in NAMES:
        source = next((SHAPES / "JPEGImages").glob(f"{name}.*"))
        (tmp_path / "images" / "val" / source.name).write_bytes(source.read_bytes())
        folder = next(f for f in SHAPES.glob("SegmentationClass*") if (f / f"{name}.png").is_file())
        labels = read_labels(folder / f"{name}.png").astype(int)
        stored = np.where(labels == 255, 0, labels + 1).astype(np.uint8)
        Image.fromarray(stored).save(tmp_path / "truth" / f"{name}.png")
    description = {
        "name": "shapes", "classes": [f"shape {i}" for i in range(6)], "colours": COLOURS,
        "labels": {"first": 1, "ignored": [0]},
        "layout": {"images": [f"images/{{split}}/{{id}}{source.suffix}"],
                   "labels": ["truth/{id}.png"]},
        "splits": {"val": {"images": 2}},
    }  # fmt: skip
    (tmp_path / "shapes.json").write_text(json.dumps(description))
    (tmp_path / "list.txt").write_text("\n".join(NAMES))
    known = evaluate(tmp_path, "voc", "--images", SHAPES, "--list", tmp_path / "list.txt")
    assert known.exit_code == 0, known.output
    mapped = evaluate(tmp_path, "own", "--images", tmp_path, "--dataset",
                      tmp_path / "shapes.json", "--boundary")  # fmt: skip
    assert mapped.exit_code == 0, mapped.output
    reports = [json.loads((tmp_path / out / "report.json").read_text()) for out in ("voc", "own")]
    assert reports[0]["before"]["confusion"] == reports[1]["before"]["confusion"]
    assert reports[1]["classes"] == description["classes"]
    assert 0 < reports[1]["boundary"]["before"]["mean_iou"] <= 1
    shown_in_the_sets_colours(tmp_path, description["classes"])
    for path in (tmp_path / "truth").glob("*.png"):
        stored = read_labels(path)
        pixels = np.array([[224, 224, 192], *COLOURS], np.uint8)[stored]
        (tmp_path / "coloured").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "coloured" / path.name)
    coloured = evaluate(tmp_path, "coloured_out", "--images", tmp_path, "--dataset",
                        tmp_path / "shapes.json", "--labels", tmp_path / "coloured")  # fmt: skip
    assert coloured.exit_code == 0, coloured.output
    found = json.loads((tmp_path / "coloured_out" / "report.json").read_text())
    assert found["before"]["confusion"] == reports[0]["before"]["confusion"]
    plain = ["--images", tmp_path / "images" / "val", "--labels", tmp_path / "truth"]
    shifted = evaluate(tmp_path, "shifted", *plain, "--unknown-labels", "ignore")
    assert shifted.exit_code == 2
    assert "shifted" in shifted.output
    assert not (tmp_path / "shifted" / "report.json").exists()
    reduced = evaluate(tmp_path, "reduced", *plain, "--reduce-zero-label")
    assert reduced.exit_code == 0, reduced.output
    report = json.loads((tmp_path / "reduced" / "report.json").read_text())
    assert report["before"]["confusion"] == reports[0]["before"]["confusion"]
    other = evaluate(tmp_path, "other", "--images", tmp_path, "--dataset", "ade20k")
    assert other.exit_code == 2


@pytest.mark.parametrize("name", known_datasets())
def test_each_palette_is_read_at_its_own_indices(tmp_path, name):
    data = dataset(name)
    labels = np.arange(len(data.classes), dtype=np.uint8)[None]
    for i, shown in enumerate((labels, labels[:, :1], labels[:, -1:])):
        write_labels(tmp_path / f"{i}.png", shown, colours=data.colours)
        own = read_labels(tmp_path / f"{i}.png", data.colours[: len(data.classes)])
        assert np.array_equal(own, shown)
        if data.server:
            to_server(tmp_path / f"{i}.png", data, tmp_path / "server.png")
            stored = read_labels(tmp_path / "server.png")
            assert stored.tolist() == [[data.rules.stored()[c] for c in shown[0]]]
