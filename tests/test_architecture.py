"""docs/architecture.md describes the package: imports, sizes, and places of changes."""

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
# budgets: raise one only with a reason
LINES_PER_FILE = 400
# with detectors and their databases, the page of `explore`, and the layers of forks by which
# docs/coverage.md builds 95 % of public nets
FILES, LINES = 330, 70_500


def table(head: str) -> list[list[str]]:
    """The rows of the document's table with these headings."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^\| {re.escape(head)} \|\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.M)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found.splitlines()]


def named(cell: str) -> list[str]:
    """The subpackages and modules that a cell names."""
    return [name.rstrip("/") for name in re.findall(r"`([^`]+)`", cell)]


PARTS = table("part | what it does | needs torch")
ORDER = [part for row in PARTS for part in named(row[0])]
BACK_IMPORTS = {
    (start, end)
    for row in table("from | to | when")
    for start in named(row[0])
    for end in named(row[1])
}
CHANGES = table("to change | file | name")


def part_of(path: Path) -> str:
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


@cache
def files() -> list[Path]:
    """The package's own files, without its ``__init__``, which belongs to no part."""
    found = [path for path in PACKAGE.rglob("*.py") if GENERATED not in path.name]
    return [path for path in found if path.parent != PACKAGE or path.stem != "__init__"]


def imports(node: ast.AST, late: bool) -> Iterator[tuple[str, bool]]:
    """Each part that code imports, and whether inside a function; imports for types are skipped."""
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


def back_imports(path: Path) -> Iterator[tuple[str, str, bool]]:
    """What a file imports from parts below its own."""
    here = part_of(path)
    for there, late in imports(ast.parse(path.read_text(encoding="utf-8")), False):
        if there in ORDER and ORDER.index(there) > ORDER.index(here):
            yield here, there, late


def lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def test_every_part_is_described() -> None:
    assert sorted(ORDER) == sorted({part_of(path) for path in files()})


@pytest.mark.parametrize("part", ORDER)
def test_a_part_imports_only_those_above(part: str) -> None:
    back = {
        (str(path.relative_to(PACKAGE)), end)
        for path in files() if part_of(path) == part
        for start, end, late in back_imports(path) if not (late and (start, end) in BACK_IMPORTS)
    }  # fmt: skip
    assert not back


def test_every_allowed_back_import_is_used() -> None:
    used = {(start, end) for path in files() for start, end, late in back_imports(path) if late}
    assert used == BACK_IMPORTS


def test_reading_files_needs_no_torch() -> None:
    light = [part for row in PARTS if row[2] in WITHOUT_TORCH for part in named(row[0])]
    assert {"proto", "spec", "weights", "crf", "cli"} <= set(light)
    names = ", ".join(f"caffe_port.{part}" for part in light)
    code = f"import sys, {names}; raise SystemExit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_file_is_longer_than_its_budget() -> None:
    long = {str(path.relative_to(PACKAGE)): lines(path) for path in files()}
    assert {name: count for name, count in long.items() if count > LINES_PER_FILE} == {}


def test_the_package_keeps_its_budget() -> None:
    assert len(files()) <= FILES
    assert sum(map(lines, files())) <= LINES


@pytest.mark.parametrize("change", CHANGES, ids=[row[0] for row in CHANGES])
def test_a_change_is_made_where_the_table_says(change: list[str]) -> None:
    _, file, name = change
    inside: ast.AST = ast.parse((PACKAGE / named(file)[0]).read_text(encoding="utf-8"))
    for part in named(name)[0].split("."):
        inside = next(node for node in ast.iter_child_nodes(inside) if part in defined(node))


def defined(node: ast.AST) -> set[str]:
    """The names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
    return {target.id for target in targets if isinstance(target, ast.Name)}


def test_the_table_of_changes_has_ten_or_more() -> None:
    assert len(CHANGES) >= 10
