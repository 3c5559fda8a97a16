"""``caffe-port evaluate`` from the outside."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from caffe_port.cli import main
from caffe_port.data.images import read_labels
from tests import preloaded
from tests.evaluation.standins import make_voc
from tests.goldens_dir import SHAPES, VOC_SAMPLE
from tests.waiting import LIMIT, wait_until

RUN = SHAPES / "caffe_run"
MODEL = [str(RUN / "test.prototxt"), str(RUN / "model" / "train_iter_2400.caffemodel")]
SHAPES_OPTIONS = [
    "--set",
    f"ROOT={SHAPES}",
    "--crop",
    "161",
    "--names",
    str(SHAPES / "class_names.txt"),
]
CRF = ["--crf", "bi_w=4,bi_xy_std=49,bi_rgb_std=13,pos_w=3,pos_xy_std=3"]
IDENTITY = """name: "identity" input: "data" input_shape { dim: 1 dim: 3 dim: 12 dim: 10 }
layer { name: "scores" type: "ReLU" bottom: "data" top: "scores" }"""


def call(*arguments):
    words = ["evaluate", *(str(a) for a in arguments)]
    return CliRunner().invoke(main, words, catch_exceptions=False)


@pytest.fixture
def voc(tmp_path):
    """A VOC folder that a net without weights solves but for one pixel an image."""
    make_voc(tmp_path / "voc")
    (tmp_path / "net.prototxt").write_text(IDENTITY)
    return [tmp_path / "net.prototxt", "--images", tmp_path / "voc", "--mean", "0,0,0"]


def test_four_images_of_the_example_equal_caffe(tmp_path):
    (tmp_path / "list.txt").write_text("".join(f"shape_val_000{i}\n" for i in range(4)))
    options = [*SHAPES_OPTIONS, *CRF, "--images", SHAPES, "--list", tmp_path / "list.txt"]
    result = call(*MODEL, *options, "--comp6", "--pictures", 1, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    with np.load(RUN / "result_val.npz") as caffe:
        for i in range(4):
            for folder, key in (("before", "raw"), ("after", "crf")):
                ours = read_labels(tmp_path / "out" / folder / f"shape_val_000{i}.png")
                assert np.array_equal(ours, caffe[f"{key}/shape_val_000{i}"])
    assert "ring" in result.output
    assert "mean IoU" in result.output
    values = json.loads((tmp_path / "out" / "report.json").read_text())
    assert values["images"] == 4
    assert values["settings"]["crf"]["bi_xy_std"] == 49
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000


if VOC_SAMPLE is not None:

    def test_photographs_with_a_model_that_does_not_know_their_classes(tmp_path):
        options = [*SHAPES_OPTIONS[:2], *CRF, "--images", VOC_SAMPLE, "--crop", "513"]
        refused = call(*MODEL, *options, "-o", tmp_path / "out")
        assert refused.exit_code == 2
        assert "outside the 6 classes" in refused.output
        result = call(*MODEL, *options, "--unknown-labels", "ignore", "-o", tmp_path / "out")
        assert result.exit_code == 0, result.output
        assert "The network has 6 classes" in result.output
        assert "labels that the network does not have" in result.output
        for file in sorted((VOC_SAMPLE / "JPEGImages").glob("*.jpg")):
            with Image.open(file) as photograph:
                shape = (photograph.height, photograph.width)
            assert read_labels(tmp_path / "out" / "after" / f"{file.stem}.png").shape == shape


def test_trimap_curves_go_to_both_reports(voc, tmp_path):
    crf = '{"bi_w": 0, "pos_w": 0, "iterations": 1}'
    options = [*voc, "--crop", "12x10", "--crf", crf, "-o", tmp_path / "out"]
    result = call(*options, "--trimap", "--crf-threads", 1)
    assert result.exit_code == 0, result.output
    values = json.loads((tmp_path / "out" / "report.json").read_text())
    assert values["trimap"]["before"]["mean_iou"][-1] == values["before"]["mean_iou"]
    assert values["trimap"]["after"]["mean_iou"][-1] == values["after"]["mean_iou"]
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "IoU along boundaries" in text
    assert "<svg" in text
    refused = call(*options, "--trimap", "--no-labels")
    assert refused.exit_code == 2
    assert "it cannot be used with --no-labels" in refused.output


def test_a_rectangular_crop_and_json_settings(voc, tmp_path):
    (tmp_path / "crf.json").write_text('{"bi_w": 0, "pos_w": 0, "iterations": 1}')
    result = call(
        *voc, "--crop", "12x10", "--crf-config", tmp_path / "crf.json", "-o", tmp_path / "out"
    )
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["crop"] == [12, 10]


def test_no_labels_predicts_only(voc, tmp_path):
    result = call(*voc, "--crop", "12x10", "--no-labels", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "nothing is scored" in result.output
    assert len(list((tmp_path / "out" / "before").glob("*.png"))) == 5


def test_a_bad_file_stops_or_is_skipped(voc, tmp_path):
    (tmp_path / "voc" / "JPEGImages" / "im3.png").write_bytes(b"x")
    stopped = call(*voc, "--crop", "12x10", "-o", tmp_path / "out")
    assert stopped.exit_code == 2
    assert "im3.png: not an image" in stopped.output
    skipped = call(*voc, "--crop", "12x10", "--skip-bad", "-o", tmp_path / "out")
    assert skipped.exit_code == 0
    assert "skipped: " in skipped.output


def test_other_settings_are_refused_until_fresh(voc, tmp_path):
    assert call(*voc, "--crop", "12x10", "-o", tmp_path / "out").exit_code == 0
    other = [*voc, "--crop", "20x20", "-o", tmp_path / "out"]
    refused = call(*other)
    assert refused.exit_code == 2
    assert "crop was [12, 10], is [20, 20]" in refused.output
    assert call(*other, "--fresh").exit_code == 0


def test_an_interruption_says_how_to_resume(voc, tmp_path, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    assert call(*voc, "--crop", "12x10", "-o", tmp_path / "out").exit_code == 0
    monkeypatch.setattr("caffe_port.evaluation.pipeline.evaluate", interrupted)
    result = call(*voc, "--crop", "12x10", "-o", tmp_path / "out")
    assert result.exit_code == 130
    assert "5 finished label maps are kept" in result.output


PROGRAM = [sys.executable, "-c", "from caffe_port.cli import main; main()", "evaluate"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SHAPES.parents[1]), "OMP_NUM_THREADS": "1"}


def started(out, *options, **how):
    """A process of its own that evaluates the example's train list."""
    words = [*PROGRAM, *MODEL, *SHAPES_OPTIONS, *CRF, "--images", SHAPES, "-o", out, *options]
    words = [*map(str, words), "--list", "train"]
    return preloaded.start(words, env=ENVIRONMENT, **how)


