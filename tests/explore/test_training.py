"""The curves of a log, read as it grows, and the files of a run."""

from __future__ import annotations

import math
import re
import shutil

import numpy as np
import pytest

import caffe_port as cp
from caffe_port.data.images import write_labels
from caffe_port.errors import UsageError
from caffe_port.exploring.training import Log, LogCurves, RunFolder
from tests.explore.client import IMAGE, RUN, WEIGHTS, Client, RefusedError, net, segmenter

START = RUN / "model" / "train_iter_1200.caffemodel"
LINES = """\
max_iter: 200
I0101 10:00:00.000001  7 solver.cpp:218] Iteration 0 (2.5 iter/s, 8s/20 iters), loss = 3.5
I0101 10:00:00.000002  7 solver.cpp:237]     Train net output #0: accuracy = 0.25
I0101 10:00:00.000003  7 solver.cpp:237]     Train net output #1: loss = 3.25 (* 1 = 3.25 loss)
I0101 10:00:00.000004  7 sgd_solver.cpp:105] Iteration 0, lr = 0.001
I0101 10:00:01.000005  7 solver.cpp:330] Iteration 10, Testing net (#0)
I0101 10:00:01.000006  7 solver.cpp:397]     Test net output #0: accuracy = 0.5
I0101 10:00:01.000005  7 solver.cpp:330] Iteration 10, Testing net (#1)
I0101 10:00:01.000006  7 solver.cpp:397]     Test net output #0: accuracy = 0.75
I0101 10:00:02.000001  7 solver.cpp:218] Iteration 20 (2.5 iter/s, 8s/20 iters), loss = nan
"""


def read(text: str) -> LogCurves:
    found = LogCurves()
    for line in text.splitlines():
        found.add(line)
    return found


def test_the_lines_of_a_solver():
    found = read(LINES)
    assert found.last == 200
    assert found.iteration == 20
    loss = found.curves["Loss"]
    assert loss["train, smoothed"][0] == (0, 3.5)
    assert math.isnan(loss["train, smoothed"][1][1])
    assert loss["train loss"] == [(0, 3.25)]
    assert found.curves["Learning rate"] == {"learning rate": [(0, 0.001)]}
    assert found.curves["Outputs"] == {
        "train accuracy": [(0, 0.25)], "test accuracy": [(10, 0.5)],
        "test 1 accuracy": [(10, 0.75)],
    }  # fmt: skip


@pytest.mark.parametrize("place", ["solver.cpp:209", "solver.cpp:229"])
def test_lines_of_deeplab(place):
    found = read(f"I0101 10:00:00.000001  7 {place}] Iteration 40, loss = 1.25\n")
    assert found.curves["Loss"]["train, smoothed"] == [(40, 1.25)]


def test_a_resumed_training_replaces_what_it_repeats():
    line = "I0101 10:00:00.000001  7 solver.cpp:209] Iteration {}, loss = {}\n"
    lines = [line.format(i, i) for i in (0, 10, 20, 30)] + [line.format(20, 99)]
    assert read("".join(lines)).curves["Loss"]["train, smoothed"] == [(0, 0), (10, 10), (20, 99)]


def test_a_real_log_of_caffe():
    found = read((RUN / "train.log").read_text())
    text = (RUN / "train.log").read_text()
    assert found.iteration == 2400
    rate = found.curves["Learning rate"]["learning rate"]
    assert len(rate) == text.count(", lr = ")
    # SegAccuracy has three elements
    names = [f"train accuracy[{i}]" for i in range(3)]
    assert list(found.curves["Outputs"]) == names
    for i, name in enumerate(names):
        values = re.findall(rf"net output #{i}: accuracy = (\S+)", text)
        assert [value for _, value in found.curves["Outputs"][name]] == list(map(float, values))


