"""Commands killed (SIGKILL, with all their children) at random moments, begun again, finished."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tools.hard_days.jobs import JOBS, Job
from tools.hard_days.results import result, unreadable
from tools.hard_days.running import finish, started

TITLE = "Killed"
TEXT = """Each command was killed with SIGKILL at random moments of its run, begun again each
time, and at last let finish; after every kill, every file under its final name was read to its
end, and the last result was compared with that of a run that nothing disturbed."""
HEAD = ("command", "kills", "half-written files", "result at the end")
CASES = ("convert", "evaluate", "crf", "train")


def row(name: str, folder: Path, times: int, numbers: random.Random) -> list[str]:
    """One command's row of the table."""
    job = JOBS[name]
    began = time.monotonic()
    finish(job, folder / "whole")
    length = time.monotonic() - began
    wanted, broken, done = result(job.kept, folder / "whole"), 0, 0
    out = folder / "killed"
    while done < times:
        out.mkdir(exist_ok=True)
        done += killed(job, out, numbers.uniform(0, length))
        broken += len(unreadable(out))
        if set(result(job.kept, out)) == set(wanted):  # again, for more moments to be killed at
            shutil.rmtree(out)
    finish(job, out)
    same = "equal" if result(job.kept, out) == wanted else "DIFFERENT"
    return [f"`{name}`", str(done), str(broken), same]


def is_good(row: list[str]) -> bool:
    """Whether it is as it should be."""
    return row[2:] == ["0", "equal"]


def killed(job: Job, out: Path, after: float) -> bool:
    """Begins a job and kills it and its children after so many seconds; False if it was done."""
    process = started(job, out)
    try:
        process.communicate(timeout=after)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
