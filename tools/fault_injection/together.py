"""Two processes that write to one folder at the same time."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from pathlib import Path

from tests.waiting import wait_until
from tools.fault_injection.jobs import JOBS
from tools.fault_injection.results import result, unreadable
from tools.fault_injection.running import ended, finish, started

TITLE = "Two processes"
TEXT = """The same command was started twice with one output folder, the second shortly after the
first. Where two would disturb each other, the second must name the first process and fail;
otherwise each file must be complete and the result that of a single run."""
HEAD = ("command", "first", "second", "partial files", "final result")
CASES = ("evaluate", "crf", "train", "convert", "finetune", "prepare-voc")
REFUSES = ("evaluate", "crf", "train")


def row(name: str, folder: Path, times: int, numbers: random.Random) -> list[str]:
    """The row of one command."""
    job = JOBS[name]
    finish(job, folder / "whole")
    wanted, out = result(job.results, folder / "whole"), folder / "both"
    out.mkdir()
    first = started(job, out)
    if name in REFUSES:
        wait_until(lambda: is_locked(out), first)
        os.killpg(first.pid, signal.SIGSTOP)  # or it might end before the second starts
    second = described(*ended(started(job, out)))
    os.killpg(first.pid, signal.SIGCONT)
    answers = [second, described(*ended(first))]
    same = "equal" if result(job.results, out) == wanted else "DIFFERENT"
    return [f"`{name}`", answers[1], answers[0], str(len(unreadable(out))), same]


def is_locked(out: Path) -> bool:
    """Whether a process has locked the folder and written its number."""
    with contextlib.suppress(FileNotFoundError):
        return any(path.stat().st_size > 0 for path in out.glob(".*lock"))
    return False


def described(status: int, output: str) -> str:
    """How a process ended, for the table."""
    if status == 0:
        return "done"
    named = any("process " in line and "choose another" in line for line in output.splitlines())
    return f"status {status}, names the first" if named else f"STATUS {status}: {output[-300:]}"


def is_good(row: list[str]) -> bool:
    """Whether the row is as required."""
    refused = row[2].startswith("status") if row[0].strip("`") in REFUSES else row[2] == "done"
    return row[1] == "done" and refused and row[3:] == ["0", "equal"]
