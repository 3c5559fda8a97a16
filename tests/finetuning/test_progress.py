"""The expected end, and what is said where there is no terminal."""

import io

import pytest

from caffe_port.reports.progress import RunBars, RunLines, RunsEstimate, shown_runs


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_the_rest_takes_as_long_as_what_was_done_since():
    clock = Clock()
    estimate = RunsEstimate(4, clock)
    assert estimate.seconds_left() is None
    estimate.done(0)  # by an earlier call: it took none of our time
    assert estimate.seconds_left() is None
    estimate.update(1, 0.0)
    clock.now += 10
    estimate.update(1, 1.0)
    # 0.85 of a run in 10 s; 2.15 runs are left
    assert estimate.seconds_left() == pytest.approx(10 / 0.85 * 2.15)
    estimate.update(1, 2.0)
    assert estimate.seconds_left() == pytest.approx(20)
    assert estimate.text().endswith("in 0:00:20")
    for run in (1, 2, 3):
        estimate.done(run)
    estimate.update(3, 0.1)  # a message of its process that came late
    assert (estimate.finished, estimate.part, estimate.text()) == (4, 1.0, "all done")


def test_a_resumed_run_counts_from_where_it_was():
    clock = Clock()
    estimate = RunsEstimate(1, clock)
    estimate.update(0, 0.5)
    clock.now += 10
    estimate.update(0, 0.75)
    assert estimate.seconds_left() == pytest.approx((1 - 0.75 * 0.85) / (0.25 * 0.85) * 10)


def test_lines_are_printed_at_intervals_and_with_every_run():
    stream = io.StringIO()
    lines = RunLines(RunsEstimate(2), 2, stream)
    for part in (0.1, 0.2, 0.3):
        lines.update(0, "a, seed 1: step 1 of 3", part)
    lines.done(0)
    said = stream.getvalue().splitlines()
    assert len(said) == 2
    assert said[0].startswith("0 of 2 runs; a, seed 1: step 1 of 3; expected end ")
    assert said[1].startswith("1 of 2 runs; expected end ")


def test_a_terminal_has_bars(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with shown_runs(2) as progress:
        assert isinstance(progress, RunBars)
        # a run's log takes the place of standard error
        monkeypatch.setattr("sys.stderr", io.StringIO())
        progress.update(0, "a, seed 1: step 1 of 3", 0.5)
        progress.done(0)
        progress.update(0, "late", 0.5)
        progress.update(1, "b, seed 1: step 1 of 3", 0.5)
    assert "1 of 2 runs" in stream.getvalue()
    assert "late" not in stream.getvalue()
    assert "b, seed 1: step 1 of 3" in stream.getvalue()
