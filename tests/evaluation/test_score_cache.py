"""Scores on disk: what is saved is loaded, what is damaged is named, what differs is not found."""

from __future__ import annotations

import json

import numpy as np
import pytest

from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.network import Options
from caffe_port.evaluation.store import ScoreCache
from tests.evaluation.standins import CROP, Doubled, Swaps, evaluate

SCORES = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)


def test_every_bit_comes_back(tmp_path):
    cache = ScoreCache(tmp_path, {"network": "a"})
    assert cache.load("image") is None
    cache.save("image", SCORES)
    back = cache.load("image")
    assert back is not None
    assert back.tobytes() == SCORES.tobytes()
    assert back.shape == SCORES.shape
    assert back.flags.writeable
    assert ScoreCache(tmp_path, {"network": "b"}).load("image") is None
    assert cache.load("other image") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"[]\n",
        b"3\n",
        b"[" * 999 + b"\n",
        b'{"shape": [1e400], "kind": "caffe_port scores 1", "sha256": ""}\n',
        b'{"shape": [1, 2, 3]}\n',
        b"x" * 5000,
    ],
)
def test_files_that_are_not_entries_are_named(tmp_path, content):
    cache = ScoreCache(tmp_path, {})
    cache.path("image").parent.mkdir()
    cache.path("image").write_bytes(content)
    with pytest.raises(DataError, match=rf"{cache.path('image').name}: not scores"):
        cache.load("image")


def test_damage_is_found_wherever_it_is(tmp_path):
    cache = ScoreCache(tmp_path, {})
    cache.save("image", SCORES)
    path = cache.path("image")
    whole = path.read_bytes()
    header, _, data = whole.partition(b"\n")
    shape = {**json.loads(header), "shape": [3, 4, 2**40]}
    flipped = bytes([data[0] ^ 1]) + data[1:]
    for broken in (
        whole[:-1],
        whole + b"x",
        header + b"\n" + flipped,
        json.dumps(shape).encode() + b"\n" + data,
        json.dumps({**shape, "shape": [-3, -4, 5]}).encode() + b"\n" + data,
    ):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="damaged scores"):
            cache.load("image")


def test_a_folder_that_cannot_be_written_or_read(tmp_path):
    (tmp_path / "file").write_text("")
    cache = ScoreCache(tmp_path / "file", {})
    with pytest.raises(UsageError, match="scores cannot be written"):
        cache.save("image", SCORES)
    other = ScoreCache(tmp_path, {})
    other.path("image").mkdir(parents=True)
    with pytest.raises(DataError, match="cannot be read"):
        other.load("image")


def test_an_evaluation_runs_the_network_once_for_all_crf_settings(voc, tmp_path):
    network, cache = Doubled(), tmp_path / "scores"
    options = {"jobs": 2, "score_cache": cache}
    plain = evaluate(voc[0], network, tmp_path / "plain", CROP, make_refiner=Swaps())
    calls = len(network.calls)
    first = evaluate(voc[0], network, tmp_path / "first", CROP, **options)
    assert len(network.calls) == 2 * calls
    second = evaluate(voc[0], network, tmp_path / "second", CROP, make_refiner=Swaps(), **options)
    assert len(network.calls) == 2 * calls
    assert not any(outcome.cached for outcome in first.outcomes)
    assert all(outcome.cached for outcome in second.outcomes)
    assert np.array_equal(plain.after.counts, second.after.counts)
    assert max(path.stat().st_size for path in cache.rglob("*.scores")) < 4 * 3 * 12 * 10


def test_broken_entries_are_recomputed_and_named(voc, tmp_path):
    network, cache = Doubled(), tmp_path / "scores"
    evaluate(voc[0], network, tmp_path / "a", CROP, score_cache=cache)
    entries = sorted(cache.rglob("*.scores"))
    kept = {path: path.read_bytes() for path in entries}
    entries[0].write_bytes(b"")
    result = evaluate(voc[0], network, tmp_path / "b", CROP, score_cache=cache)
    remarks = [outcome.remark for outcome in result.outcomes if outcome.remark]
    assert remarks == [f"{entries[0]}: not scores of this package; recomputed"]
    assert {path: path.read_bytes() for path in entries} == kept


def test_another_preprocessing_has_other_scores(voc, tmp_path):
    network, cache = Doubled(), tmp_path / "scores"
    for i, settings in enumerate((CROP, Options(CROP.crop, (1.0, 0.0, 0.0)))):
        evaluate(voc[0], network, tmp_path / str(i), settings, score_cache=cache)
    assert len(list(cache.rglob("*.scores"))) == 2 * len(voc[0])
