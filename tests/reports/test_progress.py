"""What is shown while a command runs: speed, expected end, skipped images."""

from __future__ import annotations

from datetime import datetime

from caffe_port.evaluation.steps import Outcome
from caffe_port.reports.progress import ImageRate, shown_images

NOON = datetime(2020, 5, 17, 12, 0, 0)


class Clock:
    """Seconds that are set."""

    now = 0.0

    def __call__(self):
        return self.now


def test_speed_and_expected_end():
    clock = Clock()
    rate = ImageRate(clock)
    assert rate.text(0, 100, NOON) == ""
    clock.now = 4
    assert rate.text(2, 100, NOON) == "0.50 images/s, ends 12:03:16"
    clock.now = 8
    assert rate.text(100, 100, NOON) == "12.50 images/s"


def test_images_of_an_earlier_run_are_soon_forgotten():
    clock = Clock()
    rate = ImageRate(clock)
    clock.now = 1
    rate.text(1000, 2000, NOON)  # reused
    for i in range(1, 71):
        clock.now = 1 + i
        words = rate.text(1000 + i, 2000, NOON)
    assert words.startswith("1.00 images/s, ends 12:15:30")


def test_an_end_on_another_day_has_its_date():
    clock = Clock()
    rate = ImageRate(clock)
    clock.now = 100
    assert rate.text(1, 2001, NOON).endswith("ends 19 May 19:33")


def test_a_log_gets_ten_lines_and_every_skipped_image(capsys):
    with shown_images("evaluate") as progress:
        for done in range(1, 101):
            error, remark = ("b.jpg: broken" if done == 7 else ""), ("c.scores" * (done == 9))
            progress(done, 100, Outcome("a", error=error, remark=remark).lines)
    lines = capsys.readouterr().err.splitlines()
    assert lines.pop(0) == "skipped: b.jpg: broken"
    assert lines.pop(0) == "c.scores"
    assert [line.split(",")[0] for line in lines] == [
        f"evaluate: {done} of 100 images" for done in range(10, 101, 10)
    ]
    assert all(" images/s" in line for line in lines)


def test_one_process_of_several_says_nothing(capsys):
    with shown_images("evaluate", quiet=True) as progress:
        progress(1, 1, Outcome("a", error="bad").lines)
    assert capsys.readouterr().err == ""
