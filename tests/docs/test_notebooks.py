"""The notebooks of examples/notebooks run, and their stored outputs are those of a run."""

from __future__ import annotations

import json
import re

import pytest

from tests.waiting import LIMIT
from tools.notebooks import NOTEBOOKS, ROOT, executed, read, texts

MOST = 400_000  # bytes of a notebook
PLACES = re.compile(r"/(?:home|root|tmp|usr|work|Users)/|\\Users\\|0x[0-9a-f]{8}")
NAMES = [path.name for path in NOTEBOOKS]


def test_there_are_three():
    assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_run_prints_what_is_stored(path):
    assert texts(executed(path, timeout=LIMIT)) == texts(read(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_it_is_stored_executed_small_and_without_places(path):
    assert path.stat().st_size < MOST
    cells = read(path).cells
    counts = [cell.execution_count for cell in cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert any(kind.startswith("image/") for output in outputs for kind in output.get("data", {}))
    assert {output.output_type for output in outputs} <= {"stream", "execute_result"}
    for output in outputs:
        shown = output.get("text", "") + output.get("data", {}).get("text/plain", "")
        assert not PLACES.search(shown)
    assert not PLACES.search("".join(cell.source for cell in cells))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_its_links_lead_to_files(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for link in re.findall(r"\]\(([^)#]+)", cell.source):
                assert (path.parent / link).is_file(), link


def test_every_notebook_is_a_page_of_the_site():
    hooks = (ROOT / "docs" / "hooks.py").read_text(encoding="utf-8")
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        (page,) = re.findall(rf'"examples/notebooks/{path.name}": "([\w.]+)"', hooks)
        assert f": {page}\n" in nav


def test_a_page_has_the_text_code_and_outputs_of_a_notebook():
    pytest.importorskip("mkdocs")
    code = (ROOT / "docs" / "hooks.py").read_text(encoding="utf-8")
    found: dict = {"__file__": str(ROOT / "docs" / "hooks.py"), "__name__": "hooks"}
    exec(compile(code, "hooks.py", "exec"), found)
    cells = [
        {"cell_type": "markdown", "source": ["# A title\n", "words"]},
        {"cell_type": "code", "source": ["print(1)\n", "image"], "outputs": [
            {"output_type": "stream", "text": ["1\n"]},
            {"output_type": "execute_result", "data": {"image/png": "QUJD\n", "text/plain": "x"}},
            {"output_type": "execute_result", "data": {"text/plain": ["2"]}},
        ]},
    ]  # fmt: skip
    assert found["notebook_markdown"](json.dumps({"cells": cells})) == (
        "# A title\nwords\n\n```python\nprint(1)\nimage\n```\n\n```text\n1\n```\n\n"
        '<img alt="output" src="data:image/png;base64,QUJD">\n\n```text\n2\n```\n'
    )
