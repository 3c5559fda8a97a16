"""Many images: files, resuming, failures, interruption."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from caffe_port.data.images import read_labels, voc_palette
from caffe_port.errors import UsageError
from caffe_port.prediction import Segmenter
from caffe_port.prediction.gallery import MOST_SHOWN, Gallery
from caffe_port.prediction.inputs import Inputs
from caffe_port.prediction.output import Outcome, Output, Wanted, predict_all, write_array
from caffe_port.prediction.segmentation import Found, as_grey
from tests import preloaded
from tests.prediction.nets import halving, photo, write_photos

SIZES = [(30, 25), (17, 21), (9, 12), (45, 30)]


@pytest.fixture
def segment(tmp_path):
    return Segmenter(halving(tmp_path), names=list("abcd"))


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos", SIZES)


def run(tmp_path, segment, *, wanted=None, settings=None, words=None):
    output = Output(tmp_path / "out", settings or {"net": 1}, wanted)
    outcomes = []
    predict_all(Inputs(words or [str(tmp_path / "photos")]), segment, output, outcomes.append)
    return sorted(outcomes, key=lambda outcome: outcome.number)


def changes(folder):
    """File -> when it was written."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_files_hold_what_the_call_returns(tmp_path, segment, photos):
    wanted = Wanted(("scores", "probabilities"))
    outcomes = run(tmp_path, segment, wanted=wanted)
    assert [outcome.name for outcome in outcomes] == [path.stem for path in photos]
    out = tmp_path / "out"
    for path, outcome in zip(photos, outcomes, strict=True):
        name, result = path.stem, segment(path)
        np.testing.assert_array_equal(read_labels(out / "labels" / f"{name}.png"), result.labels)
        with Image.open(out / "labels" / f"{name}.png") as labels:
            assert labels.mode == "P"
            assert labels.getpalette()[:768] == voc_palette()[: len(labels.getpalette()) // 3] \
                .ravel().tolist()  # fmt: skip
        for kind, values in (("confidence", result.confidence), ("entropy", result.entropy)):
            with Image.open(out / kind / f"{name}.png") as grey:
                assert grey.mode == "L"
                np.testing.assert_array_equal(np.asarray(grey), as_grey(values))
        with Image.open(out / "overlays" / f"{name}.jpg") as overlay:
            drawn = result.overlay()
            assert overlay.size == drawn.shape[1::-1]
            assert np.abs(np.asarray(overlay).astype(int) - drawn).mean() < 12
        np.testing.assert_array_equal(np.load(out / "scores" / f"{name}.npy"), result.scores)
        stored = np.load(out / "probabilities" / f"{name}.npy")
        np.testing.assert_array_equal(stored, result.probabilities)
        assert outcome.size == result.labels.shape
        assert outcome.found == result.found


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_arrays_in_every_format(tmp_path, dtype):
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    for suffix in ("npy", "npz", "h5"):
        path = tmp_path / "deep" / f"a.{suffix}"
        write_array(path, values, "scores", dtype)
        if suffix == "h5":
            with h5py.File(path) as file:
                found = file["scores"][:]
        else:
            loaded = np.load(path)
            found = loaded["scores"] if suffix == "npz" else loaded
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, values.astype(dtype))


def test_a_value_beyond_float16_is_refused(tmp_path):
    with pytest.raises(UsageError, match="1e\\+06 is too large for float16"):
        write_array(tmp_path / "a.npy", np.full((1, 1, 1), 1e6, np.float32), "scores", "float16")
    assert not list(tmp_path.iterdir())


def test_a_second_run_keeps_everything(tmp_path, segment, photos):
    first = run(tmp_path, segment)
    before = changes(tmp_path / "out")
    segment.scores.net.register_forward_pre_hook(lambda *given: pytest.fail("the net was run"))
    second = run(tmp_path, segment)
    assert changes(tmp_path / "out") == before
    assert [outcome.kept for outcome in first + second] == [False] * 4 + [True] * 4
    assert [(o.name, o.size, o.found) for o in first] == [(o.name, o.size, o.found) for o in second]


def test_only_what_changed_is_recomputed(tmp_path, segment, photos):
    run(tmp_path, segment)
    Image.fromarray(photo(*SIZES[1], seed=9)).save(photos[1])
    (tmp_path / "out" / "entropy" / "photo2.png").unlink()
    (tmp_path / "out" / "labels" / "photo3.png").write_bytes(b"damaged")
    second = run(tmp_path, segment)
    assert [outcome.kept for outcome in second] == [True, False, False, False]
    labels = read_labels(tmp_path / "out" / "labels" / "photo1.png")
    np.testing.assert_array_equal(labels, segment(photos[1]).labels)


def test_other_settings_and_further_arrays_recompute(tmp_path, segment, photos):
    run(tmp_path, segment)
    assert not any(o.kept for o in run(tmp_path, segment, settings={"net": 2}))
    scores = Wanted(("scores",))
    assert not any(o.kept for o in run(tmp_path, segment, settings={"net": 2}, wanted=scores))
    assert all(o.kept for o in run(tmp_path, segment, settings={"net": 2}, wanted=scores))
    assert all(o.kept for o in run(tmp_path, segment, settings={"net": 2}))
    half = Wanted(("scores",), dtype="float16")
    assert not any(o.kept for o in run(tmp_path, segment, settings={"net": 2}, wanted=half))


