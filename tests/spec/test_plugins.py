"""Layer types of users: imported by name, by the environment, by an entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from caffe_port.errors import UsageError, speaking
from caffe_port.spec import plugins
from caffe_port.spec.ops import BUILTIN, _base, is_known, known_types, op_class
from tests.spec.making import INPUT, layer, spec_of

OWN = """
from dataclasses import dataclass
import caffe_port as cp

@cp.register_op
@dataclass(frozen=True)
class Own(cp.Op):
    type = "OwnOfPlugins"
"""
NET = INPUT + layer("own", "OwnOfPlugins", "x", "y")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No file or plugin has been imported; what a test registers and imports is forgotten."""
    monkeypatch.setattr(plugins, "_done", set())
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv(plugins.VARIABLE, "")
    types, modules = set(_base.registered_ops()), set(sys.modules)
    yield
    for type in set(_base.registered_ops()) - types - set(BUILTIN):
        del _base.registered_ops()[type]
    for name in set(sys.modules) - modules:
        if "plugin_of_a_test" in name:
            del sys.modules[name]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "plugin_of_a_test.py"
    path.write_text(OWN)
    return path


def test_a_file_is_imported_once_and_named_to_processes_started_later(own: Path) -> None:
    assert not is_known("OwnOfPlugins")
    for _ in range(2):
        plugins.import_own([os.path.relpath(own)])
    assert spec_of(NET).layers[1].type == "OwnOfPlugins"
    assert op_class("OwnOfPlugins").__module__ == "plugin_of_a_test"
    assert os.environ[plugins.VARIABLE] == str(own)


def test_a_file_that_a_script_has_imported_is_not_run_again(own: Path) -> None:
    sys.path.insert(0, str(own.parent))
    __import__("plugin_of_a_test")
    plugins.import_own([str(own)])
    assert is_known("OwnOfPlugins")


def test_a_file_may_have_the_name_of_a_module(own: Path, tmp_path: Path) -> None:
    path = own.rename(tmp_path / "json.py")
    plugins.import_own([str(path)])
    assert op_class("OwnOfPlugins").__module__.startswith("caffe_port_import_")
    import json

    assert json.loads("1") == 1


def test_a_file_finds_the_files_next_to_it(own: Path, tmp_path: Path) -> None:
    main = tmp_path / "main_plugin_of_a_test.py"
    main.write_text("import plugin_of_a_test\n")
    plugins.import_own([str(main)])
    assert is_known("OwnOfPlugins")


def test_a_module_is_imported_by_its_name(own: Path) -> None:
    sys.path.append(str(own.parent))
    plugins.import_own(["plugin_of_a_test"])
    assert is_known("OwnOfPlugins")
    assert os.environ[plugins.VARIABLE] == "plugin_of_a_test"


def test_the_environment_is_read_when_a_type_is_not_known(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(plugins.VARIABLE, os.pathsep.join((str(own), str(own))))
    assert is_known("ReLU")
    assert "plugin_of_a_test" not in sys.modules
    assert spec_of(NET).layers[1].type == "OwnOfPlugins"


def test_other_processes_get_the_types_too(own: Path) -> None:
    plugins.import_own([str(own)])
    code = f"from tests.spec.making import spec_of;print(spec_of({NET!r}).layers[1].op)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout == "Own()\n", done.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = 1\n1 / 0\n", "ZeroDivisionError in {path}, line 2: division by zero"),
        ("def", "SyntaxError in {path}, line 1: invalid syntax"),
        ("raise SystemExit(3)", "SystemExit in {path}, line 1: 3"),
        ("import none_such", "line 1: No module named 'none_such': put its folder into PYTHONPATH"),
        (OWN + OWN, "op type 'OwnOfPlugins' is empty or registered already"),
    ],
)
def test_a_file_that_fails_is_an_error_that_says_where(own: Path, text: str, reason: str) -> None:
    own.write_text(text)
    for _ in range(2):
        with pytest.raises(UsageError) as caught:
            plugins.import_own([str(own)])
        assert f"'{own}' cannot be imported: " in str(caught.value)
        assert reason.format(path=own) in str(caught.value)
        assert os.environ[plugins.VARIABLE] == ""
    os.environ[plugins.VARIABLE] = str(own)
    with pytest.raises(UsageError, match="cannot be imported"):
        is_known("OwnOfPlugins2")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.py"
    with pytest.raises(UsageError, match=rf"'{missing}' cannot be imported: no such file"):
        plugins.import_own([str(missing)])
    with pytest.raises(UsageError, match="'none_such' cannot be imported: ModuleNotFoundError: No"):
        plugins.import_own(["none_such"])


def test_a_file_without_layer_types_is_warned_of(own: Path) -> None:
    own.write_text("from caffe_port.spec.ops.pooling import Pooling\n")
    with pytest.warns(UserWarning, match=f"'{own}' was imported and registers no layer type"):
        plugins.import_own([str(own)])


def test_an_installed_package_is_imported_when_a_type_is_not_known(own: Path) -> None:
    _install(own)
    assert is_known("ReLU")
    assert "plugin_of_a_test" not in sys.modules
    assert spec_of(NET).layers[1].type == "OwnOfPlugins"
    assert "OwnOfPlugins" in known_types()


def test_an_installed_package_that_fails_is_warned_of(own: Path) -> None:
    own.write_text("1 / 0")
    _install(own)
    message = (
        rf"the entry point 'mine = plugin_of_a_test' of the group caffe_port\.layers cannot be "
        rf"loaded: ZeroDivisionError in {own}, line 1"
    )
    with pytest.warns(UserWarning, match=message):
        assert not is_known("OwnOfPlugins")


def _install(module: Path) -> None:
    """Puts a folder with a distribution that offers the module on the path."""
    info = module.parent / "plugin_of_a_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-a-test\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[caffe_port.layers]\nmine = plugin_of_a_test\n")
    sys.path.append(str(module.parent))


def test_the_message_of_an_unknown_type_names_the_option() -> None:
    from caffe_port.errors import UnsupportedLayerError

    for interface, wanted in (
        ("python", "import FILE.py, or put it into the environment variable CAFFE_PORT_IMPORT"),
        ("caffe-port", "--import FILE.py"),
        ("caffe", "-import FILE.py"),
    ):
        with speaking(interface), pytest.raises(UnsupportedLayerError) as caught:
            spec_of(NET)
        assert f"(docs/own_layer.md): {wanted}; docs/LAYERS.md" in str(caught.value)
