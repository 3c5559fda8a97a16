"""The live line, the curves, TensorBoard, and the log file they share a terminal with."""

from __future__ import annotations

import math
import sys
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import pytest

from caffe_port.errors import UsageError
from caffe_port.reports.chart import Chart, document, draw_chart
from caffe_port.solver import log, progress
from caffe_port.solver.progress import Curves, TensorBoard, TrainingStep, named


def test_elements_of_an_output_get_numbers() -> None:
    values = {("loss", 0): 1.0, ("acc", 0): 0.5, ("acc", 1): 0.25}
    assert named(values) == {"loss": 1.0, "acc[0]": 0.5, "acc[1]": 0.25}


def test_the_live_line_says_loss_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.5, 11.0])
    line = progress.LiveLine(lambda: next(clock))
    monkeypatch.setattr(line, "_drawn", math.inf)
    for i in range(3):
        line.step(TrainingStep(i, 103, 0.123456, 0.001))
    text = line.text(TrainingStep(2, 103, 0.123456, 0.001))
    assert text == "Iteration 3/103  loss 0.1235  lr 0.001  2 iter/s  ETA 0:00:50"


def test_the_live_line_is_cleared_for_log_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.shown_live() as line:
        assert line is not None
        line.step(TrainingStep(0, 5, 1.0, 0.1))
        log.log("hello")
        log.log("again")
    log.log("after")
    drawn, first, second, third = capsys.readouterr().err.replace("\n", "").split("solver.cpp:1] ")
    assert drawn.startswith("\r\x1b[KIteration 1/5")
    assert "\r\x1b[KI" in drawn[5:]  # taken away before the line
    assert first.startswith("hello")
    assert "\x1b" not in first + second + third


def test_there_is_no_live_line_without_a_terminal() -> None:
    with progress.shown_live() as line:
        assert line is None


def fed(path: Path, steps: int = 3) -> str:
    with closing(Curves(str(path))) as curves:
        for i in range(steps):
            curves.step(TrainingStep(i, steps, 1 / (i + 1), 0.1))
        curves.outputs("test", 0, {"accuracy": 0.5, "loss": 2.0, "a<b": 1.0})
    return path.read_text(encoding="utf-8")


def test_curves_as_svg(tmp_path: Path) -> None:
    root = ElementTree.fromstring(fed(tmp_path / "c.svg"))
    texts = ["".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text")]
    for name in (
        "Loss",
        "Learning rate",
        "Outputs",
        "train, smoothed",
        "test accuracy",
        "test a<b",
    ):
        assert name in texts
    assert "test loss" in texts


def test_curves_as_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    page = fed(tmp_path / "c.html")
    assert page.count("<svg") == 3
    assert "src=" not in page
    assert "href=" not in page


def test_curves_of_another_suffix_are_refused() -> None:
    with pytest.raises(UsageError, match=r"expected a file \.html or \.svg"):
        Curves("c.gif")


def test_curves_without_any_step(tmp_path: Path) -> None:
    with closing(Curves(str(tmp_path / "c.svg"))):
        pass
    assert ElementTree.fromstring((tmp_path / "c.svg").read_text()).tag.endswith("svg")


def test_a_chart_thins_long_curves_and_leaves_gaps() -> None:
    points = [(float(i), float(i % 7)) for i in range(10_000)]
    assert draw_chart(Chart({"long": points})).count("L") < 900
    gap = draw_chart(Chart({"gap": [(0, 0.0), (1, 1.0), (2, math.nan), (3, 1.0), (4, 0.0)]}))
    (path,) = [part for part in gap.split('d="') if part.startswith("M") and "L" in part]
    assert path.split('"')[0].count("M") == 2


def test_a_chart_of_nothing_finite_says_so() -> None:
    assert "no finite value" in document({"Loss": {"a": [(0, math.nan)]}})


def test_a_missing_tensorboard_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="pip install tensorboard"):
        TensorBoard("events")


class FakeWriter:
    """Stands in for TensorBoard's writer."""

    def __init__(self, folder: str) -> None:
        self.folder, self.scalars, self.calls = folder, [], []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def flush(self) -> None:
        self.calls.append("flush")

    def close(self) -> None:
        self.calls.append("close")


def test_tensorboard_gets_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("torch.utils.tensorboard")
    module.SummaryWriter = FakeWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with closing(TensorBoard("events")) as board:
        board.step(TrainingStep(4, 9, 0.5, 0.1))
        board.outputs("test", 5, {"accuracy": 0.75})
        board.saved()
    assert board._writer.scalars == [
        ("train/smoothed_loss", 0.5, 4), ("train/lr", 0.1, 4), ("test/accuracy", 0.75, 5)
    ]  # fmt: skip
    assert board._writer.calls == ["flush", "close"]


def test_log_files_link_to_the_newest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = log.open_file(tmp_path, "caffe")
    log.log("kept")
    log.close_files()
    log.log("not kept")
    lines = path.read_text().splitlines()
    assert len(lines) == 4
    assert lines[-1].endswith("] kept")
    assert (tmp_path / "caffe.INFO").read_text() == path.read_text()
    assert ".log.INFO." in path.name
