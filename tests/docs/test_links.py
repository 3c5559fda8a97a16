"""Links of all documents lead to files and headings that exist; API pages have current tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.goldens_dir import ROOT
from tools.api_tables import PAGES as API
from tools.api_tables import with_table
from tools.matrix.environments import tracked

DOCUMENTS = [
    ROOT / name
    for name in tracked()
    if name.endswith(".md") and not name.startswith(("tests/", "caffe_port/", "tools/"))
]
_FENCE = re.compile(r"^```.*?^```$|^<!-- (?:sh|python|prototxt).*?^-->$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
# pages that only exist in the site
MADE = {"notebooks.md", "networks.md"}


def prose(path: Path) -> str:
    """A document without its code."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", path.read_text(encoding="utf-8")))


def anchors(path: Path) -> set[str]:
    """The names of a document's headings, as GitHub and mkdocs make them."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    names = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        names.add(re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", plain).strip()))
    return names


@pytest.mark.parametrize("path", DOCUMENTS, ids=[str(p.relative_to(ROOT)) for p in DOCUMENTS])
def test_every_link_leads_somewhere(path):
    wrong = []
    for link in _LINK.findall(prose(path)):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = path if not name else (path.parent / name).resolve()
        readme = target / "README.md"
        if not target.exists() or (
            anchor and anchor not in anchors(readme if target.is_dir() else target)
        ):
            wrong.append(link)
    assert wrong == []


_PATH = re.compile(
    r"`((?:tests|tools|docs|examples|benchmarks|caffe_port|prototxt|ext)/[\w./-]*[\w/])(?:::\w+)?`"
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=[str(p.relative_to(ROOT)) for p in DOCUMENTS])
def test_every_named_file_exists(path):
    if path.name in {"CHANGELOG.md", "LAYERS.md"}:  # names of the past, and of upstream
        return
    named = set(_PATH.findall(_FENCE.sub("", path.read_text(encoding="utf-8"))))
    named -= {"tools/extra/parse_log.py", "examples/hed/"}  # of Caffe and its forks
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("page", sorted(API.glob("*.md")), ids=lambda page: page.name)
def test_the_table_of_an_api_page_is_current(page):
    text = page.read_text(encoding="utf-8")
    assert with_table(text) == text
    assert "|  |" not in text


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = set(re.findall(r"[\w/]+\.md", text[text.index("\nnav:") :]))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages <= nav
