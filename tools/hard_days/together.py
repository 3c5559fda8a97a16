"""Two processes that write to one place at the same time."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from pathlib import Path

from tests.waiting import wait_until
from tools.hard_days.jobs import JOBS
from tools.hard_days.results import result, unreadable
from tools.hard_days.running import ended, finish, started

TITLE = "Two at once"
TEXT = """The same command was started twice, the second a moment after the first, both to write
to one place. Where two would disturb each other, the second one must say who is there and fail;
where it need not, each file must be whole and the result that of one alone."""
HEAD = ("command", "first", "second", "half-written files", "result at the end")
CASES = ("evaluate", "crf", "train", "convert", "finetune", "prepare-voc")
REFUSES = ("evaluate", "crf", "train")


def row(name: str, folder: Path, times: int, numbers: random.Random) -> list[str]:
    """One command's row of the table."""
    job = JOBS[name]
    finish(job, folder / "whole")
    wanted, out = result(job.kept, folder / "whole"), folder / "both"
    out.mkdir()
    first = started(job, out)
    if name in REFUSES:
        wait_until(lambda: is_locked(out), first)
        os.killpg(first.pid, signal.SIGSTOP)  # or it might be done before the second one begins
    second = described(*ended(started(job, out)))
    os.killpg(first.pid, signal.SIGCONT)
    answers = [second, described(*ended(first))]
    same = "equal" if result(job.kept, out) == wanted else "DIFFERENT"
    return [f"`{name}`", answers[1], answers[0], str(len(unreadable(out))), same]


def is_locked(out: Path) -> bool:
    """Whether a process has taken its place there, and written who it is."""
    with contextlib.suppress(FileNotFoundError):
        return any(path.stat().st_size > 0 for path in out.glob(".*lock"))
    return False


def described(status: int, said: str) -> str:
    """What became of a process."""
    if status == 0:
        return "done"
    told = any("process " in line and "choose another" in line for line in said.splitlines())
    return f"status {status}, told who is there" if told else f"STATUS {status}: {said[-300:]}"


def is_good(row: list[str]) -> bool:
    """Whether it is as it should be."""
    refused = row[2].startswith("status") if row[0].strip("`") in REFUSES else row[2] == "done"
    return row[1] == "done" and refused and row[3:] == ["0", "equal"]
