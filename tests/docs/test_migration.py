"""docs/pycaffe.md and docs/pydensecrf.md list every name, and only names that are there."""

from __future__ import annotations

import inspect
import re

import pytest

import caffe_port.pycaffe as caffe
from caffe_port.crf.pydensecrf import densecrf, eigen, utils
from caffe_port.pycaffe import coord_map, draw, io
from tests.goldens_dir import ROOT

NET = 'input: "x" input_shape { dim: 1 } layer { name: "s" type: "Sigmoid" bottom: "x" top: "s" }'


def listed(page: str, heading: str) -> set[str]:
    """The names in the first column of the table under a heading."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text.split(f"\n### {heading}\n", 1)[1].split("\n#", 1)[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    # `Net(prototxt, phase)` names Net
    return {name for cell in cells for name in re.findall(r"`(\w+)[^`]*`", cell)}


def own(module) -> set[str]:
    """The public classes and functions that a module defines."""
    return {
        name for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
        and (inspect.isclass(value) or inspect.isfunction(value))
    }  # fmt: skip


def public(thing: object) -> set[str]:
    """Attributes of an object, less what torch and Python give it."""
    return {name for name in dir(thing) if not name.startswith("_")}


@pytest.fixture
def solver(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 1 lr_policy: "fixed" max_iter: 1 random_seed: 1'
    )
    return caffe.SGDSolver("solver.prototxt")


def test_the_module_caffe():
    assert listed("pycaffe.md", "caffe") == set(caffe.__all__)


@pytest.mark.parametrize("module", [io, draw, coord_map], ids=lambda module: module.__name__)
def test_modules_of_functions(module):
    name = module.__name__.removeprefix("caffe_port.py")
    names = listed("pycaffe.md", name)
    assert names - set(vars(module)) == set()
    assert own(module) <= names


def test_net_blob_and_solver(solver):
    net = solver.net
    things = {"caffe.Net": net, "caffe.Blob": net.blobs["x"], "caffe.SGDSolver": solver}
    for heading, thing in things.items():
        names = listed("pycaffe.md", heading)
        assert {name for name in names if not hasattr(thing, name)} == set()
        public_methods = {
            name for name in public(type(thing))
            if (getattr(type(thing), name).__doc__ or "").strip() and name not in OURS
        }  # fmt: skip
        assert public_methods <= names


# for other subpackages, not for scripts
OURS = {"of", "assign", "drop_diff", "take_data", "take_diff", "solver_type", "has_diff",
        "share_data", "share_diff", "retype"}  # fmt: skip


def test_pydensecrf():
    names = listed("pydensecrf.md", "densecrf")
    everywhere = set(vars(densecrf)) | public(densecrf.DenseCRF2D)
    assert names - everywhere == set()
    assert public(densecrf.DenseCRF2D) <= names
    assert own(densecrf) <= names
    assert listed("pydensecrf.md", "utils") == own(utils)
    assert listed("pydensecrf.md", "eigen") == own(eigen) | {"MatrixXf", "VectorXf"}


def test_nothing_of_pydensecrf_is_forgotten():
    theirs = pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf2 is not installed")
    names = listed("pydensecrf.md", "densecrf")
    assert public(theirs) - {"Number", "eigen"} <= names
    their_eigen = pytest.importorskip("pydensecrf.eigen")
    assert public(their_eigen) <= listed("pydensecrf.md", "eigen")
    assert public(theirs.DenseCRF2D) <= names
