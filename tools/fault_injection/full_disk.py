"""Commands on a disk that fills up while they write; a complete previous output exists."""

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

from tools.fault_injection.jobs import JOBS
from tools.fault_injection.results import everything, final, unreadable
from tools.fault_injection.running import ended, finish, started

TITLE = "A full disk"
TEXT = """Each command wrote once to a small file system of its own and was started again to
rewrite everything, on a disk (tmpfs, filled except for a few kilobytes) without room for its
largest file; without root's rights, with a file size limit of half of that. It must name the
file, give the cause, fail, and leave every file of the first run unchanged, byte by byte.
`evaluate` ran with `--fresh`, which first deletes the label maps of the previous run."""
HEAD = ("command", "where", "status", "message", "previous output")
CASES = ("convert", "convert --emit-module", "evaluate", "crf", "train", "finetune", "unravel",
         "crf-grid", "prepare-voc", "verify", "score", "upgrade")  # fmt: skip
CAUSES = ("No space left on device", "File too large", "Disk quota exceeded")
DELETED = "deleted at the start, as `--fresh` says; files written since are complete"
ELSEWHERE = ("train", "finetune")  # these resume, so they start in another folder


def row(name: str, folder: Path, times: int, numbers: random.Random) -> list[str]:
    """The row of one command."""
    job = JOBS[name]
    whole = folder / "whole"
    finish(job, whole)
    largest = max(path.stat().st_size for path in final(whole))
    with filled(folder / "disk", whole, largest) as disk:
        before = everything(disk)
        out = disk
        if name in ELSEWHERE:
            out = folder / "new"  # a link, so that lists next to it need no room
            (disk / "new").mkdir()
            out.symlink_to(disk / "new")
        limit = None if os.path.ismount(disk) else lambda: limit_file_size(largest // 2)
        status, output = ended(started(job.rewriting(), out, before=limit))
        line = next((line for line in output.splitlines() if any(c in line for c in CAUSES)), "")
        kept = "kept"
        if any(everything(disk).get(path) != content for path, content in before.items()):
            kept = DELETED if name == "evaluate" and not unreadable(disk) else "CHANGED"
        where = "tmpfs" if limit is None else "limit"
    message = f"NOTHING: {output[-300:]}"
    if line:
        message = "file and cause" if str(out) in line or str(disk) in line else "cause"
    traceback = " and a TRACEBACK" if "Traceback" in output else ""
    return [f"`{name}`", where, str(status), message + traceback, kept]


def is_good(row: list[str]) -> bool:
    """Whether the row is as required."""
    good = row[3:] in (["file and cause", "kept"], ["file and cause", DELETED])
    return row[2] not in ("0", "-9") and good


def limit_file_size(most: int) -> None:
    """Limits the size of the files that this process writes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing fails with EFBIG
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


@contextlib.contextmanager
def filled(disk: Path, content: Path, largest: int) -> Iterator[Path]:
    """A full file system with a copy of ``content``; a plain folder where mounting is refused."""
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
    """Fills a file system, leaving ``left`` bytes free."""
    state = os.statvfs(disk)
    free = state.f_bavail * state.f_frsize - left
    with (disk / ".filling").open("wb") as stream:
        stream.write(b"\0" * max(free, 0))
