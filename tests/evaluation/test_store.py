"""Label maps on disk are trusted only where settings and image are the ones they came from."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from caffe_port.data.images import read_labels, read_note, write_labels
from caffe_port.errors import UsageError
from caffe_port.evaluation.refinement import Prediction
from caffe_port.evaluation.store import COMP6, Store

MAPS = Prediction(np.zeros((2, 3), np.uint8), np.ones((2, 3), np.uint8), 4)


IMAGE = "0123456789abcdef" * 4  # the digest of an image file


def opened(folder, settings, *, fresh=False, refined=True, comp6=False):
    store = Store(folder, settings, refined=refined, comp6=comp6)
    store.open(fresh=fresh)
    return store


def test_what_was_saved_is_loaded(tmp_path):
    store = opened(tmp_path / "out", {"crop": 5})
    assert store.load("a", IMAGE) is None
    store.save("a", IMAGE, MAPS)
    back = opened(tmp_path / "out", {"crop": 5}).load("a", IMAGE)
    assert back is not None
    assert back.classes == 4
    assert np.array_equal(back.before, MAPS.before)
    assert np.array_equal(back.after, MAPS.after)
    assert json.loads((tmp_path / "out" / "settings.json").read_text()) == {"crop": 5}


def test_changed_settings_are_refused_by_name(tmp_path):
    opened(tmp_path / "out", {"crf": {"bi_w": 4}, "crop": 5}).save("a", IMAGE, MAPS)
    with pytest.raises(UsageError, match=r"crf\.bi_w was 4, is 5\).*fresh=True"):
        opened(tmp_path / "out", {"crf": {"bi_w": 5}, "crop": 5})
    with pytest.raises(UsageError, match=r'crf was \{"bi_w": 4\}, is null'):
        opened(tmp_path / "out", {"crf": None, "crop": 5})


def test_fresh_drops_our_label_maps_and_nothing_else(tmp_path):
    opened(tmp_path / "out", {"crop": 5}).save("a", IMAGE, MAPS)
    write_labels(tmp_path / "out" / "before" / "holiday.png", MAPS.before)
    store = opened(tmp_path / "out", {"crop": 6}, fresh=True)
    assert store.load("a", IMAGE) is None
    assert [path.name for path in (tmp_path / "out" / "before").iterdir()] == ["holiday.png"]


def test_an_image_that_changed_is_not_trusted(tmp_path):
    store = opened(tmp_path / "out", {})
    store.save("a", IMAGE, MAPS)
    assert store.load("a", IMAGE[::-1]) is None


def test_label_maps_of_other_settings_are_not_trusted_without_the_settings_file(tmp_path):
    opened(tmp_path / "out", {"crop": 5}).save("a", IMAGE, MAPS)
    (tmp_path / "out" / "settings.json").unlink()
    assert opened(tmp_path / "out", {"crop": 6}).load("a", IMAGE) is None


@pytest.mark.parametrize("damage", ["missing", "half", "foreign", "none", "0", "256", "-4"])
def test_a_lost_or_damaged_label_map_is_made_again(tmp_path, damage):
    store = opened(tmp_path / "out", {})
    store.save("a", IMAGE, MAPS)
    after = store.after("a")
    if damage == "missing":
        after.unlink()
    elif damage == "half":
        after.write_bytes(after.read_bytes()[:40])
    elif damage == "foreign":
        write_labels(after, MAPS.before)
    else:
        note = (read_note(after) or "").removesuffix("4") + damage
        for path in (store.before("a"), after):
            write_labels(path, MAPS.before, note=note)
    assert store.load("a", IMAGE) is None


def test_without_a_refinement_there_is_one_label_map(tmp_path):
    store = opened(tmp_path / "out", {}, refined=False)
    store.save("a", IMAGE, Prediction(MAPS.before, None, 4))
    back = store.load("a", IMAGE)
    assert back is not None
    assert back.after is None
    assert not store.after("a").exists()


def test_comp6_holds_the_final_labels_without_a_note(tmp_path):
    store = opened(tmp_path / "out", {}, comp6=True)
    store.save_comp6("a", MAPS)
    path = tmp_path / "out" / COMP6 / "a.png"
    assert np.array_equal(read_labels(path), MAPS.after)
    assert read_note(path) == ""
    store.save_comp6("a", Prediction(MAPS.before, None, 4))
    assert np.array_equal(read_labels(path), MAPS.before)


def test_only_partial_files_of_a_killed_run_are_removed(tmp_path):
    store = opened(tmp_path, {})
    store.save("a", IMAGE, MAPS)
    kept = [store.before("a"), tmp_path / "before" / ".thumbnail.png"]
    kept[1].touch()
    (tmp_path / "before" / ".a.k3x_9fzq.png").write_bytes(b"half")
    opened(tmp_path, {})
    assert sorted((tmp_path / "before").iterdir()) == sorted(kept)


def test_another_process_sees_whether_the_folder_is_ready(tmp_path):
    assert not Store(tmp_path, {"crop": 5}, refined=False).is_open()
    opened(tmp_path, {"crop": 5})
    assert Store(tmp_path, {"crop": 5}, refined=False).is_open()
    assert not Store(tmp_path, {"crop": 6}, refined=False).is_open()


def test_foreign_settings_and_unwritable_folders_are_named(tmp_path):
    for text in ("{", "[" * 100_000):
        (tmp_path / "settings.json").write_text(text)
        assert not Store(tmp_path, {}, refined=False).is_open()
        with pytest.raises(UsageError, match=r"settings\.json: not the settings of an evaluation"):
            opened(tmp_path, {})
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        opened(tmp_path / "file" / "out", {})


def test_label_maps_are_synced_together(tmp_path, monkeypatch):
    """One by one, the disk takes longer than the network; at the end all are on it."""
    store, synced = opened(tmp_path / "out", {"crop": 5}, comp6=True), []
    monkeypatch.setattr(
        os, "fsync", lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}"))
    )
    store.save("a", IMAGE, MAPS)
    store.save_comp6("a", MAPS)
    assert not synced
    files = [store.before("a"), store.after("a"), store.root / COMP6 / "a.png"]
    store.sync()
    assert sorted(synced) == sorted(str(path) for f in files for path in (f, f.parent))
    store.sync()
    assert len(synced) == 6