def test_settings_that_decide_a_result_are_distinguished(tmp_path):
    net = halving(tmp_path)
    ways = [{}, {"flip": True}, {"scales": (0.5, 1.0)}, {"whole_image": True}, {"overlap": 0.5},
            {"mean": (1, 2, 3)}, {"crop": (19, 21)}, {"names": list("wxyz")}, {"merge": "max"},
            {"crf": "v1_largefov"}, {"crf": "v1_largefov", "crf_colours": "rgb"}]  # fmt: skip
    described = [str(Segmenter(net, **way).describe()) for way in ways]
    assert len(set(described)) == len(ways)
    assert Segmenter(net, batch=5).describe() == Segmenter(net).describe()


def test_a_bad_file_does_not_stop_the_rest(tmp_path, segment, photos):
    photos[1].write_bytes(photos[1].read_bytes()[:200])
    outcomes = run(tmp_path, segment)
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, False, False]
    assert "photo1.png" in outcomes[1].error
    assert not (tmp_path / "out" / "labels" / "photo1.png").exists()


def test_an_image_that_the_crf_refuses_does_not_stop_the_rest(tmp_path, photos):
    segment = Segmenter(halving(tmp_path), crf="bi_w=4,bi_xy_std=0.000001,bi_rgb_std=1e-6")
    outcomes = run(tmp_path, segment)
    assert all(str(path) in outcome.error for path, outcome in zip(photos, outcomes, strict=True))


def test_an_interrupted_run_keeps_finished_images(tmp_path, segment, photos):
    seen = []

    def interrupt(outcome):
        seen.append(outcome)
        if len(seen) == 2:
            raise KeyboardInterrupt

    output = Output(tmp_path / "out", {"net": 1})
    with pytest.raises(KeyboardInterrupt):
        predict_all(Inputs([str(tmp_path / "photos")]), segment, output, interrupt)
    kept = sorted(path.name for path in (tmp_path / "out" / "labels").iterdir())
    assert len(kept) >= 2
    assert all(not name.startswith(".") for name in kept)
    again = run(tmp_path, segment)
    assert sum(outcome.kept for outcome in again) == len(kept)
    assert not any(outcome.error for outcome in again)


def test_partial_files_of_a_killed_run_are_removed(tmp_path, segment, photos):
    run(tmp_path, segment)
    labels = tmp_path / "out" / "labels"
    half, own = labels / ".photo1.abcd_123.png", labels / ".mine.png"
    for path in (half, own):
        path.write_bytes(b"half")
    Output(tmp_path / "out", {}).drop_unfinished()
    assert not half.exists()
    assert own.exists()


def test_a_folder_serves_one_run_at_a_time(tmp_path):
    script = (
        "import sys\nfrom caffe_port.prediction.output import Output\n"
        f"with Output({str(tmp_path / 'out')!r}, {{}}).locked():\n"
        "    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    reading, writing = os.pipe()
    other = preloaded.start([sys.executable, "-c", script], stdin=reading, stdout=subprocess.PIPE)
    os.close(reading)
    assert other.stdout.readline() == "held\n"
    locked = Output(tmp_path / "out", {}).locked()
    with pytest.raises(UsageError, match="is predicting into this folder"), locked:
        pass
    os.close(writing)
    other.communicate()
    with Output(tmp_path / "out", {}).locked():
        pass


def test_a_network_that_cannot_run_ends_the_run(tmp_path, segment, photos):
    torch.nn.init.constant_(segment.scores.net.layer_params("score")[1], float("nan"))
    with pytest.raises(UsageError, match="not finite"):
        run(tmp_path, segment)


def test_a_folder_that_cannot_be_written_ends_the_run(tmp_path, segment, photos):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "entropy").write_text("a file in the folder's place")
    with pytest.raises(OSError, match="entropy"):
        run(tmp_path, segment)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"extras": ("labels",)}, "write is"), ({"format": "mat"}, "format is"),
     ({"dtype": "int8"}, "dtype is")],
)  # fmt: skip
def test_arrays_that_do_not_exist(options, message):
    with pytest.raises(UsageError, match=message):
        Wanted(**options)


def test_the_gallery_of_many_images_shows_an_even_choice_in_order(tmp_path):
    gallery = Gallery(Output(tmp_path, {}))
    for number in np.random.default_rng(0).permutation(4 * MOST_SHOWN).tolist():
        found = [Found(number % 3, "abc"[number % 3], 1.0)]
        gallery.add(Outcome(number, f"n{number}", "where", (1, 1), found, kept=number < 7))
    gallery.add(Outcome(4 * MOST_SHOWN, "bad", "bad.png", error="bad.png: broken"))
    text = gallery.write("title", {}).read_text(encoding="utf-8")
    shown = [int(number) for number in re.findall(r"<h3>n(\d+)</h3>", text)]
    assert shown == list(range(0, 4 * MOST_SHOWN, 4))
    assert f"{4 * MOST_SHOWN} images, 7 of them kept; {MOST_SHOWN} are shown" in text
    assert "bad.png: broken" in text
    assert gallery.failures == 1
