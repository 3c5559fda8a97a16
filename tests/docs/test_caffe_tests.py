"""docs/caffe_tests.md names tests and recordings that exist, and counts Caffe's cases correctly."""

from __future__ import annotations

import ast
import re

import pytest

from tests.goldens_dir import ROOT

TEXT = (ROOT / "docs" / "caffe_tests.md").read_text(encoding="utf-8")
TABLES = TEXT[TEXT.index("## BVLC's C++ tests") :]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXT)))
RECORDED = sorted(
    set(re.findall(r"`((?:layers|solvers|programs|data_shapes|unravel|cli)/\w[\w.]*)`", TEXT))
)


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED}))
def test_the_named_tests_exist(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    named = {name for where, name in NAMED if where == path and name}
    assert named <= functions


def test_the_named_recordings_exist():
    assert len(RECORDED) > 100
    assert [name for name in RECORDED if not (ROOT / "tests" / "goldens" / name).exists()] == []


def test_the_numbers_of_cases():
    rows = [line.strip("| ").split(" | ") for line in TABLES.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[0] != "fixture"]
    counts = {True: 0, False: 0}
    for _, cases, proof in rows:
        # of what is not compared only the reason is given, perhaps with a test of the refusal
        counts[proof.startswith("`")] += len(cases.split(", "))
    head = " ".join(TEXT.partition("## ")[0].split())
    total, proven = re.findall(r"has (\d+) test cases .*?: (\d+) of them", head)[0]
    (rest,) = re.findall(r"The other (\d+) are", head)
    assert (int(total), int(proven), int(rest)) == (
        sum(counts.values()),
        counts[True],
        counts[False],
    )
