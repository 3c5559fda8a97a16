"""Runs all tests against the wheel of each Python, under old and new libraries.

usage: python -m tools.matrix [--only NAME ...] [--work DIR] [-o DIR] [--jobs N]
                              [-- PYTEST OPTIONS]

Each row is an environment of its own under --work (default .matrix), kept for the next time; the
wheels are those of tools.matrix.wheels, built here where they are not there yet. A row that passed
is not run again until a file of the checkout changes, so a run that was broken off goes on; --only
runs its rows in any case. What came of it goes to docs/matrix.md. With PYTEST OPTIONS (such as
tests/crf) the result is only shown: the page tells of all tests.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tools.matrix.building import built
from tools.matrix.environments import (
    ROOT,
    ROWS,
    WORK,
    Row,
    Tally,
    commit,
    environment,
    fingerprint,
    interpreter,
    said,
    tested,
    tests_beside,
    tracked,
    versions,
)
from tools.matrix.page import PAGE, counted, write


@dataclass
class Outcome:
    """What became of a row; kept as JSON under --work."""

    row: str
    place: int
    state: str
    commit: str
    versions: dict[str, str] = field(default_factory=dict)
    tests: Tally = field(default_factory=Tally)
    seconds: int = 0
    trouble: str = ""

    @property
    def passed(self) -> bool:
        """Whether tests ran and none failed."""
        return not self.trouble and self.tests.passed


@dataclass(frozen=True)
class Folders:
    """Where environments and records are, and where the wheels."""

    work: Path
    wheels: Path


def main() -> None:
    """Runs the rows asked for and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("pytest", nargs="*", help="options for pytest")
    options = parser.parse_args()
    folders = Folders(options.work.resolve(), options.out.resolve())
    command = ["--numprocesses", str(options.jobs), "--dist", "loadfile", *options.pytest]
    state, passed = fingerprint(name for name in tracked() if ROOT / name != PAGE), True
    for row in ROWS:
        if options.only is None or row.name in options.only:
            record = folders.work / "results" / f"{row.name}.json"
            if options.only is None and not options.pytest and _is_known(record, state):
                print(f"{row.name}: passed already", flush=True)
                continue
            outcome = run(row, folders, command, state)
            passed &= outcome.passed
            print(f"{row.name}: {told(outcome)}, {outcome.seconds} s", flush=True)
            if not options.pytest:
                keep(outcome, record)
                write(folders.work)
    sys.exit(0 if passed else 1)


def _is_known(record: Path, state: str) -> bool:
    if not record.is_file():
        return False
    values = json.loads(record.read_text(encoding="utf-8"))
    known = Outcome(**{**values, "tests": Tally(**values["tests"])})
    return known.state == state and known.passed


def keep(outcome: Outcome, record: Path) -> None:
    """Writes down what became of a row."""
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(asdict(outcome), indent=1), encoding="utf-8")


def told(outcome: Outcome) -> str:
    """A row's outcome in words."""
    return outcome.trouble or counted(asdict(outcome.tests))


def run(row: Row, folders: Folders, command: Sequence[str], state: str) -> Outcome:
    """Makes the row's environment, installs the wheel, runs the tests against it."""
    outcome, python = Outcome(row.name, ROWS.index(row), state, commit()), interpreter(row.python)
    if python is None:
        outcome.trouble = f"no Python {row.python} here"
        return outcome
    began = time.monotonic()
    try:
        wheel = built(row.python, os.uname().machine, folders.wheels, folders.work)
        wheel.keep(folders.work)
        print(f"{row.name}: installing {wheel.file}", flush=True)
        bin = environment(row, python, folders.work, folders.wheels / wheel.file)
        outcome.versions = versions(bin)
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{bin}:{os.environ['PATH']}"}
        pytest: list[str | Path] = [bin / "python", "-m", "pytest", *command]
        outcome.tests = tested(pytest, tests_beside(folders.work / row.name), environ)
    except (LookupError, ValueError) as error:
        outcome.trouble = str(error)
    except subprocess.CalledProcessError as error:
        outcome.trouble = said(error)
    outcome.seconds = round(time.monotonic() - began)
    return outcome


if __name__ == "__main__":
    main()
