"""Commands killed (SIGKILL, with all their children) at random moments, then run to the end."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tools.fault_injection.jobs import JOBS, Job
from tools.fault_injection.results import result, unreadable
from tools.fault_injection.running import finish, started

TITLE = "Killed"
TEXT = """Each command was killed with SIGKILL at random moments of its run and started again
each time, and finally run to its end. After every kill, every file under its final name was read
completely; the final result was compared with that of an undisturbed run."""
HEAD = ("command", "kills", "partial files", "final result")
CASES = ("convert", "evaluate", "crf", "train")


def row(name: str, folder: Path, times: int, numbers: random.Random) -> list[str]:
    """The row of one command."""
    job = JOBS[name]
    began = time.monotonic()
    finish(job, folder / "whole")
    length = time.monotonic() - began
    wanted, broken, done = result(job.results, folder / "whole"), 0, 0
    out = folder / "killed"
    while done < times:
        out.mkdir(exist_ok=True)
        done += killed(job, out, numbers.uniform(0, length))
        broken += len(unreadable(out))
        if set(result(job.results, out)) == set(wanted):  # start over, to be killed at more moments
            shutil.rmtree(out)
    finish(job, out)
    same = "equal" if result(job.results, out) == wanted else "DIFFERENT"
    return [f"`{name}`", str(done), str(broken), same]


def is_good(row: list[str]) -> bool:
    """Whether the row is as required."""
    return row[2:] == ["0", "equal"]


def killed(job: Job, out: Path, after: float) -> bool:
    """Kills a job and its children ``after`` seconds after its start; False if it had ended."""
    process = started(job, out)
    try:
        process.communicate(timeout=after)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
