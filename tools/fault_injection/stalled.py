"""Commands whose network folder stops answering, answers again, or is slow."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tools.fault_injection.interrupted import left_running
from tools.fault_injection.jobs import JOBS, ROOT, Job
from tools.fault_injection.results import result, unreadable
from tools.fault_injection.running import ended, finish, started

TITLE = "A network folder that stalls"
TEXT = """A FUSE file system showed the machine's files and stopped answering at a random moment
of the run. The command's time limit (`CAFFE_PORT_PATIENCE`, by default 300 s) was 20 s: it must
report after 15 s what it waits for, exit by itself after 20 s, leave no process and no partial
file, and, run again once the folder answers, give the result of an undisturbed run. After Ctrl-C
it must exit soon. If the folder answers again after 17 s or is only slow (0.3 s for each read),
the command must succeed."""
HEAD = ("command, and what stalls", "reported", "status", "seconds", "processes left",
        "partial files", "final result")  # fmt: skip
CASES = ("convert: input", "convert: output", "evaluate: input", "evaluate: output", "crf: input",
         "crf: output", "train: input", "train: output", "finetune: input", "prepare-voc: output",
         "evaluate: input, Ctrl-C", "train: input, Ctrl-C twice", "evaluate: input, 17 s",
         "train: output, 17 s", "convert: input, slow", "evaluate: input, slow")  # fmt: skip
PATIENCE, AGAIN, PRESSED, LIMIT = 20, 17, 3, 60  # seconds
TRIES = 10
READ = ("0", "63")  # number of the system call on x86-64 and arm64: waiting for a request


def row(name: str, folder: Path, times: int, numbers: random.Random) -> list[str]:
    """The row of one case."""
    if importlib.util.find_spec("mfusepy") is None or os.geteuid() != 0:
        return [name, *["no FUSE here"] * (len(HEAD) - 1)]
    command, _, rest = name.partition(": ")
    what, _, event = rest.partition(", ")
    job = JOBS[command]
    out = folder / "out"
    with mounted(folder / "shown", 0.3 if event == "slow" else 0.0) as (shown, server):
        moved = stalling(job, shown, what)
        began = time.monotonic()
        finish(moved, folder / "whole")
        length, wanted = time.monotonic() - began, result(job.results, folder / "whole")
        for _ in range(TRIES):
            out.mkdir()
            process = started(moved, out, variables={"CAFFE_PORT_PATIENCE": str(PATIENCE)})
            # files are read and written after the imports
            time.sleep(numbers.uniform(0.4, 0.9) * length)
            if event != "slow":
                stop(server)
            answer = outcome_of(process, event, server)
            left = left_running(process.pid)
            os.kill(server, signal.SIGCONT)
            if answer[1] != "0" or event.endswith(("slow", " s")):
                break
            shutil.rmtree(out)  # it no longer needed the folder: try again
        broken = len(unreadable(out))
        finish(moved, out)
    same = "equal" if result(job.results, out) == wanted else "DIFFERENT"
    return [name, *answer, str(left), str(broken), same]


def is_good(row: list[str]) -> bool:
    """Whether the row is as required."""
    harmless = row[0].endswith((" 17 s", " slow"))
    # whether 15 of the 17 s fell into a wait is chance
    reported = row[1] == ("no" if row[0].endswith((" slow", "Ctrl-C", "twice")) else "yes")
    reported = reported or row[0].endswith(" 17 s")
    status = row[2] == "0" if harmless else row[2] not in ("0", "-9", "none")
    return row[1] == "no FUSE here" or (reported and status and row[4:] == ["0", "0", "equal"])


def outcome_of(process: subprocess.Popen[bytes], event: str, server: int) -> list[str]:
    """Whether the stall was reported, the exit status, and the seconds."""
    began = time.monotonic()
    if event.startswith("Ctrl-C"):
        for _ in range(2 if event.endswith("twice") else 1):
            time.sleep(PRESSED)
            os.killpg(process.pid, signal.SIGINT)
    if event.endswith(" s"):
        time.sleep(AGAIN)
        os.kill(server, signal.SIGCONT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(LIMIT)
    lasted = time.monotonic() - began
    if process.poll() is None:
        os.kill(server, signal.SIGCONT)
        os.killpg(process.pid, signal.SIGKILL)
        status, output = "none", ended(process)[1]
    else:
        status, output = map(str, ended(process))
    reported = any("no answer from " in line for line in output.splitlines())
    return ["yes" if reported else "no", status, f"{lasted:.0f}"]


def stop(server: int) -> None:
    """Stops a file system's server while it serves no request.

    A process that waits for a request being served cannot be ended by any signal, unlike on NFS
    and SMB.
    """
    while True:
        os.kill(server, signal.SIGSTOP)
        state, call = Path(f"/proc/{server}/stat"), Path(f"/proc/{server}/syscall")
        while state.read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.001)
        number = call.read_text().split()[0]
        if number in READ:
            return
        os.kill(server, signal.SIGCONT)
        time.sleep(0.002)


def stalling(job: Job, shown: Path, what: str) -> Job:
    """The job with its inputs or its output in the folder that stalls."""

    def command(out: Path) -> list[str]:
        words = job.command(out)
        if what == "output":
            for text in out.parent.glob(f"{out.name}_*.prototxt"):
                _replace(text, f'"{out}/', f'"{shown}{out}/')
            return [word.replace(str(out), f"{shown}{out}") if word.startswith((str(out), "-"))
                    and not word.startswith("--solver") else word for word in words]  # fmt: skip
        if (net := out.parent / "train.prototxt").exists():
            _replace(net, f'"{ROOT}', f'"{shown}{ROOT}')
        return [word.replace(str(ROOT), f"{shown}{ROOT}") for word in words]

    return replace(job, command=command)


def _replace(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


@contextlib.contextmanager
def mounted(folder: Path, delay: float) -> Iterator[tuple[Path, int]]:
    """The mounted folder, and the number of the process that serves it."""
    folder.mkdir()
    words = [sys.executable, "-m", "tools.fault_injection.fuse_files", str(folder), str(delay)]
    server = subprocess.Popen(words, cwd=ROOT)
    try:
        while not os.path.ismount(folder):
            if server.poll() is not None:
                sys.exit("the file system could not be mounted")
            time.sleep(0.05)
        yield folder, server.pid
    finally:
        server.send_signal(signal.SIGCONT)
        subprocess.run(["umount", "-l", str(folder)], check=False)
        server.wait()
