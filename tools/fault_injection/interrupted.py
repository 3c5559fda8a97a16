"""Commands in a pseudo-terminal in which Ctrl-C is pressed at random moments."""

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
from tools.fault_injection.jobs import JOBS, Job
from tools.fault_injection.results import result, unreadable
from tools.fault_injection.running import finish, restore_ctrl_c

TITLE = "Ctrl-C"
TEXT = """Each command ran in a pseudo-terminal in which Ctrl-C was pressed at random moments of
its run, including imports and the start of workers; every second time twice, a tenth of a second
apart. Each run had to exit with status 130, or with 0 if it had finished or, in `train`, had saved
and stopped as Caffe does; without a traceback, with a visible cursor, the terminal's settings
restored, the last line ended, no process left and no partial file. Python itself handles a Ctrl-C
in the first hundredths of a second, before it has read this package's first file; these are
counted separately. Finally the command was run again to its end and its result compared with that
of an undisturbed run."""
HEAD = ("command", "Ctrl-C", "status 130", "status 0", "before this package", "untidy",
        "partial files", "final result")  # fmt: skip
CASES = ("convert", "evaluate", "crf", "train", "finetune", "unravel", "crf-grid", "prepare-voc",
         "demo")  # fmt: skip
MAIN = ("convert", "evaluate", "crf", "train")
_ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
# a traceback frame of this package, after its first file was imported
_OURS = re.compile(rb'/caffe_port/(?!(?:__init__|start)\.py", line \d+, in <module>)[^"]*", line')
_CURSOR = re.compile(rb"\x1b\[\?25([lh])")


def row(name: str, folder: Path, times: int, numbers: random.Random) -> list[str]:
    """The row of one command."""
    job, out = JOBS[name], folder / "interrupted"
    length = -_children_time()
    finish(job, folder / "whole")
    length += _children_time()
    wanted = result(job.results, folder / "whole")
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
        if set(result(job.results, out)) >= set(wanted):
            shutil.rmtree(out)
    finish(job, out)
    same = "equal" if result(job.results, out) == wanted else "DIFFERENT"
    counts = [str(ends[end]) for end in ("130", "0", "early")]
    return [f"`{name}`", str(count), *counts, "; ".join(untidy) or "0", str(broken), same]


def is_good(row: list[str]) -> bool:
    """Whether the row is as required."""
    name, count, stopped, done = row[0].strip("`"), *map(int, row[1:4])
    # in Caffe's training the first Ctrl-C requests a snapshot and the end
    handled = stopped + done > 0 if name == "train" else stopped >= max(1, count // 3)
    return handled and row[5:] == ["0", "0", "equal"]


def interrupted(job: Job, out: Path, after: float, *, twice: bool) -> tuple[str, list[str]]:
    """Presses Ctrl-C after ``after`` seconds of processor time, independent of the machine's load.

    Returns:
        How the command ended ("130", "0" or "early"), and what was not as required.
    """
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    process = subprocess.Popen(
        job.command(out), stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm"},
        preexec_fn=attach_terminal,  # noqa: PLW1509  (one thread here)
    )  # fmt: skip
    wrong = []
    try:
        output = read_terminal(process, master, lambda: used(process.pid) >= after)
        for _ in range(2 if twice else 1):
            os.write(master, b"\x03")
            output += read_terminal(process, master, _over(0.1))
        output += read_terminal(process, master, _over(LIMIT))
        status = process.wait(LIMIT)
        output += read_terminal(process, master, lambda: True)
        if termios.tcgetattr(slave) != before:
            wrong.append("termios")
    finally:
        os.close(slave)
        os.close(master)
    if left := left_running(process.pid):
        wrong.append(f"{left} processes left")
    # ended by the signal itself, or while Python was starting
    if status == -2 or (
        status == 1 and b"KeyboardInterrupt" in output and not _OURS.search(output)
    ):
        return "early", wrong
    wrong += untidiness(output)
    if status not in (0, 130):
        wrong.append(f"status {status}: {output[-300:].decode(errors='replace')}")
    if status == 130 and b"nterrupted" not in output:
        wrong.append("no message")
    return "0" if status == 0 else "130", wrong


def attach_terminal() -> None:
    """Runs in the new process: standard input becomes its terminal, and Ctrl-C works."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    restore_ctrl_c()


def read_terminal(
    process: subprocess.Popen[bytes], master: int, enough: Callable[[], bool]
) -> bytes:
    """The terminal's output until ``enough()`` holds or the process ends."""
    output = b""
    while True:
        over = enough() or process.poll() is not None
        if select.select([master], [], [], 0 if over else 0.02)[0]:
            output += os.read(master, 65536)
        elif over:
            return output


def _over(seconds: float) -> Callable[[], bool]:
    """A function that returns whether ``seconds`` have passed since this call."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def _children_time() -> float:
    """Processor seconds of all child processes that have ended."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def untidiness(output: bytes) -> list[str]:
    """What is wrong with a terminal that shows this output at the end."""
    wrong = []
    if b"Traceback" in output:
        wrong.append(f"traceback {output[-400:].decode(errors='replace')}")
    if (_CURSOR.findall(output) or [b"h"])[-1] != b"h":
        wrong.append("cursor hidden")
    # the terminal echoes a Ctrl-C that came too late on the next line
    shown = re.sub(rb"(?<=\n)(\^C)+$", b"", _ESCAPES.sub(b"", output))
    # an erased progress bar ends with a carriage return
    if shown and not shown.endswith((b"\n", b"\r")):
        wrong.append(f"last line open: {output[-80:]!r}")
    return wrong


def left_running(session: int) -> int:
    """The number of processes of a session that still run after a minute."""
    over = _over(LIMIT / 60)
    while (left := [words for words in members(session) if words[0] != "Z"]) and not over():
        time.sleep(0.02)
    return len(left)


def used(session: int) -> float:
    """Processor seconds of a session's processes and of their ended children."""
    ticks = sum(int(number) for words in members(session) for number in words[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def members(session: int) -> list[list[str]]:
    """The fields of /proc/PID/stat of a session's processes, from the state on."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # the process has ended
            words = stat.read_text().rpartition(")")[2].split()
            if int(words[3]) == session:
                found.append(words)
    return found
