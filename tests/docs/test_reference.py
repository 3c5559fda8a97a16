"""The API reference has every public name, and every name that the documentation uses."""

from __future__ import annotations

import ast
import importlib
import inspect
import re

import pytest

import caffe_port
from tests.docs.pages import blocks, pages
from tests.goldens_dir import ROOT

SHOWN = set(
    re.findall(
        r"^::: (caffe_port[\w.]*)$",
        "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs/api").glob("*.md")),
        re.MULTILINE,
    )
)
PACKAGES = ["crf", "data", "datasets", "evaluation", "export", "inference", "layers", "losses",
            "parity", "prediction", "proto", "solver", "spec", "unravel", "weights"]  # fmt: skip
# their names are in pages of their own: tests/docs/test_migration.py
MIGRATED = ("caffe_port.pycaffe", "caffe_port.crf.pydensecrf")


def found(path: str) -> object:
    """The object or module of that dotted path."""
    package, _, name = path.rpartition(".")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        return getattr(importlib.import_module(package), name)


@pytest.fixture(scope="module")
def documented():
    return [found(path) for path in SHOWN]


def names():
    yield from (f"caffe_port.{name}" for name in caffe_port.__all__)
    for package in PACKAGES:
        names = importlib.import_module(f"caffe_port.{package}").__all__
        yield from (f"caffe_port.{package}.{name}" for name in names)


def used():
    """What the documentation's Python blocks import from the package."""
    for page in pages():
        for block in blocks(page):
            if block.language != "python":
                continue
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                    "caffe_port"
                ):
                    yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sorted({*names(), *used()}))
def test_a_public_name_is_in_the_reference(path, documented):
    if path.startswith(MIGRATED) or path == "caffe_port.__version__":
        return
    if inspect.ismodule(found(path)):
        assert path in SHOWN or any(shown.startswith(f"{path}.") for shown in SHOWN)
    elif path.rpartition(".")[0] not in SHOWN:  # a module is shown with all it has
        assert path in SHOWN or any(found(path) is each for each in documented)
