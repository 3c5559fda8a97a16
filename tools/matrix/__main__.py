"""Runs all tests against the wheel of each Python, under old and new libraries.

usage: python -m tools.matrix [--only NAME ...] [--work DIR] [-o DIR] [--jobs N]
                              [-- PYTEST OPTIONS]

Each row is an environment of its own under --work (default .matrix), which is kept; the wheels are
those of tools.matrix.wheels, built here if missing. A row that passed is not run again until a file
of the checkout changes, so an interrupted run resumes; --only runs its rows in any case. Results
are written to docs/matrix.json and docs/matrix.md. With PYTEST OPTIONS (such as tests/crf) the
result is only printed: the page is about all tests.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.matrix.building import built
from tools.matrix.environments import (
    ROOT,
    ROWS,
    WORK,
    Row,
    environment,
    interpreter,
    last_line,
    machine,
    tested,
    tests_copy,
    versions,
)
from tools.matrix.outcomes import Outcome, keep, new_outcome, run_all
from tools.matrix.page import write


@dataclass(frozen=True)
class Folders:
    """The folders of the environments and of the wheels."""

    work: Path
    wheels: Path


def main() -> None:
    """Runs the chosen rows and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("pytest", nargs="*", help="options for pytest")
    options = parser.parse_args()
    folders = Folders(options.work.resolve(), options.out.resolve())
    command = ["--numprocesses", str(options.jobs), "--dist", "loadfile", *options.pytest]
    passed = run_all("environments", ROWS, lambda row: run(row, folders, command),
                     only=options.only, part=bool(options.pytest))  # fmt: skip
    write()
    sys.exit(0 if passed else 1)


def run(row: Row, folders: Folders, command: Sequence[str]) -> Outcome:
    """Makes the row's environment, installs the wheel, runs the tests against it."""
    outcome, python = new_outcome(machine()), interpreter(row.python)
    if python is None:
        outcome.trouble = f"no Python {row.python} here"
        return outcome
    began = time.monotonic()
    try:
        wheel = built(row.python, os.uname().machine, folders.wheels, folders.work)
        keep("wheels", wheel.name, wheel)
        print(f"{row.name}: installing {wheel.file}", flush=True)
        bin = environment(row, python, folders.work, folders.wheels / wheel.file)
        outcome.found = versions(bin)
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{bin}:{os.environ['PATH']}"}
        pytest: list[str | Path] = [bin / "python", "-m", "pytest", *command]
        folder = folders.work / row.name
        outcome.tests = tested(pytest, tests_copy(folder), environ, folder)
    except (LookupError, ValueError) as error:
        outcome.trouble = str(error)
    except subprocess.CalledProcessError as error:
        outcome.trouble = last_line(error)
    outcome.seconds = round(time.monotonic() - began)
    return outcome


if __name__ == "__main__":
    main()
