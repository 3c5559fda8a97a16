"""Layer types of users: Python files and modules they name, and installed packages.

A user's file calls ``register_op`` and ``register_layer``. It is imported at once where the user
names it (``--import``), and in the processes that such a command starts as soon as one of them
meets a type that is not built in; these find its name in the environment variable
CAFFE_PORT_IMPORT. Packages that have entry points of the group ``caffe_port.layers`` are imported
only when a type is still unknown after that.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

from caffe_port.errors import UsageError
from caffe_port.spec.ops import BUILTIN, registered_ops

VARIABLE = "CAFFE_PORT_IMPORT"
GROUP = "caffe_port.layers"
_done: set[str] = set()


def import_own(names: Sequence[str]) -> None:
    """Imports files and modules with layer types, here and in all processes started from now on.

    Args:
        names: each the path of a ``.py`` file or the name of a module that Python finds.
    Raises:
        UsageError: a file or module is missing, or raises while it is imported.
    Warns:
        UserWarning: one registers no layer type.
    """
    found = [os.path.abspath(name) if _is_path(name) else name for name in names]
    for name in dict.fromkeys([*_listed(), *found]):
        before = _own_types()
        if _import(name) and _own_types() == before:
            warnings.warn(
                f"'{name}' was imported and registers no layer type; expected a file or module "
                "that calls caffe_port.register_op",
                stacklevel=2,
            )
        if name not in _listed():
            os.environ[VARIABLE] = os.pathsep.join((*_listed(), name))


def import_all() -> None:
    """Imports what the environment names and what installed packages offer, once per process.

    Raises:
        UsageError: see ``import_own``.
    Warns:
        UserWarning: an installed package raises while it is imported.
    """
    for name in _listed():
        _import(name)
    if GROUP in _done:
        return
    _done.add(GROUP)
    from importlib import metadata  # 15 ms, for types that are not built in

    for entry in metadata.entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:
            warnings.warn(
                f"the entry point '{entry.name} = {entry.value}' of the group {GROUP} cannot be "
                f"loaded: {describe_error(error)}",
                stacklevel=2,
            )


def digest() -> str:
    """SHA-256 of the files with layer types that are named here, '' where there are none.

    Results that a command keeps and uses again are made with these files too.
    """
    known = ((name, getattr(sys.modules.get(name), "__file__", None)) for name in _listed())
    files = [name if _is_path(name) else file for name, file in known]
    contents = [Path(file).read_bytes() for file in files if file and os.path.isfile(file)]
    hashes = b"".join(hashlib.sha256(content).digest() for content in contents)
    return hashlib.sha256(hashes).hexdigest() if hashes else ""


def describe_error(error: BaseException, caller: str = __file__) -> str:
    """Type, place and message of an exception that a user's own code raised.

    Args:
        error: the exception.
        caller: the file of this package that called the user's code.
    """
    if isinstance(error, SyntaxError):
        return f"SyntaxError in {error.filename}, line {error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    users = [f for f in frames if "importlib" not in f.filename and f.filename != caller]
    where = f" in {users[-1].filename}, line {users[-1].lineno}" if users else ""
    missing = isinstance(error, ModuleNotFoundError)
    advice = ": put its folder into PYTHONPATH, or install it" if missing else ""
    return f"{type(error).__name__}{where}: {error}{advice}"


def _listed() -> list[str]:
    return [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]


def _own_types() -> set[str]:
    return registered_ops().keys() - BUILTIN.keys()


def _is_path(name: str) -> bool:
    return name.endswith(".py") or os.sep in name


def _import(name: str) -> bool:
    """Imports a file or module unless that was done before; whether it was not."""
    if name in _done:
        return False
    _done.add(name)
    file = os.path.realpath(name)
    try:
        if not _is_path(name):
            importlib.import_module(name)
        elif not os.path.isfile(name):
            raise FileNotFoundError("no such file")
        elif any(_file_of(module) == file for module in [*sys.modules.values()]):
            return False  # a script that imports it, or is it
        else:
            _import_file(Path(name))
    except (Exception, SystemExit) as error:
        _done.discard(name)
        missing = isinstance(error, FileNotFoundError) and not error.errno
        reason = str(error) if missing else describe_error(error)
        raise UsageError(f"'{name}' cannot be imported: {reason}") from error
    return True


def _file_of(module: object) -> str:
    file = getattr(module, "__file__", None)
    return os.path.realpath(file) if isinstance(file, str) else ""


def _import_file(path: Path) -> None:
    """Runs a file as the module of its own name, or of a longer one where that is taken."""
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # the last place: it hides nothing, and helpers are found
    name = path.stem
    taken = name in sys.modules or not name.isidentifier()
    if not taken:
        found = importlib.util.find_spec(name)
        taken = found is None or os.path.realpath(found.origin or "") != os.path.realpath(path)
    if not taken:
        importlib.import_module(name)
        return
    spec = importlib.util.spec_from_file_location(f"caffe_port_import_{len(_done)}_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
