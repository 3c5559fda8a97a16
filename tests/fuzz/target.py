"""What a fuzz target is: a function of bytes, seeds for it, and the words of its format."""

from __future__ import annotations

import os
import random
import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from caffe_port.errors import DialectWarning, SideEffectWarning, UnknownFieldWarning


@dataclass(frozen=True)
class Target:
    """One way into the package.

    Attributes:
        run: takes any bytes; whatever it raises is a bug, since it expects the errors it may see.
        seeds: good inputs to start from, none longer than ``SEED_BYTES``.
        words: of the format, to be put in whole.
        structured: a change that keeps what a reader looks at first, such as a checksum; it is
            given the input, chance and a change of bytes.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    words: Callable[[], Iterable[bytes]] = tuple
    structured: Callable[[bytes, random.Random, Callable[[bytes], bytes]], bytes] | None = None

    def check(self, data: bytes) -> None:
        """Runs the target; a warning is a bug too, except for those that describe the net."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for expected in (DialectWarning, SideEffectWarning, UnknownFieldWarning):
                warnings.simplefilter("ignore", expected)
            self.run(data)


SEED_BYTES = 24_000  # longer seeds teach a fuzzer little and make it slow


def small(paths: Iterable[Path]) -> list[bytes]:
    """The content of files that are short enough for seeds."""
    return [path.read_bytes() for path in sorted(paths) if path.stat().st_size <= SEED_BYTES]


def folder() -> tempfile.TemporaryDirectory[str]:
    """A new folder, in memory where the system has such; gone with its object."""
    shared = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="fuzz-", dir=shared if shared.is_dir() else None)


@cache
def _own_folder() -> tempfile.TemporaryDirectory[str]:
    return folder()


def scratch() -> Path:
    """The folder that targets work in: FUZZ_SCRATCH, or one of this process."""
    return Path(os.environ.get("FUZZ_SCRATCH") or _own_folder().name)


def as_file(data: bytes, name: str) -> Path:
    """A file of that content; the next call with the name overwrites it."""
    path = scratch() / name
    path.write_bytes(data)
    return path
