"""Commands on a disk that fills up while they write; a good earlier output is there."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tools.hard_days.jobs import JOBS
from tools.hard_days.results import everything, final, unreadable
from tools.hard_days.running import ended, finish, started

TITLE = "A full disk"
TEXT = """Each command wrote once to a small file system of its own, was begun again to write
everything anew, and met a disk (tmpfs, filled to its last kilobytes) on which not even its
largest file had room; without root's rights, files limited to half of that. It must name the
file, say why, fail, and leave every file of the first run as it was, byte by byte; only
`evaluate` began with `--fresh`, which drops an earlier run's label maps to make them anew."""
HEAD = ("command", "where", "status", "what it says", "files of before")
CASES = ("convert", "convert --emit-module", "evaluate", "crf", "train", "finetune", "unravel",
         "crf-grid", "prepare-voc", "verify", "score", "upgrade")  # fmt: skip
CAUSES = ("No space left on device", "File too large", "Disk quota exceeded")
DROPPED = "dropped at its start, as `--fresh` asks; those made since are whole"
ELSEWHERE = ("train", "finetune")  # what goes on where it stopped is begun in another folder


def row(name: str, folder: Path, times: int, numbers: random.Random) -> list[str]:
    """One command's row of the table."""
    job = JOBS[name]
    whole = folder / "whole"
    finish(job, whole)
    largest = max(path.stat().st_size for path in final(whole))
    with filled(folder / "disk", whole, largest) as disk:
        before = everything(disk)
        out = disk
        if name in ELSEWHERE:
            out = folder / "new"  # a link, so that lists beside it need no room
            (disk / "new").mkdir()
            out.symlink_to(disk / "new")
        limit = None if os.path.ismount(disk) else lambda: limited(largest // 2)
        status, said = ended(started(job.again(), out, before=limit))
        line = next((line for line in said.splitlines() if any(c in line for c in CAUSES)), "")
        kept = "kept"
        if any(everything(disk).get(path) != content for path, content in before.items()):
            kept = DROPPED if name == "evaluate" and not unreadable(disk) else "CHANGED"
        where = "tmpfs" if limit is None else "limit"
    told = f"NOTHING: {said[-300:]}"
    if line:
        told = "file and cause" if str(out) in line or str(disk) in line else "cause"
    traceback = " and a TRACEBACK" if "Traceback" in said else ""
    return [f"`{name}`", where, str(status), told + traceback, kept]


def is_good(row: list[str]) -> bool:
    """Whether it is as it should be."""
    good = row[3:] in (["file and cause", "kept"], ["file and cause", DROPPED])
    return row[2] not in ("0", "-9") and good


def limited(most: int) -> None:
    """Files of this process get no larger."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing fails with EFBIG
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


@contextlib.contextmanager
def filled(disk: Path, content: Path, largest: int) -> Iterator[Path]:
    """A full file system that holds a copy of some files; a plain folder where none can be made."""
    disk.mkdir()
    size = sum(path.stat().st_size for path in content.rglob("*") if path.is_file())
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={2 * size + 2**21}", "none", str(disk)],
        capture_output=True, check=False,
    ).returncode == 0  # fmt: skip
    try:
        shutil.copytree(content, disk, dirs_exist_ok=True, symlinks=True)
        if made:
            fill(disk, min(largest // 2, 2**16))
        yield disk
    finally:
        if made:
            subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path, left: int) -> None:
    """Fills a file system up to so many bytes."""
    state = os.statvfs(disk)
    free = state.f_bavail * state.f_frsize - left
    with (disk / ".filling").open("wb") as stream:
        stream.write(b"\0" * max(free, 0))