def wait_for_maps(process, out, count):
    wait_until(lambda: len(list(out.glob("after/[!.]*.png"))) >= count, process)
    assert process.poll() is None, "it ended before it could be interrupted"


def listen(terminal, said):
    """Takes what is written to a terminal until its other side is closed."""
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 65536):
            said.write(piece)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no terminals of this kind")
def test_control_c_keeps_finished_images_and_restores_the_terminal(tmp_path):
    import termios

    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    out = tmp_path / "out"
    said = io.BytesIO()
    listener = threading.Thread(target=listen, args=(master, said))
    process = started(out, "-j", 2, stdin=slave, stdout=slave, stderr=slave)
    listener.start()  # a terminal that nobody reads is full after some lines
    wait_for_maps(process, out, 4)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=LIMIT) == 130
    assert termios.tcgetattr(slave) == before
    os.close(slave)
    listener.join()
    os.close(master)
    output = said.getvalue()
    assert b"run the same command again to resume" in output
    assert b"Traceback" not in output
    assert output.rindex(b"\x1b[?25h") > output.rindex(b"\x1b[?25l")  # the cursor is back
    kept = sorted((out / "after").iterdir())
    assert 4 <= len(kept) < 400
    assert all(read_labels(file).size for file in kept)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
def test_a_killed_evaluation_resumes_and_locks_its_folder(tmp_path):
    out = tmp_path / "out"
    process = started(out, stderr=subprocess.DEVNULL)
    wait_for_maps(process, out, 2)
    refused = call(*MODEL, *SHAPES_OPTIONS, "--images", SHAPES, "--fresh", "-o", out)
    assert refused.exit_code == 2
    assert f"process {process.pid} on " in refused.output
    assert "is evaluating into this folder" in refused.output
    process.kill()
    process.wait()
    (tmp_path / "few.txt").write_text("".join(f"shape_train_000{i}\n" for i in range(4)))
    options = [*MODEL, *SHAPES_OPTIONS, *CRF, "--images", SHAPES, "--list", tmp_path / "few.txt"]
    for folder in (out, tmp_path / "whole"):
        assert call(*options, "-o", folder).exit_code == 0
    reports = [json.loads((x / "report.json").read_text()) for x in (out, tmp_path / "whole")]
    assert reports[0]["after"] == reports[1]["after"]
    assert reports[0]["per_image"][0]["seconds"] is None  # used again
    for name in ("before", "after"):
        for file in (tmp_path / "whole" / name).iterdir():
            assert file.read_bytes() == (out / name / file.name).read_bytes()
        assert not list((out / name).glob(".*"))


def test_other_crf_settings_without_the_network(voc, tmp_path, monkeypatch):
    crfs = [f'{{"bi_w": 0, "pos_w": {weight}, "iterations": 1}}' for weight in (0, 50)]
    cached, plain = tmp_path / "cached", tmp_path / "plain"
    for i, crf in enumerate(crfs):
        options = [*voc, "--crop", "12x10", "--crf", crf]
        assert call(*options, "-o", plain / str(i)).exit_code == 0
        with monkeypatch.context() as patched:
            if i:
                patched.setattr("caffe_port.net.Net.forward", None)  # to be called no more
            result = call(*options, "--score-cache", tmp_path / "s", "-o", cached / str(i))
            assert result.exit_code == 0, result.output
        for file in (plain / str(i) / "after").iterdir():
            assert file.read_bytes() == (cached / str(i) / "after" / file.name).read_bytes()
    damaged = sorted((tmp_path / "s").rglob("*.scores"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    result = call(*options, "--score-cache", tmp_path / "s", "--fresh", "-o", cached / "1")
    assert result.exit_code == 0, result.output
    assert f"{damaged}: damaged scores; recomputed" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--crop", "big"], "expected N or HEIGHTxWIDTH"),
        (["--mean", "1,2"], "expected three numbers"),
        (["--set", "EXP"], "expected NAME=VALUE"),
        (["--crf", "sharp"], "no CRF preset"),
        (["--crf", "best.json"], "use --crf-config best.json for a file"),
        (["--crf", "v1_layer", "--crf-config", __file__], "give one"),
        (["--crf-config", __file__], "not JSON"),
        (["--list", "trainval"], "trainval: neither a list file"),
        (["--blob", "gone"], "gone"),
        (["--crop", "11x10"], "larger than the crop"),
    ],
)
def test_impossible_options_are_refused_with_a_reason(voc, tmp_path, options, message):
    result = call(*voc, "--crop", "12x10", *options, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.output
