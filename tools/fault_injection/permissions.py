"""Commands without permission to read an input or to write their output."""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from tools.fault_injection.jobs import JOBS, Job
from tools.fault_injection.results import everything, final
from tools.fault_injection.running import ended, finish, started

TITLE = "Missing permissions"
TEXT = """Each command ran with each of its inputs in turn unreadable; with a read-only output
folder; with a missing output folder inside a read-only one; with a read-only previous output
(mode 444); and with a previous output on a read-only file system. It must fail, name the path and
the cause in one line without a traceback, and leave the previous output unchanged. The seconds
are the time until it failed: a training must not compute what it cannot save. Root's capability
to override permissions (CAP_DAC_OVERRIDE) was dropped."""
HEAD = ("command", "inputs", "folder read-only", "folder missing", "file read-only",
        "file system read-only", "seconds to fail", "whole run")  # fmt: skip
CASES = ("convert", "convert --emit-module", "evaluate", "crf", "train", "finetune", "unravel",
         "crf-grid", "prepare-voc", "verify", "score", "upgrade")  # fmt: skip
CAUSES = ("Permission denied", "Read-only file system", "not readable", "not writable",
          "does not exist", "Operation not permitted")  # fmt: skip
# commands that do not rewrite existing files, whose permissions then do not matter
KEEPS = ("train", "finetune")
_CAPBSET_DROP, _OVERRIDE, _READ_SEARCH = 24, 1, 2


def row(name: str, folder: Path, times: int, numbers: random.Random) -> list[str]:
    """The row of one command."""
    job = JOBS[name]
    whole = folder / "whole"
    began = time.monotonic()
    finish(job, whole)
    length = time.monotonic() - began
    cells, slowest = [inputs(job, folder)], 0.0
    for fault in (read_only, missing, protected, mounted):
        if fault is protected and name in KEEPS:
            cells.append("-")
            continue
        out = folder / fault.__name__ / "out"
        out.parent.mkdir()
        seconds, outcome = fault(job, out, whole)
        cells.append(outcome)
        slowest = max(slowest, seconds)
    return [f"`{name}`", *cells, f"{slowest:.1f}", f"{length:.1f}"]


def is_good(row: list[str]) -> bool:
    """Whether the row is as required."""
    return all(cell.endswith("reported") or cell == "-" for cell in row[1:6])


def unprivileged() -> None:
    """Drops the capabilities that override permissions, before the next program starts."""
    library = ctypes.CDLL(None, use_errno=True)
    for capability in (_OVERRIDE, _READ_SEARCH):
        library.prctl(_CAPBSET_DROP, capability, 0, 0, 0)


def tried(job: Job, out: Path, place: Path) -> tuple[float, str]:
    """Runs a job that must name ``place`` and fail: seconds, "reported" or what is wrong."""
    began = time.monotonic()
    status, output = ended(started(job, out, before=unprivileged))
    seconds = time.monotonic() - began
    if status <= 0:
        return seconds, f"STATUS {status}"
    if "Traceback" in output:
        return seconds, f"TRACEBACK {output[-300:]}"
    lines = [line for line in output.splitlines() if any(cause in line for cause in CAUSES)]
    if not any(str(place) in line for line in lines):
        return seconds, f"NOT NAMED: {output[-300:]}"
    return seconds, "reported"


def inputs(job: Job, folder: Path) -> str:
    """Every file or folder on the command line, in turn."""
    wrong, count = [], 0
    out = folder / "never" / "out"
    out.parent.mkdir()
    for number, word in enumerate(job.command(out)):
        flag, _, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
        path = Path(value)
        if number < 3 or not path.is_absolute() or not path.exists() or path == out:
            continue
        copy = folder / f"input_{number}" / path.name
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, _made(copy))
        copy.chmod(0)
        words = job.command(out)
        words[number] = f"{flag}={copy}" if flag else str(copy)
        _, outcome = tried(replace(job, command=lambda _, words=words: words), out, copy)
        copy.chmod(0o700)
        count += 1
        if outcome != "reported":
            wrong.append(f"{word}: {outcome}")
    left = [
        path
        for path in final(out.parent)
        if path.suffix not in (".txt", ".prototxt") and "truth" not in path.parts
    ]
    return "; ".join(wrong) or (f"WROTE {left}" if left else f"{count} reported")


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def read_only(job: Job, out: Path, whole: Path) -> tuple[float, str]:
    """The output folder exists, empty and read-only."""
    out.mkdir()
    job.command(out)  # writes its lists
    out.chmod(0o555)
    return tried(job, out, out)


def missing(job: Job, out: Path, whole: Path) -> tuple[float, str]:
    """The output folder is missing and cannot be created."""
    inner = out / "closed" / "out"
    inner.parent.mkdir(parents=True)
    job.command(inner)  # writes its lists
    inner.parent.chmod(0o555)
    try:
        return tried(job, inner, inner)
    finally:
        inner.parent.chmod(0o755)


def protected(job: Job, out: Path, whole: Path) -> tuple[float, str]:
    """A previous output exists, whose files are read-only."""
    shutil.copytree(whole, out, symlinks=True)
    for path in final(out):
        path.chmod(0o444)
    return _unchanged(job.rewriting(), out, everything(out))


def mounted(job: Job, out: Path, whole: Path) -> tuple[float, str]:
    """A previous output exists on a read-only file system."""
    shutil.copytree(whole, out, symlinks=True)
    if job.name in KEEPS:
        job.command(out)  # writes its lists
    bind = ["mount", "--bind", str(out), str(out)]
    if subprocess.run(bind, capture_output=True, check=False).returncode:
        return 0.0, "-"
    try:
        remount = ["mount", "-o", "remount,ro,bind", str(out)]
        subprocess.run(remount, capture_output=True, check=True)
        return _unchanged(job, out, everything(out))
    finally:
        subprocess.run(["umount", "-l", str(out)], check=True)


def _unchanged(job: Job, out: Path, before: dict[str, bytes]) -> tuple[float, str]:
    seconds, outcome = tried(job, out, out)
    return seconds, outcome if everything(out) == before else "CHANGED"
