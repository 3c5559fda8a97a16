"""Rewrites scripts and notebooks of Python 2 and old libraries for Python 3 and present libraries.

from caffe_port.modernizing import modernize
result = modernize("print np.int(3)\\n", "old.py")   # result.text, result.notes
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caffe_port.errors import FormatError
from caffe_port.modernizing.edits import RULES, rewrite
from caffe_port.modernizing.python2 import PYTHON2_RULES, division_notes, is_python2, to_python3

_CELL, _MAGIC = "#@caffe-port cell ", "pass  #@caffe-port "
# a line for IPython: a magic, a shell command, a question
_LINE = re.compile(r"\s*(%{1,2}[A-Za-z]|!|[\w.]+\?{1,2}$)|% [A-Za-z]")
_PYTHON_CELLS = ("%%capture", "%%prun", "%%time", "%%timeit")  # after others the cell is not Python
_HIDDEN = re.compile(rf"^[ \t]*{re.escape(_MAGIC)}", re.M)


@dataclass(frozen=True)
class Modernized:
    """A rewritten script.

    Attributes:
        text: Python 3.
        notes: places that no rule can decide, as `line 7: ...`, with lines of the new text.
    """

    text: str
    notes: tuple[str, ...]


def modernize(text: str, name: str) -> Modernized:
    """Rewrites a script; one that needs no change is returned as it is.

    Args:
        text: Python 2 or 3.
        name: the name of the file, for messages.
    Raises:
        FormatError: the text is neither Python 2 nor 3.
        UsageError: it is Python 2, and fissix is not installed.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    text = text.replace("\r\n", "\n")
    old = is_python2(text)
    if old:
        text = to_python3(text, name)
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise FormatError(f"not Python: {error.msg}", path=name, line=error.lineno) from error
    text = rewrite(text, (*RULES, *PYTHON2_RULES) if old else RULES)
    notes = tuple(division_notes(text)) if old else ()
    return Modernized(text.replace("\n", newline), notes)


def modernize_notebook(text: str, name: str) -> Modernized:
    """Rewrites the code of a notebook and sets its kernel to Python 3.

    Lines for IPython, `%magic` and `!command`, do not change.

    Raises:
        FormatError: it is not a notebook, or its code is not Python.
    """
    try:
        notebook = json.loads(text)
        code = code_cells(notebook)
        cells = [cell for cell in code if is_python("".join(cell[_key(cell)]))]
        sources = ["".join(cell[_key(cell)]) for cell in cells]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        message = f"not a Jupyter notebook: {type(error).__name__}: {error}"
        raise FormatError(message, path=name) from error
    joined = "".join(f"{_CELL}{i}\n{hidden(source)}\n" for i, source in enumerate(sources))
    result = modernize(joined, name)
    if result.text == joined:
        return Modernized(text, ())
    _put_back(cells, result.text)
    notebook.setdefault("metadata", {})["kernelspec"] = {
        "name": "python3", "display_name": "Python 3", "language": "python",
    }  # fmt: skip
    indent = 1 if text.lstrip().startswith("{\n ") else None
    return Modernized(json.dumps(notebook, indent=indent, ensure_ascii=False) + "\n", result.notes)


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """The code cells of a notebook of format 3 (in worksheets) or 4."""
    sheets = notebook.get("worksheets", [notebook])
    return [cell for sheet in sheets for cell in sheet["cells"] if cell["cell_type"] == "code"]


def _key(cell: dict[str, Any]) -> str:
    return "input" if "input" in cell else "source"


def is_python(source: str) -> bool:
    """Whether a cell is Python, not another language that its first line names."""
    return not source.startswith("%%") or source.split(maxsplit=1)[0] in _PYTHON_CELLS


def hidden(source: str) -> str:
    """Replaces IPython's lines of a cell by statements that do nothing."""
    lines, indent, continued = list[str](), "", False
    for line in source.split("\n"):
        starts = not continued and _LINE.match(line) is not None
        if starts:
            indent = line[: len(line) - len(line.lstrip())]
        hide = starts or continued
        lines.append(f"{indent}{_MAGIC}{line}" if hide else line)
        continued = hide and line.endswith("\\")
    return "\n".join(lines)


def _put_back(cells: Sequence[dict[str, Any]], text: str) -> None:
    parts = re.split(rf"^{re.escape(_CELL)}\d+\n", text, flags=re.M)
    before, sources = parts[0], parts[1:]  # fixers add imports before the first cell
    sources[0] = before + sources[0]
    for cell, source in zip(cells, sources, strict=True):
        cell[_key(cell)] = _HIDDEN.sub("", source.removesuffix("\n")).splitlines(keepends=True)
