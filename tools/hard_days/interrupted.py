"""Commands in a terminal of their own, in which Ctrl-C is pressed at random moments."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import random
import re
import resource
import select
import shutil
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

from tests.waiting import LIMIT
from tools.hard_days.jobs import JOBS, Job
from tools.hard_days.results import result, unreadable
from tools.hard_days.running import finish, heed_ctrl_c

TITLE = "Ctrl-C"
TEXT = """Each command ran in a terminal of its own (a pty), in which Ctrl-C was pressed at random
moments of its run, imports and the start of workers included; every second time twice, a tenth of
a second apart. Each time it had to end with status 130, or with 0 where it was done or, in
`train`, had saved and stopped as Caffe does; without a traceback, the cursor visible, the
terminal's settings as they were, the last line ended, no process left, and no file half-written.
A Ctrl-C in the first hundredths of a second, before Python has read this package's first file, is
Python's own to answer, and is counted apart. At the end the command was begun again and its
result compared with that of an undisturbed run."""
HEAD = ("command", "Ctrl-C", "ended with 130", "with 0", "before this package", "untidy",
        "half-written files", "result at the end")  # fmt: skip
CASES = ("convert", "evaluate", "crf", "train", "finetune", "unravel", "crf-grid", "prepare-voc",
         "demo")  # fmt: skip
MAIN = ("convert", "evaluate", "crf", "train")
_ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
# a traceback's frame of this package, once its first file is imported
_OURS = re.compile(rb'/caffe_port/(?!(?:__init__|start)\.py", line \d+, in <module>)[^"]*", line')
_CURSOR = re.compile(rb"\x1b\[\?25([lh])")


def row(name: str, folder: Path, times: int, numbers: random.Random) -> list[str]:
    """One command's row of the table."""
    job, out = JOBS[name], folder / "interrupted"
    length = -_of_children()
    finish(job, folder / "whole")
    length += _of_children()
    wanted = result(job.kept, folder / "whole")
    ends = {"130": 0, "0": 0, "early": 0}
    untidy: list[str] = []
    broken = 0
    count = times if name in MAIN else max(1, times // 5)
    for number in range(count):
        out.mkdir(exist_ok=True)
        moment = numbers.uniform(0.02, length)
        end, wrong = interrupted(job, out, moment, twice=number % 2 == 1)
        ends[end] += 1
        untidy += wrong
        broken += len(unreadable(out))
        if set(result(job.kept, out)) >= set(wanted):
            shutil.rmtree(out)
    finish(job, out)
    same = "equal" if result(job.kept, out) == wanted else "DIFFERENT"
    counts = [str(ends[end]) for end in ("130", "0", "early")]
    return [f"`{name}`", str(count), *counts, "; ".join(untidy) or "0", str(broken), same]


def is_good(row: list[str]) -> bool:
    """Whether it is as it should be."""
    name, count, stopped, done = row[0].strip("`"), *map(int, row[1:4])
    # in Caffe's training the first Ctrl-C asks for a snapshot and an end
    heeded = stopped + done > 0 if name == "train" else stopped >= max(1, count // 3)
    return heeded and row[5:] == ["0", "0", "equal"]


def interrupted(job: Job, out: Path, after: float, *, twice: bool) -> tuple[str, list[str]]:
    """Presses Ctrl-C after so many seconds of processor time, which a busy machine does not change.

    Returns:
        how it ended: "130", "0", or "early"; and what was not tidy.
    """
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    process = subprocess.Popen(
        job.command(out), stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm"},
        preexec_fn=in_terminal,  # noqa: PLW1509  (one thread here)
    )  # fmt: skip
    wrong = []
    try:
        said = heard(process, master, lambda: used(process.pid) >= after)
        for _ in range(2 if twice else 1):
            os.write(master, b"\x03")
            said += heard(process, master, _over(0.1))
        said += heard(process, master, _over(LIMIT))
        status = process.wait(LIMIT)
        said += heard(process, master, lambda: True)
        if termios.tcgetattr(slave) != before:
            wrong.append("termios")
    finally:
        os.close(slave)
        os.close(master)
    if left := left_running(process.pid):
        wrong.append(f"{left} processes left")
    # killed by the signal itself, or in Python's own first steps
    if status == -2 or (status == 1 and b"KeyboardInterrupt" in said and not _OURS.search(said)):
        return "early", wrong
    wrong += untidiness(said)
    if status not in (0, 130):
        wrong.append(f"status {status}: {said[-300:].decode(errors='replace')}")
    if status == 130 and b"nterrupted" not in said:
        wrong.append("nothing said")
    return "0" if status == 0 else "130", wrong


def in_terminal() -> None:
    """In a new process: its standard input is its terminal, and Ctrl-C means what it does."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    heed_ctrl_c()


def heard(process: subprocess.Popen[bytes], master: int, enough: Callable[[], bool]) -> bytes:
    """What a terminal shows until it is enough, or the process ends."""
    said = b""
    while True:
        over = enough() or process.poll() is not None
        if select.select([master], [], [], 0 if over else 0.02)[0]:
            said += os.read(master, 65536)
        elif over:
            return said


def _over(seconds: float) -> Callable[[], bool]:
    """Whether so many seconds are over."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def _of_children() -> float:
    """Seconds of processor time of all that this process started and waited for."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def untidiness(said: bytes) -> list[str]:
    """What is wrong with a terminal that shows this at last."""
    wrong = []
    if b"Traceback" in said:
        wrong.append(f"traceback {said[-400:].decode(errors='replace')}")
    if (_CURSOR.findall(said) or [b"h"])[-1] != b"h":
        wrong.append("cursor hidden")
    # a Ctrl-C that came too late is shown by the terminal itself, on the next line
    shown = re.sub(rb"(?<=\n)(\^C)+$", b"", _ESCAPES.sub(b"", said))
    # a bar that is wiped ends its line by going back to its start
    if shown and not shown.endswith((b"\n", b"\r")):
        wrong.append(f"last line open: {said[-80:]!r}")
    return wrong


def left_running(session: int) -> int:
    """How many processes of a session are there after a minute."""
    over = _over(LIMIT / 60)
    while (left := [words for words in members(session) if words[0] != "Z"]) and not over():
        time.sleep(0.02)
    return len(left)


def used(session: int) -> float:
    """Seconds of processor time of a session's processes and of those they waited for."""
    ticks = sum(int(number) for words in members(session) for number in words[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def members(session: int) -> list[list[str]]:
    """What /proc says of each process of a session, from its state on."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            words = stat.read_text().rpartition(")")[2].split()
            if int(words[3]) == session:
                found.append(words)
    return found
