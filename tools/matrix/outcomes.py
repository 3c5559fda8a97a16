"""Results of the rows: docs/matrix.json, which docs/matrix.md shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tools.matrix.environments import ROOT, Tally, commit, fingerprint, tracked

RECORDS = ROOT / "docs" / "matrix.json"
PAGE = ROOT / "docs" / "matrix.md"
Records = dict[str, dict[str, dict[str, Any]]]


@dataclass
class Outcome:
    """The result of a row.

    Attributes:
        state: of the checkout's files, from ``state``.
        commit: of the checkout.
        machine: where it ran.
        found: versions of libraries and the like, by name.
        tests: the results of the tests.
        seconds: duration.
        trouble: why there are no results.
    """

    state: str
    commit: str
    machine: str
    found: dict[str, str] = field(default_factory=dict)
    tests: Tally = field(default_factory=Tally)
    seconds: int = 0
    trouble: str = ""

    @property
    def passed(self) -> bool:
        """Whether tests ran and none failed."""
        return not self.trouble and self.tests.passed


class Named(Protocol):
    """A row."""

    @property
    def name(self) -> str:
        """Its name on the command line and on the page."""


Row = TypeVar("Row", bound=Named)


def new_outcome(machine: str) -> Outcome:
    """The outcome of a row that is about to run."""
    return Outcome(state(), commit(), machine)


def state() -> str:
    """A digest of all files of the checkout except the results."""
    return fingerprint(n for n in tracked() if ROOT / n not in (RECORDS, PAGE))


def read(path: Path = RECORDS) -> Records:
    """All results, by kind of row and name."""
    found: Records = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def keep(kind: str, name: str, values: Any, path: Path = RECORDS) -> None:
    """Stores the result of a row (a dataclass), replacing the previous one."""
    records = read(path)
    records.setdefault(kind, {})[name] = asdict(values)
    path.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def run_all(
    kind: str,
    rows: Iterable[Row],
    run: Callable[[Row], Outcome],
    *,
    only: Iterable[str] | None = None,
    part: bool = False,
    suffix: str = "",
    path: Path = RECORDS,
) -> bool:
    """Runs the rows and stores their results; returns whether all passed.

    Args:
        kind: of row, as in the records.
        only: names of those to run; by default those that did not pass with the present files.
        part: only a part of the tests is run, so nothing is stored.
        suffix: of the names in the records.
    """
    passed, chosen = True, None if only is None else set(only)
    for row in rows:
        if chosen is not None and row.name not in chosen:
            continue
        name = row.name + suffix
        if chosen is None and not part and _has_passed(kind, name, path):
            print(f"{row.name}: passed already", flush=True)
            continue
        outcome = run(row)
        passed &= outcome.passed
        result = outcome.trouble or counted(asdict(outcome.tests))
        print(f"{row.name}: {result}, {outcome.seconds} s", flush=True)
        if not part:
            keep(kind, name, outcome, path)
    return passed


def _has_passed(kind: str, name: str, path: Path) -> bool:
    values = read(path).get(kind, {}).get(name)
    if values is None:
        return False
    known = Outcome(**{**values, "tests": Tally(**values["tests"])})
    return known.state == state() and known.passed


def counted(tests: dict[str, Any]) -> str:
    """Counts such as '6,813 passed, 3 skipped', with the names of failures."""
    kinds = ("passed", "skipped", "failed")
    counts = ", ".join(f"{tests['counts'][k]:,} {k}" for k in kinds if tests["counts"].get(k))
    return " ".join([counts, *(f"`{name}`" for name in tests["failed"][:5])])
