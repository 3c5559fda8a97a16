"""Starts the commands and returns what they print."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.waiting import LIMIT
from tools.fault_injection.jobs import Job


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
        variables: environment variables, added to this process's.
    """

    def begin() -> None:
        restore_ctrl_c()
        if before is not None:
            before()

    return subprocess.Popen(
        job.command(out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(variables or {})}, preexec_fn=begin,  # noqa: PLW1509  (one thread here)
    )  # fmt: skip


def restore_ctrl_c() -> None:
    """Runs in a new process: background jobs of a shell, and their children, ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Waits for a job; returns its exit status and its output on stderr."""
    _, output = process.communicate(timeout=LIMIT)
    return process.returncode, output.decode(errors="replace")


def finish(job: Job, out: Path) -> None:
    """Runs a job to its end.

    Raises:
        SystemExit: the job fails.
    """
    out.mkdir(parents=True, exist_ok=True)
    status, output = ended(started(job, out))
    if status != 0:
        sys.exit(f"{job.name}: status {status}\n{output[-2000:]}")
