"""Scores against TorchMetrics, by hand and by slow definitions; tables and images of them."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.boundary import (
    Boundary,
    boundaries,
    boundaries_json,
    boundaries_section,
    edge,
    inner_band,
)
from caffe_port.evaluation.figures import confusion_image, evaluated_rows, image_table
from caffe_port.evaluation.report import write_report
from caffe_port.evaluation.scoring import ConfusionMatrix
from tests.evaluation.standins import CROP, Brightest, Swaps, evaluate

NAMES = ["none", "cat, tabby", "dog"]


def sample(seed, classes=5, shape=(37, 41)):
    random = np.random.default_rng(seed)
    truth = random.choice(classes, shape, p=np.arange(1, classes + 1) / 15).astype(np.uint8)
    prediction = np.where(random.random(shape) < 0.7, truth, random.integers(0, classes, shape))
    truth[random.random(shape) < 0.1] = 255
    return truth, prediction.astype(np.uint8)


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_torchmetrics(seed):
    metrics = pytest.importorskip("torchmetrics.classification")
    import torch

    truth, prediction = sample(seed)
    matrix = ConfusionMatrix(5)
    matrix.add(truth, prediction)
    given = [torch.from_numpy(a.astype(np.int64)) for a in (prediction, truth)]

    def theirs(name, average):
        metric = getattr(metrics, name)(5, average=average, ignore_index=255, validate_args=True)
        return metric(*given).double().numpy()

    assert np.allclose(matrix.iou(), theirs("MulticlassJaccardIndex", "none"), atol=1e-6)
    for ours, name, average in (
        (matrix.mean_iou(), "MulticlassJaccardIndex", "macro"),
        (matrix.frequency_weighted_iou(), "MulticlassJaccardIndex", "weighted"),
        (matrix.pixel_accuracy(), "MulticlassAccuracy", "micro"),
        (matrix.mean_recall(), "MulticlassAccuracy", "macro"),
    ):
        assert ours == pytest.approx(float(theirs(name, average)), abs=1e-6)
    counts = metrics.MulticlassConfusionMatrix(5, ignore_index=255)(*given).numpy()
    assert np.array_equal(matrix.counts, counts)


def test_frequency_weighted_by_hand():
    matrix = ConfusionMatrix(4, counts=[[6, 2, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert matrix.frequency_weighted_iou() == pytest.approx(0.8 * 6 / 8 + 0.2 * 2 / 4)
    assert np.isnan(ConfusionMatrix(2).frequency_weighted_iou())


def test_bands_and_edges():
    mask = np.zeros((7, 9), bool)
    mask[1:6, 0:7] = True  # touches the left side, beyond which there is no region
    band = mask.copy()
    band[2:5, 1:6] = False
    assert np.array_equal(inner_band(mask, 1), band)
    assert np.array_equal(edge(mask), band)
    band = mask.copy()
    band[3, 2:5] = False
    assert np.array_equal(inner_band(mask, 2), band)


def eroded(mask, times):
    """By a square of 3, pixel by pixel."""
    for _ in range(times):
        wide = np.pad(mask, 1)
        mask = np.array([[wide[y : y + 3, x : x + 3].all() for x in range(mask.shape[1])]
                         for y in range(mask.shape[0])])  # fmt: skip
    return mask


def slow(truth, prediction, classes, width, tolerance):
    """Boundary IoU and F of one image, as their papers define them."""
    diagonal, counted = np.hypot(*truth.shape), truth != 255
    d = max(1, round(width * diagonal))
    iou, f = np.full(classes, np.nan), np.full(classes, np.nan)
    for c in range(classes):
        masks = [counted & (a == c) for a in (truth, prediction)]
        if not (masks[0].any() or masks[1].any()):
            continue
        bands = [mask & ~eroded(mask, d) for mask in masks]
        iou[c] = (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum()
        points = [np.argwhere(edge(mask)) for mask in masks]
        if not all(map(len, points)):
            f[c] = 0
            continue
        apart = np.hypot(*(points[0][:, None] - points[1][None]).transpose(2, 0, 1))
        recall = (apart.min(1) <= tolerance * diagonal).mean()
        precision = (apart.min(0) <= tolerance * diagonal).mean()
        f[c] = 2 * recall * precision / (recall + precision) if recall + precision else 0
    return iou, f


@pytest.mark.parametrize("seed", range(4))
def test_boundaries_equal_their_definitions(seed):
    random = np.random.default_rng(seed)
    truth = np.kron(random.integers(0, 4, (3, 4)), np.ones((9, 8), int)).astype(np.uint8)
    prediction = np.roll(truth, (1, 2), (0, 1))
    truth[random.random(truth.shape) < 0.02] = 255
    boundary = Boundary(5, width=0.05, tolerance=0.03)
    boundary.add(truth, prediction)
    iou, f = slow(truth, prediction, 5, 0.05, 0.03)
    assert np.allclose(boundary.iou(), iou, equal_nan=True)
    assert np.allclose(boundary.f(), f, equal_nan=True)
    assert boundary.mean_iou() == pytest.approx(np.nanmean(iou))
    assert boundary.mean_f() == pytest.approx(np.nanmean(f))


def test_a_perfect_boundary_and_a_shifted_one_by_hand():
    truth = np.zeros((20, 20), np.uint8)
    truth[5:15, 5:15] = 1
    boundary = Boundary(2)
    boundary.add(truth, truth)
    assert (boundary.mean_iou(), boundary.mean_f()) == (1, 1)
    shifted = Boundary(2)
    shifted.add(truth, np.roll(truth, 1, axis=1))
    # rings of 36 pixels: two rows of 9 and a corner at each end are shared, 18 in all
    assert shifted.iou()[1] == 18 / (36 + 36 - 18)
    wide = Boundary(2, tolerance=0.05)  # 1.4 pixels
    wide.add(truth, np.roll(truth, 1, axis=1))
    assert wide.f()[1] == 1
    shifted.add(truth, np.zeros_like(truth))
    assert shifted.f()[1] == pytest.approx(18 / 36 / 2)  # a class that is not found counts as 0


def test_boundaries_add_up_and_need_equal_settings():
    both, parts = Boundary(5), [Boundary(5), Boundary(5)]
    for seed, part in enumerate(parts):
        both.add(*sample(seed))
        part.add(*sample(seed))
    parts[0].merge(parts[1])
    assert np.array_equal(parts[0].iou(), both.iou(), equal_nan=True)
    assert np.array_equal(parts[0].f(), both.f(), equal_nan=True)
    for other in (Boundary(4), Boundary(5, width=0.1), Boundary(5, tolerance=0.1)):
        with pytest.raises(UsageError, match="classes, width and tolerance"):
            both.merge(other)
    with pytest.raises(UsageError, match="no boundary scores"):
        boundaries_json(after=None)


def test_wrong_boundaries():
    with pytest.raises(UsageError, match="shares between 0 and 1"):
        Boundary(2, width=0)
    with pytest.raises(DataError, match=r"the prediction \(2, 3\)"):
        Boundary(2).add(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))


def test_boundaries_of_an_evaluation(voc, tmp_path):
    result = evaluate(voc[0], Brightest(), tmp_path / "out", CROP, make_refiner=Swaps())
    found = boundaries(result)
    expected = Boundary(3)
    for item, truth in zip(voc[0], voc[1], strict=True):
        with Image.open(result.store.before(item.id)) as image:
            expected.add(truth, np.asarray(image))
    values = boundaries_json(before=found.before, after=found.after)
    assert values["before"]["mean_iou"] == pytest.approx(expected.mean_iou())
    assert values["before"]["f"] == pytest.approx(expected.f().tolist())
    assert values["after"]["mean_f"] < values["before"]["mean_f"]
    text = boundaries_section(found, NAMES)
    assert f"{100 * expected.mean_iou():.3f}" in text


def test_the_table_of_images(voc, tmp_path):
    voc[0][1].image.write_bytes(b"")
    result = evaluate(voc[0], Brightest(), tmp_path / "out", CROP, make_refiner=Swaps(),
                      skip_bad=True)  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(image_table(evaluated_rows(result), NAMES))))
    assert [row["id"] for row in rows] == [item.id for item in voc[0]]
    assert rows[1]["error"]
    assert rows[1]["mean_iou_before"] == ""
    for row, outcome in zip(rows, result.outcomes, strict=True):
        if outcome.error:
            continue
        before, after = (ConfusionMatrix(3, counts=c) for c in (outcome.before, outcome.after))
        assert float(row["mean_iou_before"]) == pytest.approx(before.mean_iou(), abs=1e-6)
        assert float(row["pixel_accuracy_after"]) == pytest.approx(after.pixel_accuracy(), abs=1e-6)
        assert float(row["iou_cat, tabby"]) == pytest.approx(after.iou()[1], abs=1e-6)
        assert int(row["pixels"]) == before.pixels


def test_the_matrix_as_an_image():
    matrix = ConfusionMatrix(3, counts=[[4, 0, 0], [0, 0, 0], [2, 0, 2]])
    with Image.open(io.BytesIO(confusion_image(matrix, NAMES))) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    left, cell = pixels.shape[1] - 3 * 14 - 4, 14
    middle = [[pixels[4 + cell * r + 7, left + cell * c + 7].tolist() for c in range(3)]
              for r in range(3)]  # fmt: skip
    white, dark = [255] * 3, [8, 48, 107]
    assert middle[0] == [dark, white, white]
    assert middle[1] == [white] * 3
    assert middle[2][0] == middle[2][2] == pytest.approx([131.5, 151.5, 181], abs=1)
    assert (pixels[4:46, :left].min(axis=2) < 100).any()  # the names
    large = confusion_image(ConfusionMatrix(255, counts=np.eye(255)), [str(i) for i in range(255)])
    with Image.open(io.BytesIO(large)) as image:
        assert max(image.size) < 3100


def test_files_of_a_report(voc, tmp_path):
    result = evaluate(voc[0], Brightest(), tmp_path / "out", CROP)
    page, values = write_report(result, NAMES, title="t")
    assert (page.parent / "per_image.csv").read_text() == image_table(evaluated_rows(result), NAMES)
    with Image.open(page.parent / "confusion_before.png") as image:
        assert image.format == "PNG"
    assert not (page.parent / "confusion_after.png").exists()
    report = json.loads(values.read_text())
    assert report["before"]["frequency_weighted_iou"] == pytest.approx(
        result.before.frequency_weighted_iou()
    )
