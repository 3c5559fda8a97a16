"""Run by every Python that starts with this folder on PYTHONPATH; makes `import caffe` work.

Nothing is imported before a script imports caffe, so other programs start as fast as before.
`caffe-port pythonpath` prints the folder.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder

_HERE = os.path.dirname(os.path.abspath(__file__))


class _Finder:
    """Waits for the first import of caffe, or of six where it is not installed."""

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        top = name.partition(".")[0]
        if top not in ("caffe", "six") or (top == "six" and PathFinder.find_spec("six")):
            return None
        sys.meta_path.remove(cls)
        with open(os.path.join(_HERE, "caffe", "__init__.py")) as file:
            exec(compile(file.read(), file.name, "exec"), {"__name__": "__main__"})
        return importlib.util.find_spec(name)


def _run_hidden() -> None:
    """Runs the sitecustomize.py that this one hides, if there is one."""
    others = [p for p in sys.path if os.path.abspath(p or os.curdir) != _HERE]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


sys.meta_path.insert(0, _Finder)
_run_hidden()
