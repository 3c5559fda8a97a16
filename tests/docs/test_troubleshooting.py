"""The messages of docs/troubleshooting.md are those of the package."""

from __future__ import annotations

import ast
import re

import pytest

from tests.goldens_dir import ROOT

TEXT = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
# rows that begin with a message; those of other programs say whose it is
MESSAGES = re.findall(r"^\| `([^`]+)` \|", TEXT, re.M)


def literals() -> str:
    """All texts of the package's source, f-strings with {} for values, one a line."""
    found = []
    for path in (ROOT / "caffe_port").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                found.append(str(node.value))
            elif isinstance(node, ast.JoinedStr):
                parts = node.values
                found.append(
                    "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in parts)
                )
    return "\n".join(found)


@pytest.fixture(scope="module")
def source():
    return literals()


def test_there_are_messages():
    assert len(MESSAGES) > 25


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_exists(message, source):
    assert message in source
