"""Adds READMEs of other folders and notebooks to the site as pages, and adapts links.

In a checkout a link leads to the file (`../ext/README.md`); on the site to its page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
# the file in the checkout, and its page
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CITATION.cff": "citing.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
    "SECURITY.md": "reporting.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "license.md",
    "ext/README.md": "lattice.md",
    "prototxt/README.md": "networks.md",
    "examples/shapes_voc/README.md": "shapes_voc.md",
    "examples/run_pascal/README.md": "run_pascal.md",
    "examples/notebooks/README.md": "notebooks.md",
    "examples/notebooks/1_convert_and_verify.ipynb": "notebook_verify.md",
    "examples/notebooks/2_crf_by_hand.ipynb": "notebook_crf.md",
    "examples/notebooks/3_feedback_and_unravel.ipynb": "notebook_unravel.md",
}
_LINK = re.compile(r"(\]\()([^)\s#]+)")
_NAMED = re.compile(r"\[docs/([\w/]+\.md)\]")
_HIDDEN = re.compile(r"^<!-- (?:sh|python|prototxt).*?^-->\n", re.DOTALL | re.MULTILINE)


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the READMEs as pages; names of files in docs/ become their titles."""
    titles = dict(_titles(config.nav))
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        text = notebook_markdown(text) if source.endswith(".ipynb") else text
        text = f"# Citing\n\n```yaml\n{text}```\n" if source.endswith(".cff") else text
        folder = Path(source).parent

        def moved(match: re.Match[str], folder: Path = folder) -> str:
            return match[1] + _from_docs(folder / match[2], match[2])

        text = _NAMED.sub(
            lambda match: f"[{titles.get(match[1], match[1])}]", _LINK.sub(moved, text)
        )
        files.append(File.generated(config, page, content=text))
    return files


def notebook_markdown(text: str) -> str:
    """An executed notebook as a page: text, code, printed text, and images within the page."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        parts += [_output(output) for output in cell["outputs"]]
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            content = "".join(data[kind]).replace("\n", "")
            return f'<img alt="output" src="data:{kind};base64,{content}">'
    shown = "".join(output["text"] if output["output_type"] == "stream" else data["text/plain"])
    return f"```text\n{shown.rstrip()}\n```"


def _titles(nav: Any) -> Iterator[tuple[str, str]]:
    """Page and title of everything in the navigation."""
    for entry in nav:
        for title, inside in entry.items():
            if isinstance(inside, str):
                yield inside, title
            else:
                yield from _titles(inside)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Points links that leave docs/ to pages, and removes what only the tests read."""
    if page.file.src_uri == "LAYERS.md":
        page.meta["hide"] = ["toc"]  # it would be empty, and narrow the wide table

    def moved(match: re.Match[str]) -> str:
        outward = match[2].startswith("../")
        return match[1] + (_from_docs(Path("docs") / match[2], match[2]) if outward else match[2])

    shown = _HIDDEN.sub("", markdown).replace("<details>", '<details markdown="1">')
    return _LINK.sub(moved, shown)


def _from_docs(target: Path, link: str) -> str:
    """A link to a file of the checkout as one of a page at the top of the site."""
    if "://" in link:
        return link
    path = (ROOT / target).resolve().relative_to(ROOT).as_posix()
    if path in PAGES or f"{path}/README.md" in PAGES:
        return PAGES.get(path) or PAGES[f"{path}/README.md"]
    return path.removeprefix("docs/") if path.startswith("docs/") else link
