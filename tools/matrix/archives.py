"""Checks that an sdist and a wheel contain the tracked files of the checkout and nothing else."""

from __future__ import annotations

import configparser
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

TOP_FILES = (
    "CHANGELOG.md", "CITATION.cff", "LICENSE", "MANIFEST.in", "README.md", "constraints.txt",
    "pyproject.toml", "setup.py",
)  # fmt: skip
ADDED = ("PKG-INFO", "setup.cfg")  # by setuptools to an sdist, with the egg-info
INFO = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt")


def sources(tracked: Iterable[str]) -> list[str]:
    """The files that the package is built from, which are those of an sdist."""
    return sorted(
        name for name in tracked
        if name.startswith(("caffe_port/", "ext/")) or name in TOP_FILES or _is_recipe(name)
    )  # fmt: skip


def _is_recipe(name: str) -> bool:
    return name.startswith("prototxt/") and name.endswith(".prototxt")


def check_sdist(path: Path, tracked: Iterable[str]) -> None:
    """Compares an sdist's files with the sources.

    Raises:
        ValueError: files are missing, or there are others.
    """
    with tarfile.open(path) as archive:
        files = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    added = {name for name in files if name in ADDED or name.startswith("caffe_port.egg-info/")}
    _compare(path, files - added, set(sources(tracked)))


def check_wheel(path: Path, tracked: Iterable[str], arch: str) -> str:
    """Checks a wheel's files and tags; returns the name of its extension module.

    Raises:
        ValueError: files are missing, there are others, a command's module is not there, or the tag
            inside is not that of the name.
    """
    name, version, tags = path.stem.split("-", 2)
    info, python = f"{name}-{version}.dist-info", tags.split("-")[0].removeprefix("cp")
    extension = f"caffe_port/crf/_lattice.cpython-{python}-{arch}-linux-gnu.so"
    files = list(tracked)
    wanted = {file for file in files if file.startswith("caffe_port/")}
    wanted |= {f"caffe_port/{file}" for file in files if _is_recipe(file)}
    wanted |= {extension, *(f"{info}/{file}" for file in INFO)}
    with zipfile.ZipFile(path) as archive:
        found = {file for file in archive.namelist() if not file.endswith("/")}
        _compare(path, found, wanted)
        if f"Tag: {tags}\n" not in archive.read(f"{info}/WHEEL").decode():
            raise ValueError(f"{path.name}: its WHEEL names another tag than {tags}")
        commands = configparser.ConfigParser()
        commands.read_string(archive.read(f"{info}/entry_points.txt").decode())
    for command, place in commands["console_scripts"].items():
        stem = place.partition(":")[0].replace(".", "/")
        if not {f"{stem}.py", f"{stem}/__init__.py"} & found:
            raise ValueError(f"{path.name}: the command {command} is {place}, which is not in it")
    return extension


def _compare(path: Path, found: set[str], wanted: set[str]) -> None:
    for what, names in (("lacks", wanted - found), ("should not hold", found - wanted)):
        if names:
            raise ValueError(f"{path.name} {what} {', '.join(sorted(names)[:10])}")
