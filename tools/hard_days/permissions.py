"""Commands whose inputs may not be read, or whose outputs may not be written."""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from tools.hard_days.jobs import JOBS, Job
from tools.hard_days.results import everything, final
from tools.hard_days.running import ended, finish, started

TITLE = "Missing permissions"
TEXT = """Each command met: each of its inputs in turn without the right to read it; an output
folder without the right to write; one that is missing, in a folder without that right; an earlier
output that is protected (mode 444); and an earlier output on a file system that is read-only. It
must fail, name the path and the cause in one line without a traceback, and leave the earlier
output as it was. The seconds are those until it had failed: a training must not compute first
what it cannot save. Root's own right to pass all permissions over (CAP_DAC_OVERRIDE) was
dropped."""
HEAD = ("command", "inputs", "folder read-only", "no folder", "file protected", "file system",
        "seconds", "whole run")  # fmt: skip
CASES = ("convert", "convert --emit-module", "evaluate", "crf", "train", "finetune", "unravel",
         "crf-grid", "prepare-voc", "verify", "score", "upgrade")  # fmt: skip
CAUSES = ("Permission denied", "Read-only file system", "not readable", "not writable",
          "does not exist", "Operation not permitted")  # fmt: skip
# what is not written anew once it is there, so that its protection is nobody's concern
KEEPS = ("train", "finetune")
_CAPBSET_DROP, _OVERRIDE, _READ_SEARCH = 24, 1, 2


def row(name: str, folder: Path, times: int, numbers: random.Random) -> list[str]:
    """One command's row of the table."""
    job = JOBS[name]
    whole = folder / "whole"
    began = time.monotonic()
    finish(job, whole)
    length = time.monotonic() - began
    cells, slowest = [inputs(job, folder)], 0.0
    for trouble in (read_only, missing, protected, mounted):
        if trouble is protected and name in KEEPS:
            cells.append("-")
            continue
        out = folder / trouble.__name__ / "out"
        out.parent.mkdir()
        seconds, words = trouble(job, out, whole)
        cells.append(words)
        slowest = max(slowest, seconds)
    return [f"`{name}`", *cells, f"{slowest:.1f}", f"{length:.1f}"]


def is_good(row: list[str]) -> bool:
    """Whether it is as it should be."""
    return all(cell.endswith("told") or cell == "-" for cell in row[1:6])


def unprivileged() -> None:
    """Drops the right to pass permissions over, from the next program on."""
    library = ctypes.CDLL(None, use_errno=True)
    for capability in (_OVERRIDE, _READ_SEARCH):
        library.prctl(_CAPBSET_DROP, capability, 0, 0, 0)


def tried(job: Job, out: Path, place: Path) -> tuple[float, str]:
    """Runs a job that must fail at a place; the seconds, and "told" or what was wrong."""
    began = time.monotonic()
    status, said = ended(started(job, out, before=unprivileged))
    seconds = time.monotonic() - began
    if status <= 0:
        return seconds, f"STATUS {status}"
    if "Traceback" in said:
        return seconds, f"TRACEBACK {said[-300:]}"
    lines = [line for line in said.splitlines() if any(cause in line for cause in CAUSES)]
    if not any(str(place) in line for line in lines):
        return seconds, f"NOT NAMED: {said[-300:]}"
    return seconds, "told"


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
        _, told = tried(replace(job, command=lambda _, words=words: words), out, copy)
        copy.chmod(0o700)
        count += 1
        if told != "told":
            wrong.append(f"{word}: {told}")
    left = [
        path
        for path in final(out.parent)
        if path.suffix not in (".txt", ".prototxt") and "truth" not in path.parts
    ]
    return "; ".join(wrong) or (f"WROTE {left}" if left else f"{count} told")


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def read_only(job: Job, out: Path, whole: Path) -> tuple[float, str]:
    """The output folder is there, and empty."""
    out.mkdir()
    job.command(out)  # makes its lists
    out.chmod(0o555)
    return tried(job, out, out)


def missing(job: Job, out: Path, whole: Path) -> tuple[float, str]:
    """The output folder is not there, and cannot be made."""
    inner = out / "closed" / "out"
    inner.parent.mkdir(parents=True)
    job.command(inner)  # makes its lists
    inner.parent.chmod(0o555)
    try:
        return tried(job, inner, inner)
    finally:
        inner.parent.chmod(0o755)


def protected(job: Job, out: Path, whole: Path) -> tuple[float, str]:
    """An earlier output is there, and none of its files may be written."""
    shutil.copytree(whole, out, symlinks=True)
    for path in final(out):
        path.chmod(0o444)
    return _unchanged(job.again(), out, everything(out))


def mounted(job: Job, out: Path, whole: Path) -> tuple[float, str]:
    """An earlier output is there, on a file system that cannot be written."""
    shutil.copytree(whole, out, symlinks=True)
    if job.name in KEEPS:
        job.command(out)  # makes its lists
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
    seconds, told = tried(job, out, out)
    return seconds, told if everything(out) == before else "CHANGED"
