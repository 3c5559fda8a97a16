"""What an sdist and a wheel must hold, and that they hold nothing else.

The checkout's tracked files are the measure: whatever lies about in it is in neither.
"""

from __future__ import annotations

import configparser
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

BESIDE = ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py")
MADE = ("PKG-INFO", "setup.cfg")  # what setuptools adds to an sdist, with the egg-info
INFO = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt")


def sources(tracked: Iterable[str]) -> list[str]:
    """The files that the package is built from, and so an sdist holds."""
    return sorted(
        name for name in tracked
        if name.startswith(("caffe_port/", "ext/")) or name in BESIDE or _is_recipe(name)
    )  # fmt: skip


def _is_recipe(name: str) -> bool:
    return name.startswith("prototxt/") and name.endswith(".prototxt")


def check_sdist(path: Path, tracked: Iterable[str]) -> None:
    """Holds an sdist's files against the sources.

    Raises:
        ValueError: files are missing, or there are others.
    """
    with tarfile.open(path) as archive:
        files = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    made = {name for name in files if name in MADE or name.startswith("caffe_port.egg-info/")}
    _compare(path, files - made, set(sources(tracked)))


def check_wheel(path: Path, tracked: Iterable[str], arch: str) -> str:
    """Holds a wheel's files and tags against what is wanted; gives its extension's name in it.

    Raises:
        ValueError: files are missing, there are others, a command's module is not there, or the tag
            inside is not the name's.
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
