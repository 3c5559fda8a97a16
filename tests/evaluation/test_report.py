"""report.html says what it must, needs nothing outside itself, and escapes what it shows."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from caffe_port.data.images import read_labels
from caffe_port.data.voc import VOCItem
from caffe_port.evaluation.figures import Reference
from caffe_port.evaluation.network import Options
from caffe_port.evaluation.report import chosen, gallery, iou_table, percent, remarks, write_report
from caffe_port.evaluation.scoring import image_iou
from caffe_port.reports import html
from tests.evaluation.standins import CROP, Brightest, Gives, Swaps, evaluate

NAMES = ["back<ground>", "disc", "box"]


class Tags(HTMLParser):
    """Collects tags and checks that they are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.sources = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def report(result, **options):
    page, values = write_report(result, NAMES, title="T & <T>", **options)
    text = page.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert all(source.startswith("data:image/") for source in tags.sources)
    return text, json.loads(values.read_text()), tags


def test_the_whole_report(voc, tmp_path):
    result = evaluate(voc[0], Brightest(), tmp_path / "out", CROP, make_refiner=Swaps())
    reference = Reference("published", (0.5, 0.625), ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    extra = html.section("Extra", html.paragraph("more"))
    text, values, tags = report(
        result, reference=reference, images=2, more={"seconds": 3}, sections=[extra]
    )
    assert "T &amp; &lt;T&gt;" in text
    assert "back&lt;ground&gt;" in text
    assert "<ground>" not in text
    assert "62.500" in text
    assert percent(result.after.mean_iou()) in text
    assert "<h2>Extra</h2>" in text
    headings = re.findall("<h2>(.*?)</h2>", text)
    assert headings == ["Typical images", "Extra", "IoU by class, %", "What the CRF changed",
                        "Worst images", "Best images", "What was run"]  # fmt: skip
    assert tags.seen.count("figure") == 3 * 2 * 6 + 2  # images and matrices
    assert values["seconds"] == 3
    assert values["before"]["mean_iou"] == result.before.mean_iou()
    assert "<h2>What the CRF changed</h2>" in text
    assert values["crf_changes"]["changed"]["by_class"] == result.changes[:, 1].tolist()


def test_typical_worst_and_best_are_by_the_final_labels(voc, tmp_path):
    items, truths = voc
    result = evaluate(items, Brightest(), tmp_path / "out", CROP)
    error = [1 / (t != 255).sum() for t in truths]
    shown = chosen(result, 1)
    assert list(shown) == ["Typical images", "Worst images", "Best images"]
    ranked = sorted(result.outcomes, key=lambda outcome: image_iou(outcome.before))
    assert shown["Typical images"] == ranked[(len(ranked) - 1) // 2 :][:1]
    assert shown["Typical images"][0] not in (ranked[0], ranked[-1])
    assert shown["Worst images"][0].id == f"im{int(np.argmax(error))}"
    assert shown["Best images"][0].id != shown["Worst images"][0].id


def test_the_difference_is_that_of_the_final_labels(voc, tmp_path):
    items, truths = voc
    result = evaluate(items, Brightest(), tmp_path / "out", CROP, make_refiner=Swaps())
    final = read_labels(result.store.after("im0"))
    wrong = ((final != truths[0]) & (truths[0] != 255)).mean()
    grid = gallery(result, result.outcomes[:1])
    assert f"wrong: {100 * wrong:.1f} % of the pixels" in grid
    _, changed, repaired, broken = result.outcomes[0].changes.sum(axis=0).tolist()
    assert changed >= broken > 0
    assert f"CRF: {repaired:,} repaired (green), {broken:,} broken (red)" in grid


def test_without_truth_it_says_so_and_shows_predictions(voc, tmp_path):
    items = [VOCItem(item.id, item.image, None, item.where) for item in voc[0]]
    result = evaluate(items, Brightest(), tmp_path / "out", CROP)
    text, values, tags = report(result, images=3)
    assert "no label maps, so nothing is scored" in text
    assert values["before"] is None
    assert values["crf_changes"] is None
    assert "What the CRF changed" not in text
    assert tags.seen.count("figure") == 3 * 2
    assert re.findall("<h2>(.*?)</h2>", text)[0] == "First images"


def test_absent_and_unknown_classes_and_skipped_images_are_reported(voc, tmp_path):
    items, truths = voc
    truth = np.where(truths[0] == 255, np.uint8(255), np.uint8(0))
    truth[0] = 7
    Image.fromarray(truth).save(items[0].label)
    items[1].image.write_bytes(b"")
    settings = Options(CROP.crop, CROP.mean, unknown_labels="ignore")
    result = evaluate(items[:2], Gives(), tmp_path / "out", settings, skip_bad=True)
    text, values, _ = report(result, images=0)
    assert "The network has 3 classes" in text
    assert "not in the mean: disc, box" in text
    assert f"7 ({truth.shape[1]} pixels)" in text
    assert "im1.png: not an image" in text
    assert values["ignored_unknown_labels"] == {"7": truth.shape[1]}
    assert remarks(result, NAMES)[0].startswith("The network has 3 classes")


def test_a_reference_of_other_classes_gives_its_mean_alone(voc, tmp_path):
    result = evaluate(voc[0], Brightest(), tmp_path / "out", CROP)
    headers, rows = iou_table(result, NAMES, Reference("x", (0.25, None), ((0.1,), ())))
    assert headers == ["class", "network", "x, before"]
    assert [row[2] for row in rows] == ["-", "-", "-", "25.000", "-", "-", "-"]
    overall = ["mean IoU", "pixel accuracy", "mean accuracy", "frequency-weighted IoU"]
    assert [row[0] for row in rows[3:]] == overall
    assert rows[4][1] == percent(result.before.pixel_accuracy())


@pytest.mark.parametrize(("value", "text"), [(0.94845, "94.845"), (None, "-"), (float("nan"), "-")])
def test_percent(value, text):
    assert percent(value) == text


def test_large_photographs_are_shown_small(voc, tmp_path):
    Image.effect_noise((1200, 900), 60).convert("RGB").save(voc[0][0].image)
    Image.new("L", (1200, 900)).save(voc[0][0].label)
    shape = (1, 3, 900, 1200)
    settings = Options(crop=(900, 1200))
    result = evaluate(voc[0][:1], Gives(shape=shape), tmp_path / "out", settings)
    text, _, _ = report(result, images=1)
    assert len(text) < 500_000
    assert len(re.findall("data:image/jpeg", text)) == 3
