"""What a fuzz target is: a function of bytes, seeds for it, and the words of its format."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """One way into the package.

    Attributes:
        run: takes any bytes; whatever it raises is a bug, since it expects the errors it may see.
        seeds: good inputs to start from, none longer than ``SEED_BYTES``.
        words: of the format, to be put in whole.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    words: Callable[[], Iterable[bytes]] = tuple

    def check(self, data: bytes) -> None:
        """Runs the target; a warning, too, is a bug."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.run(data)


SEED_BYTES = 24_000  # longer seeds teach a fuzzer little and make it slow


def small(paths: Iterable[Path]) -> list[bytes]:
    """The content of files that are short enough for seeds."""
    return [path.read_bytes() for path in sorted(paths) if path.stat().st_size <= SEED_BYTES]


@cache
def scratch() -> Path:
    """A folder of this process, in memory where the system has such."""
    shared = Path("/dev/shm")
    parent = shared if shared.is_dir() else None
    folder = tempfile.TemporaryDirectory(prefix="fuzz-", dir=parent)
    _kept.append(folder)
    return Path(folder.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


def as_file(data: bytes, name: str) -> Path:
    """A file of that content; the next call with the name overwrites it."""
    path = scratch() / name
    path.write_bytes(data)
    return path
