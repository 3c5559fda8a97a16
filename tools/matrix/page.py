"""Writes docs/matrix.md from docs/matrix.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tools.matrix.environments import ROWS, SHOWN
from tools.matrix.outcomes import PAGE, RECORDS, counted, read

HEAD = Path(__file__).with_name("page.md")
Record = Mapping[str, Any]
CHOSEN = ("torch", "oneDNN", "CRF", "threads")


def write(path: Path = RECORDS, page: Path = PAGE) -> None:
    """Writes the page from all results."""
    records = read(path)
    tables = (
        _environments(records.get("environments", {})),
        _processors(records.get("processors", {})),
        _wheels(records.get("wheels", {})),
    )
    text = HEAD.read_text(encoding="utf-8")
    for table in tables:
        text = text.replace("TABLE\n", table, 1)
    page.write_text(text, encoding="utf-8")


def _environments(found: Mapping[str, Record]) -> str:
    names = [row.name for row in ROWS if row.name in found]
    rows = [(name, found[name], ("python", *SHOWN)) for name in names]
    machines = sorted({found[name]["machine"] for name in names})
    lines = [f"\nThe machine: {machine}.\n" for machine in machines]
    return _tested(("environment", "Python", *SHOWN), rows) + "".join(lines) + _skips(rows)


def _processors(found: Mapping[str, Record]) -> str:
    from tools.matrix.processors import SETTINGS

    order = [setting.name for setting in SETTINGS]
    named = [(name.partition(" on ")[0], record) for name, record in found.items()]
    rows = sorted(((name, record, CHOSEN) for name, record in named if name in order),
                  key=lambda row: (row[1]["machine"], order.index(row[0])))  # fmt: skip
    tables = []
    for machine in dict.fromkeys(record["machine"] for _, record, _ in rows):
        here = [row for row in rows if row[1]["machine"] == machine]
        tables.append(f"{machine}:\n\n{_tested(('setting', *CHOSEN), here)}")
    return "\n".join(tables)


def _tested(head: Iterable[str], rows: Iterable[tuple[str, Record, Iterable[str]]]) -> str:
    """A table of outcomes: name, what the tests ran with, their result."""
    lines = [f"| {' | '.join([*head, 'tests', 'commit'])} |"]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    for name, record, shown in rows:
        cells = [name, *(record["found"].get(key, "") for key in shown)]
        result = record["trouble"] or counted(record["tests"])
        lines.append(f"| {' | '.join(cells)} | {result} | `{record['commit']}` |")
    return "\n".join(lines) + "\n"


def _skips(rows: Iterable[tuple[str, Record, Iterable[str]]]) -> str:
    """The rows that skipped tests, one line for each reason."""
    where: dict[str, list[str]] = {}
    for name, record, _ in rows:
        for reason, count in record["tests"]["skipped"].items():
            where.setdefault(reason.replace("|", "\\|"), []).append(f"{name} {count}")
    lines = ["", "| skipped because | in |", "|---|---|"]
    lines += [f"| {reason} | {', '.join(places)} |" for reason, places in sorted(where.items())]
    return "\n".join(lines) + "\n"


def _wheels(found: Mapping[str, Record]) -> str:
    wheels = sorted(found.values(), key=_by_arch)
    lines = ["| Python | processor | size | needs glibc | tried | tests | commit |"]
    return "\n".join([*lines, "|---|---|---|---|---|---|---|", *map(wheel_line, wheels)]) + "\n"


def _by_arch(wheel: Record) -> tuple[bool, int]:
    return wheel["arch"] != "x86_64", int(wheel["python"].partition(".")[2])


def wheel_line(wheel: Record) -> str:
    """A wheel's row in the table."""
    tests = counted(wheel["tests"]) if wheel["tests"]["counts"] else "-"
    size = f"{wheel['bytes'] / 1e6:.2f} MB"
    cells = (wheel["python"], wheel["arch"], size, wheel["glibc"], wheel["tried"], tests)
    return f"| {' | '.join(cells)} | `{wheel['commit']}` |"
