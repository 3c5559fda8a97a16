"""The house is built as docs/architecture.md says: a room knows only those above it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import caffe_port
from tests.goldens_dir import ROOT

PACKAGE = Path(caffe_port.__file__).parent
GENERATED = "caffe_pb2"
WITHOUT_TORCH = {"no", "for `.pt`", "for tops", "to train through it", "in workers"}


def table(head: str) -> list[list[str]]:
    """The rows of the document's table that begins with these heads."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^\| {re.escape(head)} \|\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.M)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found.splitlines()]


def named(cell: str) -> list[str]:
    """The rooms that a cell names."""
    return [name.rstrip("/") for name in re.findall(r"`([^`]+)`", cell)]


ROOMS = table("room | what it does | needs torch")
ORDER = [room for row in ROOMS for room in named(row[0])]
DOORS = {
    (start, end)
    for row in table("from | to | when")
    for start in named(row[0])
    for end in named(row[1])
}


def room_of(path: Path) -> str:
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


@cache
def files() -> list[Path]:
    """The package's own files; its face, ``__init__``, stands outside the rooms."""
    found = [path for path in PACKAGE.rglob("*.py") if GENERATED not in path.name]
    return [path for path in found if path.parent != PACKAGE or path.stem != "__init__"]


def imports(node: ast.AST, late: bool) -> Iterator[tuple[str, bool]]:
    """Each room that code names, and whether only when a function runs; types do not count."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    modules = []
    if isinstance(node, ast.ImportFrom) and node.module:
        under = [f"{node.module}.{alias.name}" for alias in node.names]
        modules = under if node.module == "caffe_port" else [node.module]
    elif isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    for module in modules:
        if module.startswith("caffe_port."):
            yield module.split(".")[1], late
    for child in ast.iter_child_nodes(node):
        yield from imports(child, late)


def backwards(path: Path) -> Iterator[tuple[str, str, bool]]:
    """What a file takes from rooms below its own."""
    here = room_of(path)
    for there, late in imports(ast.parse(path.read_text(encoding="utf-8")), False):
        if there in ORDER and ORDER.index(there) > ORDER.index(here):
            yield here, there, late


def test_every_room_is_described() -> None:
    assert sorted(ORDER) == sorted({room_of(path) for path in files()})


@pytest.mark.parametrize("room", ORDER)
def test_a_room_knows_only_those_above(room: str) -> None:
    back = {
        (str(path.relative_to(PACKAGE)), end)
        for path in files() if room_of(path) == room
        for start, end, late in backwards(path) if not (late and (start, end) in DOORS)
    }  # fmt: skip
    assert not back


def test_every_door_is_used() -> None:
    used = {(start, end) for path in files() for start, end, late in backwards(path) if late}
    assert used == DOORS


def test_reading_files_needs_no_torch() -> None:
    light = [room for row in ROOMS if row[2] in WITHOUT_TORCH for room in named(row[0])]
    assert {"proto", "spec", "weights", "crf", "cli"} <= set(light)
    names = ", ".join(f"caffe_port.{room}" for room in light)
    code = f"import sys, {names}; raise SystemExit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
