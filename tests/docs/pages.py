"""The code blocks of the documentation, and a script that runs those of a page in order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.goldens_dir import ROOT

# A fence, or a comment with code that readers need not see: <!-- python ... -->
_BLOCK = re.compile(
    r"^```(?P<language>\w*)(?P<title>[^\n]*)\n(?P<shown>.*?)^```$"
    r"|^<!-- (?P<kind>sh|python|prototxt)(?P<name>[^\n]*)\n(?P<hidden>.*?)^-->$",
    re.DOTALL | re.MULTILINE,
)
_TITLE = re.compile(r'title="([^"]+)"')
LANGUAGES = {"sh", "python", "prototxt", "text"}
_SHELL = r"""
import os, pathlib, re, subprocess
left = pathlib.Path(".left").absolute()
variables = {}
printed = ""

def shell(text):
    global printed
    given = "".join(f"{name}={value}\n" for name, value in variables.items())
    run = subprocess.run(["bash", "-euc", f"{given}{text}\npwd > '{left}'"], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
    printed = run.stdout
    print(printed)
    run.check_returncode()
    variables.update(re.findall(r"^(\w+)=(\S+)$", text, re.M))
    os.chdir(left.read_text().strip())

def plain(text):
    return [" ".join(re.sub("[\u2500-\u257f]", " ", line).split()) for line in text.splitlines()]

def compare(text, where):
    for line in plain(text):
        assert line in plain(printed), f"{where}: {line!r} was not printed"
"""


@dataclass(frozen=True)
class Block:
    """A code block: its language, title and text, and its first line."""

    language: str
    title: str
    text: str
    line: int

    @property
    def runs(self) -> bool:
        """Whether it runs anywhere: usage, and what needs data or a GPU, has a title."""
        return self.language in {"sh", "python"} and not self.title.startswith(("usage", "needs "))


def pages() -> list[Path]:
    """Every document that has code blocks."""
    examples = (f"examples/{name}" for name in ("shapes_voc", "run_pascal", "notebooks"))
    found = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / folder / "README.md" for folder in ("ext", "prototxt", *examples)),
        *(ROOT / "docs").rglob("*.md"),
    ]
    return sorted(page for page in found if "```" in page.read_text(encoding="utf-8"))


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        title = _TITLE.search(match["title"] or match["name"] or "")
        found.append(
            Block(
                match["language"] if match["kind"] is None else match["kind"],
                title[1] if title else "",
                match["shown"] if match["kind"] is None else match["hidden"],
                text.count("\n", 0, match.start()) + 1,
            )
        )
    return found


def script(page: Path) -> str:
    """Python code that runs a page's blocks in order, as a reader who copies them does.

    Python blocks share a namespace, sh blocks the current folder and simple variables; errors stop
    the script. A prototxt block with a title is written to the file of that name. The lines of a
    text block with the title "output" must have been printed by the sh block before it.
    """
    lines = [_SHELL]
    for block in blocks(page):
        if block.language == "prototxt" and block.title:
            lines.append(f"pathlib.Path({block.title!r}).write_text({block.text!r})")
        where = f"{page.name}:{block.line}"
        if block.language == "text" and block.title == "output":
            lines.append(f"compare({block.text!r}, {where!r})")
        if not block.runs:
            continue
        if block.language == "sh":
            lines.append(f"shell({block.text!r})")
        else:
            # compiled under the page's name, so that a failure says where
            lines.append(f"exec(compile({block.text!r}, {where!r}, 'exec'))")
            if block.title:
                lines.append(f"pathlib.Path({block.title!r}).write_text({block.text!r})")
    return "\n".join(lines)
