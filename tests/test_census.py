"""The census of names: which are there, which are lacking, and where."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from caffe_port.pycaffe import alias
from tests.goldens_dir import ROOT
from tools import census

pytest.importorskip("fissix")


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Our names in place of the real modules, for one test: others compare with the real ones."""
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    for name in _modules():
        monkeypatch.delitem(sys.modules, name)
    alias.install()
    alias.install_pydensecrf()
    yield
    for name in _modules():
        del sys.modules[name]


def _modules() -> list[str]:
    return [name for name in sys.modules if name.split(".")[0] in ("caffe", "pydensecrf")]


def test_names_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "import caffe as c, pydensecrf.densecrf as dcrf\n"
        "from caffe import layers as L, Nothing\n"
        "from caffe.proto import caffe_pb2\n"
        "net = c.Net('a', c.TEST)\n"
        "net.blobs['x'], net.invented, c.io.load_image, c.io.wrong, L.Anything\n"
        "crf = dcrf.DenseCRF2D(1, 2, 3)\n"
        "crf.inference(5), crf.wrong2, caffe_pb2.NetParameter, caffe_pb2.NoParameter\n"
        "net.name = 'own'\nprint(net.name, other.invented)\n"
    )
    (tmp_path / "b.py").write_text("import caffe\nprint caffe.io.wrong\n")
    (tmp_path / "c.py").write_text("import caffe\nfor (\n")
    cell = {"cell_type": "code", "source": ["!ls\n", "import caffe\n", "caffe.invented()\n"]}
    (tmp_path / "d.ipynb").write_text(json.dumps({"cells": [cell]}))
    (tmp_path / "e.py").write_text("caffe = 1\n")
    found = census.take(tmp_path)
    assert found.lacking() == {
        "caffe.io.wrong": ["a.py:5", "b.py:2"],
        "caffe.Net().invented": ["a.py:5"],
        "caffe.Nothing": ["a.py:2"],
        "caffe.invented": ["d.ipynb:3"],
        "caffe.proto.caffe_pb2.NoParameter": ["a.py:7"],
        "pydensecrf.densecrf.DenseCRF2D().wrong2": ["a.py:7"],
    }
    assert found.unread == ["c.py"]
    assert found.files == 3
    assert "caffe.Net().name" not in found.uses


@pytest.mark.parametrize("name", sorted(census.MAKES))
def test_attributes_of_each_kind_of_object_are_found(name: str) -> None:
    made = f"{census.MAKES[name]}()"
    assert not census.exists(f"{made}.no_such_name") or made == "caffe.NetSpec()"


def test_attributes_set_by_the_constructor_are_found() -> None:
    for name in ("Net().params", "SGDSolver().net", "Classifier().image_dims"):
        assert census.exists(f"caffe.{name}")


PUBLIC = (ROOT / "tests" / "pycaffe" / "public_names.txt").read_text().split()


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_of_public_scripts_is_there_and_in_the_tables(name: str) -> None:
    """The list is from `python -m tools.census --all`, of the repositories in docs/pycaffe.md."""
    assert census.exists(name)
    last = name.rpartition(".")[2]
    if last.startswith("_"):
        return  # in the text below the table
    rows = [
        line
        for page in ("pycaffe.md", "pydensecrf.md")
        for line in (ROOT / "docs" / page).read_text().splitlines()
        if line.startswith("|")
    ]
    cells = " ".join(code for row in rows for code in re.findall(r"`([^`]+)`", row))
    assert re.search(rf"\b{last}\b", cells), f"{name} is in no table"
