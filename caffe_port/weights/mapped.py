"""A file mapped into memory: looked at without a copy, copied out without mapping its pages."""

from __future__ import annotations

import mmap
import os
import stat
import weakref

import numpy as np

from caffe_port.errors import FormatError
from caffe_port.proto import wire
from caffe_port.stalls import Waiting
from caffe_port.weights.stored import Array

_PART = 2**26  # bytes that are waited for at a time


class MappedFile:
    """A regular, non-empty file; stays open as long as a view or loader of it is alive.

    Attributes:
        path: the file's name as given.
        size: its length in bytes.
        view: its bytes, read-only.
        budget: how many more of its fields are read, where it is made of such.

    Raises:
        FormatError: it is empty, or not a regular file.
        OSError: it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        with Waiting(path):
            self._map(path)

    def _map(self, path: str | os.PathLike[str]) -> None:
        # Asked before opening, because opening a named pipe would wait for its writer.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise FormatError("not a regular file", path=path)
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, handle)
        self._handle = handle
        self.size = os.fstat(handle).st_size
        if self.size == 0:
            raise FormatError("the file is empty", path=path)
        try:
            mapped = mmap.mmap(handle, self.size, access=mmap.ACCESS_READ)
        except (OSError, ValueError, OverflowError) as error:
            message = f"{self.size} bytes cannot be mapped: {error}"
            raise FormatError(message, path=path) from error
        self.view, self.budget = memoryview(mapped), wire.Budget()

    def array(self, offset: int, count: int, dtype: str, stride: int | None = None) -> Array:
        """``count`` values from ``offset`` on as a 1-D read-only view, without a copy.

        Args:
            offset: where the first value starts.
            count: how many values.
            dtype: numpy's name with the byte order, as "<f4".
            stride: bytes from one value to the next; None means they touch.
        """
        kind = np.dtype(dtype)
        return np.ndarray((count,), kind, self.view, offset, (stride or kind.itemsize,))

    def load(self, offset: int, count: int, dtype: str) -> Array:
        """``count`` touching values from ``offset`` on as a fresh array of native byte order.

        Read through the file and not through the map, whose pages would count a second time as
        this process's memory; a file that shrank meanwhile gives an error, not a bus error.

        Raises:
            FormatError: the file ends early.
        """
        values = np.empty(count, np.dtype(dtype))
        target = values.view(np.uint8).data
        done = 0
        while done < len(target):
            with Waiting(self.path):
                got = os.preadv(self._handle, [target[done : done + _PART]], offset + done)
            if got == 0:
                raise FormatError(
                    "the file became shorter while it was read", path=self.path, offset=offset
                )
            done += got
        return values.astype(values.dtype.newbyteorder("="), copy=False)
