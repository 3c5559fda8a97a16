"""Jupyter notebooks: their code cells are rewritten as one script, whose imports count for all."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from caffe_port.errors import FormatError
from caffe_port.modernizing import Modernized, modernize

_CELL, _MAGIC = "#@caffe-port cell ", "pass  #@caffe-port "
_SHELL = re.compile(r"^(\s*)(%[A-Za-z].*|!.*|[\w.]+\?{1,2})$")


def modernize_notebook(text: str, name: str) -> Modernized:
    """Rewrites a notebook's code and says that its kernel is Python 3.

    Lines for IPython, `%magic` and `!command`, stay as they are.

    Raises:
        FormatError: it is not a notebook of format 4, or its code is not Python.
    """
    try:
        notebook = json.loads(text)
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        cells = [cell for cell in code if not "".join(cell["source"]).startswith("%%")]
        sources = ["".join(cell["source"]) for cell in cells]
    except (ValueError, TypeError, KeyError) as error:
        message = (
            f"not a notebook of format 4 ({type(error).__name__}: {error}); convert older ones "
        )
        raise FormatError(message + "with jupyter nbconvert --to notebook", path=name) from error
    joined = "".join(f"{_CELL}{i}\n{_hidden(source)}\n" for i, source in enumerate(sources))
    result = modernize(joined, name)
    if result.text == joined:
        return Modernized(text, ())
    _put_back(cells, result.text)
    notebook.setdefault("metadata", {})["kernelspec"] = {
        "name": "python3", "display_name": "Python 3", "language": "python",
    }  # fmt: skip
    indent = 1 if text.lstrip().startswith("{\n ") else None
    return Modernized(json.dumps(notebook, indent=indent, ensure_ascii=False) + "\n", result.notes)


def _hidden(source: str) -> str:
    """The code with IPython's lines as statements that do nothing."""
    return "\n".join(_SHELL.sub(rf"\1{_MAGIC}\2", line) for line in source.split("\n"))


def _put_back(cells: Sequence[dict[str, Any]], text: str) -> None:
    parts = re.split(rf"^{re.escape(_CELL)}\d+\n", text, flags=re.M)
    before, sources = parts[0], parts[1:]  # fixers add imports before the first cell
    sources[0] = before + sources[0]
    for cell, source in zip(cells, sources, strict=True):
        lines = source.removesuffix("\n").replace(_MAGIC, "")
        cell["source"] = lines.splitlines(keepends=True)
