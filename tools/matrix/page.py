"""docs/matrix.md: what the matrix and the wheels came to, from the records they keep."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tools.matrix.environments import ROOT, SHOWN

PAGE = ROOT / "docs" / "matrix.md"
HEAD = Path(__file__).with_name("page.md")
Record = Mapping[str, Any]


def write(work: Path, page: Path = PAGE) -> None:
    """Writes the page from all rows and wheels that are known."""
    records = sorted((work / "results").glob("*.json"))
    found = [json.loads(path.read_text(encoding="utf-8")) for path in records]
    rows = sorted((one for one in found if "row" in one), key=lambda one: one["place"])
    wheels = sorted((one for one in found if "arch" in one), key=_by_arch)
    page.write_text(text(rows, wheels), encoding="utf-8")


def _by_arch(wheel: Record) -> tuple[bool, int]:
    return wheel["arch"] != "x86_64", int(wheel["python"].partition(".")[2])


def text(rows: Iterable[Record], wheels: Iterable[Record]) -> str:
    """The page."""
    rows, wheels = list(rows), list(wheels)
    before, between, after = HEAD.read_text(encoding="utf-8").split("TABLE\n")
    return before + _rows(rows) + _machine() + _skips(rows) + between + _wheels(wheels) + after


def _rows(rows: list[Record]) -> str:
    lines = ["| environment | Python | " + " | ".join(SHOWN) + " | tests | commit |"]
    lines.append("|---|---|" + "---|" * (len(SHOWN) + 2))
    for row in rows:
        found = [row["versions"].get(name, "") for name in ("python", *SHOWN)]
        result = row["trouble"] or counted(row["tests"])
        lines.append(f"| {row['row']} | {' | '.join(found)} | {result} | `{row['commit']}` |")
    return "\n".join(lines) + "\n"


def _machine() -> str:
    libc = " ".join(platform.libc_ver())
    return f"\nThe machine: Linux on {platform.machine()}, {libc}, {os.cpu_count()} cores.\n"


def _skips(rows: list[Record]) -> str:
    """Which rows left tests out, and why: a line for each reason."""
    where: dict[str, list[str]] = {}
    for row in rows:
        for reason, count in row["tests"]["skipped"].items():
            where.setdefault(reason.replace("|", "\\|"), []).append(f"{row['row']} {count}")
    lines = ["", "| left out because | in |", "|---|---|"]
    lines += [f"| {reason} | {', '.join(places)} |" for reason, places in sorted(where.items())]
    return "\n".join(lines) + "\n"


def _wheels(wheels: list[Record]) -> str:
    lines = ["| Python | processor | size | needs glibc | tried | tests | commit |"]
    return "\n".join([*lines, "|---|---|---|---|---|---|---|", *map(wheel_line, wheels)]) + "\n"


def wheel_line(wheel: Record) -> str:
    """A wheel's row in the table."""
    tests = counted(wheel["tests"]) if wheel["tests"]["counts"] else "-"
    size = f"{wheel['bytes'] / 1e6:.2f} MB"
    cells = (wheel["python"], wheel["arch"], size, wheel["glibc"], wheel["tried"], tests)
    return f"| {' | '.join(cells)} | `{wheel['commit']}` |"


def counted(tests: Record) -> str:
    """Such as '6,813 passed, 3 skipped'; failures are named."""
    kinds = ("passed", "skipped", "failed")
    said = ", ".join(f"{tests['counts'][k]:,} {k}" for k in kinds if tests["counts"].get(k))
    return " ".join([said, *(f"`{name}`" for name in tests["failed"][:5])])
