"""The page of measured rows: each is kept as JSON when it is measured."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from typing import Protocol

from tools.fault_injection.jobs import ROOT

ROWS, PAGE = ROOT / "docs" / "fault_injection.json", ROOT / "docs" / "fault_injection.md"
TOP = """# Fault injection

What commands do when they are killed, interrupted, or run out of disk space, permissions or time.
Measured by `python -m tools.fault_injection`; what the commands promise is in
[safety of long runs](safety.md).
"""


class Part(Protocol):
    """A module that injects one kind of fault."""

    TITLE: str
    TEXT: str
    HEAD: tuple[str, ...]
    CASES: tuple[str, ...]


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Holds the lock on the rows: parts may run at the same time."""
    with ROWS.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def keep(part: str, case: str, row: list[str]) -> None:
    """Stores a row, replacing the previous one."""
    with locked():
        rows = read()
        rows.setdefault(part, {})[case] = row
        ROWS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def read() -> dict[str, dict[str, list[str]]]:
    """All rows, by part and case."""
    text = ROWS.read_text(encoding="utf-8") if ROWS.exists() else ""
    rows: dict[str, dict[str, list[str]]] = json.loads(text or "{}")
    return rows


def write(parts: Mapping[str, Part]) -> None:
    """Writes the page from all stored rows."""
    with locked():
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
