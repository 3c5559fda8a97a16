"""Makes ``import caffe`` and ``import pydensecrf`` import this package, whatever sys.path has."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from caffe_port.errors import UsageError

_HERE = "caffe_port.pycaffe"
_REAL_NAMES = {
    "caffe": _HERE,
    "caffe.pycaffe": _HERE,
    "caffe.proto": "caffe_port.proto",
    "caffe.proto.caffe_pb2": "caffe_port.proto.caffe_pb2",
    # where protobuf 2 and 3 have the classes of repeated fields
    "google.protobuf.pyext._message": f"{_HERE}.protobuf",
}


def _real_name_of_caffe(name: str) -> str | None:
    """The real name of a module imported as caffe, or None if there is no such module."""
    if name in _REAL_NAMES:
        return _REAL_NAMES[name]
    if name in ("six", "six.moves") and not _installed("six"):
        return f"{_HERE}.{name}"
    return _submodule(name, "caffe", _HERE)


def _real_name_of_pydensecrf(name: str) -> str | None:
    ours = "caffe_port.crf.pydensecrf"
    return ours if name == "pydensecrf" else _submodule(name, "pydensecrf", ours)


def _submodule(name: str, package: str, ours: str) -> str | None:
    """The real name of a module of a package, which is ``ours``; None if there is none."""
    if not name.startswith(f"{package}."):
        return None
    real = f"{ours}.{name.removeprefix(package + '.')}"
    known = real.rpartition(".")[0] == ours and importlib.util.find_spec(real) is not None
    return real if known else None


def _installed(name: str) -> bool:
    return PathFinder.find_spec(name) is not None


class _Loader(Loader):
    """Imports the module under its real name."""

    def __init__(self, real_name: str) -> None:
        self._real_name = real_name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._real_name)
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own_spec  # the import system has just replaced it


class _Finder(MetaPathFinder):
    def __init__(self, real_name: Callable[[str], str | None]) -> None:
        self.real_name = real_name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        real = self.real_name(fullname)
        return None if real is None else ModuleSpec(fullname, _Loader(real))


def install() -> None:
    """Makes ``import caffe``, ``caffe.io``, ``caffe.proto`` and so on import this package.

    Errors of google.protobuf.text_format on Caffe's messages get advice.

    Raises:
        UsageError: another module called caffe is imported already.
    """
    ours = importlib.import_module(_HERE)
    if sys.modules.get("caffe", ours) is not ours:
        raise UsageError("another module 'caffe' is imported already; install() comes first")
    importlib.import_module(f"{_HERE}.protobuf").install_advice()
    _put_first(_real_name_of_caffe)


def install_pydensecrf() -> None:
    """Makes ``import pydensecrf``, ``pydensecrf.utils`` and so on import our pydensecrf.

    Raises:
        UsageError: the real one is imported already.
    """
    ours = importlib.import_module("caffe_port.crf.pydensecrf")
    if sys.modules.get("pydensecrf", ours) is not ours:
        raise UsageError("pydensecrf is imported already; install_pydensecrf() comes first")
    _put_first(_real_name_of_pydensecrf)


def _put_first(real_name: Callable[[str], str | None]) -> None:
    finders = [finder for finder in sys.meta_path if isinstance(finder, _Finder)]
    if not any(finder.real_name is real_name for finder in finders):
        sys.meta_path.insert(0, _Finder(real_name))
