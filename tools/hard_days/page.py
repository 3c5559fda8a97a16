"""The table of hard days: rows are kept as JSON when they are made, and shown together."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from typing import Protocol

from tools.hard_days.jobs import ROOT

ROWS, PAGE = ROOT / "docs" / "hard_days.json", ROOT / "docs" / "hard_days.md"
TOP = """# Hard days

Made by `python -m tools.hard_days`; what the commands promise is in
[what a training does not lose](safety.md).
"""


class Part(Protocol):
    """A kind of hard day."""

    TITLE: str
    TEXT: str
    HEAD: tuple[str, ...]
    CASES: tuple[str, ...]


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Parts may run at the same time: one reads or writes the rows."""
    with ROWS.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def keep(part: str, case: str, row: list[str]) -> None:
    """Keeps a row in place of an older one."""
    with alone():
        rows = read()
        rows.setdefault(part, {})[case] = row
        ROWS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def read() -> dict[str, dict[str, list[str]]]:
    """All rows, by part and case."""
    text = ROWS.read_text(encoding="utf-8") if ROWS.exists() else ""
    rows: dict[str, dict[str, list[str]]] = json.loads(text or "{}")
    return rows


def write(parts: Mapping[str, Part]) -> None:
    """Makes the page of all rows that there are."""
    with alone():
        PAGE.write_text("\n".join([TOP, *sections(parts, read())]), encoding="utf-8")


def sections(parts: Mapping[str, Part], rows: Mapping[str, Mapping[str, list[str]]]) -> list[str]:
    """A heading, a text and a table for each part that has rows."""
    found = []
    for name, part in parts.items():
        mine = rows.get(name, {})
        lines = [mine[case] for case in part.CASES if case in mine]
        if lines:
            table = ["| " + " | ".join(cells) + " |" for cells in (part.HEAD, *lines)]
            table.insert(1, "|" + "---|" * len(part.HEAD))
            found.append(f"## {part.TITLE}\n\n{part.TEXT}\n\n" + "\n".join(table) + "\n")
    return found
