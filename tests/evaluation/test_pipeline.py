"""The whole evaluation: scores, reuse, interruption, processes, bad files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from caffe_port.crf import CRFParameters
from caffe_port.data.images import read_labels
from caffe_port.data.voc import VOCItem
from caffe_port.errors import CaffePortError, DataError, UsageError
from caffe_port.evaluation.network import Options
from caffe_port.evaluation.refinement import CRFFactory
from caffe_port.evaluation.scoring import ConfusionMatrix
from caffe_port.evaluation.store import COMP6, Store
from tests.evaluation.standins import CLASSES, CROP, Brightest, Gives, Refuses, Swaps, evaluate


def run(items, out, **options):
    options = {"make_refiner": Swaps(), **options}
    return evaluate(items, options.pop("network", Brightest()), out, CROP, **options)


def files_of(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*.png"))}


def test_scores_and_label_maps(voc, tmp_path):
    items, truths = voc
    result = run(items, tmp_path / "out")
    before, after = ConfusionMatrix(CLASSES), ConfusionMatrix(CLASSES)
    swap = np.array([1, 0, 2], np.uint8)
    for item, truth in zip(items, truths, strict=True):
        shown = read_labels(result.store.before(item.id))
        assert (shown != truth)[:-1].sum() == 1
        assert np.array_equal(read_labels(result.store.after(item.id)), swap[shown])
        before.add(truth, shown)
        after.add(truth, swap[shown])
    assert np.array_equal(result.before.counts, before.counts)
    assert np.array_equal(result.after.counts, after.counts)
    assert result.classes == CLASSES
    assert [outcome.id for outcome in result.outcomes] == [item.id for item in items]


def test_without_refinement_or_truth(voc, tmp_path):
    items = [VOCItem(item.id, item.image, None, item.where) for item in voc[0]]
    result = run(items, tmp_path / "out", make_refiner=None)
    assert (result.before, result.after) == (None, None)
    assert not (tmp_path / "out" / "after").exists()
    assert len(list((tmp_path / "out" / "before").glob("*.png"))) == len(items)


def test_two_workers_give_the_result_of_one(voc, tmp_path):
    one = run(voc[0], tmp_path / "one", comp6=True, jobs=1)
    two = run(voc[0], tmp_path / "two", comp6=True, jobs=2)
    assert np.array_equal(one.after.counts, two.after.counts)
    assert [outcome.id for outcome in two.outcomes] == [item.id for item in voc[0]]
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    assert len(list((tmp_path / "two" / COMP6).glob("*.png"))) == len(voc[0])


def test_finished_label_maps_are_used_again(voc, tmp_path):
    first = run(voc[0], tmp_path / "out")
    kept = files_of(tmp_path / "out")
    again = run(voc[0], tmp_path / "out", jobs=2)
    assert all(outcome.reused for outcome in again.outcomes)
    assert np.array_equal(first.after.counts, again.after.counts)
    fresh = run(voc[0], tmp_path / "out", fresh=True)
    assert not any(outcome.reused for outcome in fresh.outcomes)
    assert files_of(tmp_path / "out") == kept


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_evaluation_resumes(voc, tmp_path, jobs):
    def interrupt(done, total, outcome):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(voc[0], tmp_path / "out", progress=interrupt, jobs=jobs)
    finished = {path.stem for path in (tmp_path / "out" / "after").glob("*.png")}
    assert {"im0", "im1"} <= finished
    result = run(voc[0], tmp_path / "out")
    assert {outcome.id for outcome in result.outcomes if outcome.reused} == finished
    assert files_of(tmp_path / "out") == files_of(run(voc[0], tmp_path / "whole").store.root)


def test_another_network_is_refused_in_the_same_folder(voc, tmp_path):
    run(voc[0], tmp_path / "out")
    with pytest.raises(UsageError, match=r'network\.name was "brightest", is "other"'):
        run(voc[0], tmp_path / "out", network=Brightest("other"))
    run(voc[0], tmp_path / "out", network=Brightest("other"), fresh=True)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_bad_file_stops_the_evaluation_by_name(voc, tmp_path, jobs):
    items = voc[0]
    items[2].image.write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"val\.txt: line 3: .*im2\.png: not an image"):
        run(items, tmp_path / "out", jobs=jobs)
    result = run(items, tmp_path / "out", jobs=jobs, skip_bad=True)
    assert [outcome.id for outcome in result.skipped] == ["im2"]
    assert result.before.pixels == sum((t != 255).sum() for i, t in enumerate(voc[1]) if i != 2)


def test_a_deleted_image_is_a_bad_file(voc, tmp_path):
    voc[0][1].image.unlink()
    result = run(voc[0], tmp_path / "out", skip_bad=True)
    assert "im1.png: cannot be read" in result.skipped[0].error


def test_a_large_image_and_a_label_of_another_size_are_bad_files(voc, tmp_path):
    items = voc[0]
    Image.new("RGB", (30, 4)).save(items[0].image)
    Image.new("L", (2, 2)).save(items[1].label)
    result = run(items, tmp_path / "out", skip_bad=True)
    assert "larger than the crop 10x12" in result.skipped[0].error
    assert "im1.png: truth is (2, 2)" in result.skipped[1].error


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_network_that_cannot_be_built_is_not_a_bad_file(voc, tmp_path, jobs):
    with pytest.raises(CaffePortError, match="these weights are not the net's"):
        run(voc[0], tmp_path / "out", network=Refuses(), jobs=jobs, skip_bad=True)


def test_an_impossible_refinement_is_not_a_bad_file_but_names_one(voc, tmp_path):
    refiner = CRFFactory(CRFParameters(pos_xy_std=1e-30))
    with pytest.raises(CaffePortError, match=r"im0\.png: the widths are too small"):
        run(voc[0], tmp_path / "out", make_refiner=refiner, jobs=1, skip_bad=True)


def test_wrong_scores_are_not_a_bad_file(voc, tmp_path):
    with pytest.raises(CaffePortError, match="the score blob is"):
        run(voc[0], tmp_path / "a", network=Gives(shape=(1, 3, 2, 2)), skip_bad=True)
    with pytest.raises(CaffePortError, match="not finite"):
        run(voc[0], tmp_path / "b", network=Gives(value=np.inf), skip_bad=True)


def test_torchs_threads_are_restored(voc, tmp_path):
    before = torch.get_num_threads()
    run(voc[0], tmp_path / "out", jobs=3)
    assert torch.get_num_threads() == before
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == before


def test_labels_beyond_the_classes(voc, tmp_path):
    items, truths = voc
    truths[0][0] = 9
    Image.fromarray(truths[0]).save(items[0].label)
    with pytest.raises(DataError, match=r"im0\.png: the truth holds label 9 \("):
        run(items, tmp_path / "out")
    settings = Options(CROP.crop, CROP.mean, unknown_labels="ignore")
    result = evaluate(items, Brightest(), tmp_path / "other", settings)
    assert result.unknown == {9: truths[0].shape[1]}


def test_progress_is_reported_in_order(voc, tmp_path):
    told = []
    run(voc[0], tmp_path / "out", jobs=2, progress=lambda *args: told.append(args))
    assert [(done, total) for done, total, _ in told] == [(i, 5) for i in range(1, 6)]
    assert [outcome.id for _, _, outcome in told] == [item.id for item in voc[0]]


def test_nothing_to_do_is_refused(voc, tmp_path):
    with pytest.raises(UsageError, match="no image"):
        run([], tmp_path)
    with pytest.raises(UsageError, match="at least one job"):
        run(voc[0], tmp_path, jobs=0)


def test_an_evaluation_that_fails_syncs_its_label_maps(voc, tmp_path, monkeypatch):
    counts = []
    monkeypatch.setattr(Store, "sync", lambda store: counts.append(len(store._unsynced)))
    absent = VOCItem("absent", tmp_path / "absent.jpg", None, "here")
    with pytest.raises(DataError, match="absent"):
        run([voc[0][0], absent], tmp_path / "out", jobs=1)
    assert counts == [2]  # before and after the refinement
