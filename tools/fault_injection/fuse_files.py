"""A FUSE file system that shows all of this machine's files and can be stopped.

usage: python -m tools.fault_injection.fuse_files FOLDER SECONDS

Stopped (SIGSTOP), it does not answer, like a network folder whose server is down; continued
(SIGCONT), it answers again. Every read takes SECONDS. Needs root, libfuse and the Python package
mfusepy.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from typing import Any

import mfusepy


class Files(mfusepy.Operations):
    """The machine's own files.

    Args:
        delay: seconds that each read takes.
    """

    use_ns = True

    def __init__(self, delay: float) -> None:
        self._delay = delay

    def __getattribute__(self, name: str) -> Any:
        # FUSE reports an operation's OSError to the caller
        found = object.__getattribute__(self, name)
        if name == "use_ns" or name.startswith("_") or name not in Files.__dict__:
            return found

        def answered(*arguments: Any) -> Any:
            try:
                return found(*arguments)
            except OSError as error:
                raise mfusepy.FuseOSError(error.errno or errno.EIO) from error

        return answered

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        names = ("mode", "nlink", "uid", "gid", "size", "ino")
        state = os.lstat(path)
        found = {f"st_{name}": getattr(state, f"st_{name}") for name in names}
        for name in ("atime", "mtime", "ctime"):
            found[f"st_{name}"] = getattr(state, f"st_{name}_ns")
        return found

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(path)]

    def readlink(self, path: str) -> str:
        return os.readlink(path)

    def open(self, path: str, flags: int) -> int:
        return os.open(path, flags)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        time.sleep(self._delay)
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(path, length)

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        os.fsync(fh)

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def symlink(self, target: str, source: str) -> None:
        os.symlink(source, target)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(path, mode)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        os.utime(path, ns=times)


if __name__ == "__main__":
    # one thread: no request is being served while it is stopped, so waiting processes can be killed
    mfusepy.FUSE(Files(float(sys.argv[2])), sys.argv[1], foreground=True, nothreads=True)