def test_a_log_is_read_on_from_where_it_was(tmp_path):
    path = tmp_path / "train.log"
    cut = LINES.index("Iteration 0, lr") + 9
    path.write_text(LINES[:cut])
    log = Log(path)
    log.update()
    assert "Learning rate" not in log.read.curves  # its line is not complete
    version = log.version
    log.update()
    assert log.version == version
    with path.open("a") as stream:
        stream.write(LINES[cut:])
    log.update()
    assert log.version > version
    assert log.read.curves["Outputs"] == read(LINES).curves["Outputs"]
    path.write_text(LINES[: LINES.index("Train net")])  # started again
    log.update()
    assert list(log.read.curves) == ["Loss"]


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe" * 5000, b"x" * 5_000_000, b"] Iteration 1" + b"0" * 70_000 + b", loss = 1\n",
     b"] Iteration 5, loss = \x1b[2J\n", b"\n" * 100_000, b"] Iteration 1, lr = 1e999\n"],
    ids=["no text", "one line", "long number", "codes", "empty lines", "infinite"],
)  # fmt: skip
def test_logs_of_odd_content(tmp_path, content):
    (tmp_path / "train.log").write_bytes(content)
    found = RunFolder(tmp_path).answer({})
    assert found.head["run"] == 0
    assert found.packed()


def test_runs_of_a_folder(tmp_path):
    for name in ("b/seed_1/train.log", "a/caffe.host.me.log.INFO.20260101-100000.7"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(LINES)
    (tmp_path / "a" / "caffe.INFO").symlink_to("caffe.host.me.log.INFO.20260101-100000.7")
    (tmp_path / "gone.log").symlink_to("nowhere")
    folder = RunFolder(tmp_path)
    first = folder.answer({"run": 0}).head
    assert [name.split("/")[0] for name in first["runs"]] == ["a", "b"]
    assert (first["iteration"], first["last"]) == (20, 200)
    assert "curves" not in folder.answer({"run": 0, "version": first["version"]}).head
    assert folder.answer({"run": 2}).head["run"] is None
    assert RunFolder(tmp_path / "b" / "seed_1").answer({}).head["snapshot"] is None


def test_the_newest_label_maps_of_an_evaluation(tmp_path):
    (tmp_path / "train.log").write_text(LINES)
    folder = RunFolder(tmp_path)
    for number in range(8):
        path = tmp_path / "evaluation" / "after" / f"{number}.png"
        write_labels(path, np.full((4, 5), number, np.uint8))
    maps = folder.answer({}).head["maps"]
    assert len(maps) == 6
    assert folder.label_map(0).startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="label map 6; there are 6"):
        folder.label_map(6)


def test_the_newest_snapshot_predicts(tmp_path):
    with cp.explore(segmenter(), run=tmp_path) as page:
        client = Client(page.url)
        tab = client.open()
        tab.show()
        with pytest.raises(RefusedError, match="run 0; there are 0"):
            tab.post("snapshot", {"run": 0})
        (tmp_path / "train.log").write_text(LINES)
        with pytest.raises(RefusedError, match="holds no snapshot"):
            tab.post("snapshot", {"run": 0})
        shutil.copyfile(START, tmp_path / "train_iter_1200.caffemodel")
        head, arrays = tab.post("snapshot", {"run": 0})
        model = RUN / "recording" / "net.prototxt"
        early = cp.Segmenter(cp.load(model, START))(IMAGE).labels
        assert head["iteration"] == 1200
        np.testing.assert_array_equal(arrays["labels"], early)
        shutil.copyfile(WEIGHTS, tmp_path / "train_iter_2400.caffemodel")
        head, arrays = tab.post("snapshot", {"run": 0})
        assert head["iteration"] == 2400
        late = segmenter()(IMAGE).labels
        assert (early != late).any()
        np.testing.assert_array_equal(arrays["labels"], late)
        # the model itself has not changed
        np.testing.assert_array_equal(tab.show()[1]["labels"], late)
        (tmp_path / "train_iter_3000.caffemodel").write_bytes(b"\x0a\xff broken")
        with pytest.raises(RefusedError, match=r"train_iter_3000\.caffemodel"):
            tab.post("snapshot", {"run": 0})
        client.close()
    assert net() is segmenter().scores.net
