"""Pixels a refinement changed, repaired and broke."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_port.data.images import read_labels
from caffe_port.evaluation.scoring import changes_json, changes_section, count_changes
from tests.evaluation.standins import CROP, Brightest, Swaps, evaluate


def test_a_row_counted_by_hand():
    truth = np.array([[0, 0, 0, 1, 1, 1, 255]], np.uint8)
    before = np.array([[0, 1, 0, 0, 2, 1, 0]], np.uint8)
    after = np.array([[0, 0, 1, 1, 0, 1, 1]], np.uint8)
    counts = count_changes(truth, before, after, 3)
    assert counts.tolist() == [[3, 2, 1, 1], [3, 2, 1, 0], [0, 0, 0, 0]]
    assert changes_json(counts)["repaired"] == {"total": 2, "by_class": [1, 1, 0]}
    text = changes_section(counts, ["a", "b<", "c"])
    assert "b&lt;" in text
    cells = text.replace('<td class="right">', " ").replace("</td>", "")
    assert " 6 4 66.67 2 1 1 +1" in cells
    assert " 0 0 - 0 0 0 +0" in cells


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_evaluation_counts_what_is_on_disk(voc, tmp_path, jobs):
    items, truths = voc
    out = tmp_path / "out"
    result = evaluate(items, Brightest(), out, CROP, make_refiner=Swaps(), jobs=jobs)
    repaired = broken = changed = 0
    for item, truth in zip(items, truths, strict=True):
        before, after = (read_labels(f(item.id)) for f in (result.store.before, result.store.after))
        valid = truth != 255
        changed += ((before != after) & valid).sum()
        repaired += ((before != truth) & (after == truth) & valid).sum()
        broken += ((before == truth) & (after != truth) & valid).sum()
    assert result.changes.sum(axis=0)[1:].tolist() == [changed, repaired, broken]
    assert broken > repaired > 0
    assert result.changes[:, 0].tolist() == result.before.counts.sum(axis=1).tolist()
    right = np.trace(result.after.counts) - np.trace(result.before.counts)
    assert repaired - broken == right


def test_without_a_refinement_there_is_nothing_to_count(voc, tmp_path):
    assert evaluate(voc[0], Brightest(), tmp_path / "out", CROP).changes is None
