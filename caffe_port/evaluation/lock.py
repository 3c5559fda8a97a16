"""One evaluation at a time in a folder."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from caffe_port import locks
from caffe_port.data.pictures import PathLike

NAME = ".evaluation.lock"


def locked(folder: PathLike) -> AbstractContextManager[None]:
    """Keeps other processes from evaluating into a folder.

    Raises:
        UsageError: another process holds it, or the folder cannot be written.
    """
    return locks.locked(
        Path(folder) / NAME, str(folder), "evaluating into this folder", "choose another folder"
    )
