"""Starting the commands of hard days, and what they say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.waiting import LIMIT
from tools.hard_days.jobs import Job


def started(
    job: Job,
    out: Path,
    *,
    before: Callable[[], None] | None = None,
    variables: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a job in a process group of its own.

    Args:
        before: called in the new process.
        variables: of the environment, besides this one's.
    """

    def begin() -> None:
        heed_ctrl_c()
        if before is not None:
            before()

    return subprocess.Popen(
        job.command(out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(variables or {})}, preexec_fn=begin,  # noqa: PLW1509  (one thread here)
    )  # fmt: skip


def heed_ctrl_c() -> None:
    """In a new process: shells have what runs in the background ignore Ctrl-C, and its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Waits for a job; its status and what it said."""
    _, said = process.communicate(timeout=LIMIT)
    return process.returncode, said.decode(errors="replace")


def finish(job: Job, out: Path) -> None:
    """Lets a job run to its end.

    Raises:
        SystemExit: it fails.
    """
    out.mkdir(parents=True, exist_ok=True)
    status, said = ended(started(job, out))
    if status != 0:
        sys.exit(f"{job.name}: status {status}\n{said[-2000:]}")
