"""Figures of tables in the documents, and the results of benchmarks that they repeat."""

from __future__ import annotations

import json

from tests.goldens_dir import ROOT


def tables(subject: str) -> dict[str, dict[str, dict[str, float]]]:
    """What `python -m benchmarks SUBJECT` measured last."""
    path = ROOT / "benchmarks" / "results" / f"{subject}.json"
    return json.loads(path.read_text(encoding="utf-8"))["tables"]


def page(name: str) -> str:
    """The text of a document."""
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def cell(text: str, row: str, column: int) -> str:
    """A cell of the table row that begins with these words."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {row}"))
    return line.strip().strip("|").split("|")[column].strip("* ")


def shows(text: str, value: float) -> bool:
    """Whether a figure is that value, rounded to the digits that it has."""
    digits = len(text.partition(".")[2])
    return abs(float(text) - value) <= 0.501 * 10**-digits
