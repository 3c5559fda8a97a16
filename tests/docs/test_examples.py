"""Every public function and class has an example in its docstring, which runs as shown."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Callable

import pytest

from caffe_port.export.module_code import MODULE_RULES
from caffe_port.export.onnx_code import ONNX_RULES
from caffe_port.layers import _registry as layers
from caffe_port.spec.ops import _base as ops
from caffe_port.unravel.rules import _registry as rules
from tests.docs.test_reference import MIGRATED, SHOWN, found, names
from tests.goldens_dir import ROOT


def documented() -> dict[str, Callable[..., object]]:
    """Every public function and class but warnings, by its path."""
    result: dict[Callable[..., object], str] = {}
    for path in sorted({*SHOWN, *names()}):
        thing = found(path)
        is_warning = inspect.isclass(thing) and issubclass(thing, Warning)
        if callable(thing) and inspect.getdoc(thing) and not is_warning:
            result.setdefault(thing, path)
    return {path: thing for thing, path in result.items() if not path.startswith(MIGRATED)}


DOCUMENTED = documented()
# classes whose objects functions return or pass: the functions have the examples
RETURNED = {"Result", "NetText", "UnknownField", "WeightFile", "StoredLayer", "StoredBlob", "Blobs",
            "ParamSpec", "Recording", "Recipe", "Traces", "Passage", "Link", "ModuleCode", "Node",
            "OnnxCode"}  # fmt: skip


@pytest.fixture(autouse=True)
def registries():
    """Types that an example registers are removed after it."""
    yield
    exports = MODULE_RULES._rules, ONNX_RULES._rules
    for registry in (ops._ops, layers._layers, rules._rules, *exports):
        for type in [type for type, entry in registry.items() if entry.__module__ == "example"]:
            del registry[type]


@pytest.mark.parametrize("path", sorted(DOCUMENTED))
def test_an_example_runs(path, tmp_path, monkeypatch):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    text = inspect.getdoc(DOCUMENTED[path])
    example = doctest.DocTestParser().get_doctest(text, {"__name__": "example"}, path, path, 0)
    if path.rpartition(".")[2] not in RETURNED:
        assert example.examples, f"{path} has no example"
    output: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(
        example, out=output.append
    )
    assert not output, "".join(output)
