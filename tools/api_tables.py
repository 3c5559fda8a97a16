"""Writes, at the top of each page of docs/api, a table of the names that the page documents.

usage: python tools/api_tables.py

The pages' content is made from docstrings when the site is built; the table is what a reader of the
repository sees. A test keeps it current.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "api"
_SHOWN = re.compile(r"^::: (caffe_port[\w.]*)$", re.MULTILINE)
_TABLE = re.compile(r"<!-- names -->\n.*?<!-- end -->\n\n", re.DOTALL)


def main() -> None:
    """Rewrites all pages."""
    for page in sorted(PAGES.glob("*.md")):
        page.write_text(with_table(page.read_text(encoding="utf-8")), encoding="utf-8")


def with_table(text: str) -> str:
    """A page with its table, before the first name or the first heading of a part."""
    text = _TABLE.sub("", text)
    rows = [f"| `{short(path)}` | {summary(path)} |" for path in _SHOWN.findall(text)]
    table = "\n".join(["<!-- names -->", "| name | what it is |", "|---|---|", *rows])
    start = min(text.find(mark) for mark in ("\n## ", "\n::: ") if mark in text) + 1
    return f"{text[:start]}{table}\n<!-- end -->\n\n{text[start:]}"


def short(path: str) -> str:
    """A name as a script that has ``import caffe_port as cp`` writes it."""
    return re.sub(r"^caffe_port\b", "cp", path)


def summary(path: str) -> str:
    """The first sentence of what a name's docstring says."""
    try:
        text = inspect.getdoc(importlib.import_module(path)) or ""
    except ModuleNotFoundError:
        package, _, name = path.rpartition(".")
        found = getattr(importlib.import_module(package), name)
        documented = inspect.isclass(found) or inspect.isroutine(found)
        text = (inspect.getdoc(found) if documented else attribute(package, name)) or ""
    first = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=[.:]) ", first)[0].rstrip(":").replace("``", "`").replace("|", "\\|")


def attribute(package: str, name: str) -> str:
    """The text below a module's constant: in the package, or the module that it comes from."""
    tree = ast.parse(inspect.getsource(importlib.import_module(package)))
    for node, after in zip(tree.body, tree.body[1:], strict=False):
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            return str(after.value.value) if is_text else ""
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return attribute(str(node.module), name)
    for module in list(sys.modules):
        if module.startswith(f"{package}.") and hasattr(sys.modules[module], name):
            found = attribute(module, name)
            if found:
                return found
    return ""


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
