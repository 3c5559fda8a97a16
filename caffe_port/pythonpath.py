"""Folders for PYTHONPATH in which Python processes find `caffe`, and optionally `pydensecrf`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from caffe_port.spec.ops.python_layer import ENVIRONMENT

_KERNEL = {"--name": "caffe", "--display-name": "Python 3 (caffe_port)"}


def folders(pydensecrf: bool = False) -> str:
    """The folders, joined for PYTHONPATH."""
    here = Path(__file__).parent / "pycaffe"
    names = ["path", "path_pydensecrf"] if pydensecrf else ["path"]
    return os.pathsep.join(str(here / name) for name in names)


def export(pydensecrf: bool = False) -> None:
    """Sets the environment so that processes started later find caffe as this one does.

    Their Python layers are allowed, for the program ``caffe`` with a warning.
    """
    before = os.environ.get("PYTHONPATH")
    ours = folders(pydensecrf)
    os.environ["PYTHONPATH"] = ours if not before else os.pathsep.join((ours, before))
    os.environ[ENVIRONMENT] = "1"


def kernel_arguments(arguments: Sequence[str], pydensecrf: bool = False) -> list[str]:
    """The arguments of `ipykernel install` with which the kernel finds caffe.

    Args:
        arguments: the user's, after `install`; they may name the kernel.
    """
    given = {argument.partition("=")[0] for argument in arguments}
    named = [part for key, value in _KERNEL.items() if key not in given for part in (key, value)]
    path = os.pathsep.join((folders(pydensecrf), "${PYTHONPATH}"))  # replaced by the kernel's own
    return [*arguments, *named, "--env", "PYTHONPATH", path, "--env", ENVIRONMENT, "1"]
