"""Builds the sdist and a wheel as a release does, and checks them as a user meets them.

usage: python -m tools.package [-o DIR] [--no-install]

- The sdist is made from a copy of the tracked files without git, and has all of the sources.
- The wheel is built twice, in two folders; both are the same, byte for byte, because the date of
  the files is SOURCE_DATE_EPOCH (that of the last commit, if it is not set).
- twine reads the description of both.
- The wheel is installed into a new environment, and `caffe-port predict` segments the bundled
  example there, outside of the checkout.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from tools.matrix.archives import check_sdist, check_wheel
from tools.matrix.environments import ROOT, call, copied, last_line, tracked

RECORDED = ROOT / "examples" / "shapes_voc" / "caffe_run"
IMAGE = ROOT / "examples" / "shapes_voc" / "JPEGImages" / "shape_val_0000.jpg"


def main() -> None:
    """Builds, compares, checks and installs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--no-install", action="store_true", help="no new environment")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            package(options.out.resolve(), Path(folder), install=not options.no_install)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {' '.join(map(str, error.cmd[:4]))}: {last_line(error)}")


def package(out: Path, work: Path, *, install: bool) -> None:
    """Makes sdist and wheel in ``work``, and moves them to ``out`` when all checks have passed.

    Raises:
        ValueError: a file is missing or should not be there, or two builds differ.
        CalledProcessError: a build, twine, pip or `caffe-port` failed.
    """
    files = tracked()
    environ = {**os.environ, "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH") or date()}
    environ.pop("PYTHONPATH", None)
    first, second = work / "first", work / "second"
    build = [sys.executable, "-m", "build", "--outdir"]
    call([*build, first, copied(work / "checkout", files)], env=environ, cwd=work)
    (sdist,), (wheel,) = first.glob("*.tar.gz"), first.glob("*.whl")
    check_sdist(sdist, files)
    check_wheel(wheel, files, os.uname().machine)
    with tarfile.open(sdist) as archive:
        archive.extractall(work / "unpacked", filter="data")
    (source,) = (work / "unpacked").iterdir()
    call([*build, second, "--wheel", source], env=environ, cwd=work)
    same(wheel, second / wheel.name)
    call([sys.executable, "-m", "twine", "check", "--strict", sdist, wheel])
    described(wheel)
    if install:
        tried(wheel, work)
    out.mkdir(parents=True, exist_ok=True)
    for made in (sdist, wheel):
        shutil.copy2(made, out / made.name)
        print(f"{out / made.name}: {made.stat().st_size:,} bytes")


def described(wheel: Path) -> None:
    """Checks that the description works outside of the repository.

    Raises:
        ValueError: a link or an image of it is a path in the repository.
    """
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (file for file in archive.namelist() if file.endswith(".dist-info/METADATA"))
        text = archive.read(name).decode()
    for link in re.findall(r"\]\(([^)\s]+)", text):
        if not link.startswith(("https://", "#")):
            raise ValueError(f"the description of {wheel.name} links to {link}")


def date() -> str:
    """The time of the last commit, in seconds since 1970."""
    return call(["git", "-C", ROOT, "log", "-1", "--format=%ct"]).strip()


def same(first: Path, second: Path) -> None:
    """Compares two builds of one wheel.

    Raises:
        ValueError: they differ.
    """
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (first, second)]
    if digests[0] != digests[1]:
        raise ValueError(
            f"two builds of {first.name} differ: sha256 {digests[0][:12]} and {digests[1][:12]}"
        )


def tried(wheel: Path, work: Path) -> None:
    """Installs the wheel into a new environment, and segments an image with it.

    Raises:
        ValueError: there is no label map.
        CalledProcessError: pip or `caffe-port` failed.
    """
    bin, out = work / "venv" / "bin", work / "out"
    call([sys.executable, "-m", "venv", work / "venv"])
    call([bin / "pip", "install", "--quiet", wheel], cwd=work)
    net = RECORDED / "recording" / "net.prototxt"
    weights = RECORDED / "model" / "train_iter_2400.caffemodel"
    call([bin / "caffe-port", "predict", net, weights, IMAGE, "-o", out], cwd=work)
    if not list(out.rglob(f"{IMAGE.stem}.png")):
        raise ValueError(f"caffe-port predict of {wheel.name} wrote no label map of {IMAGE.name}")
    print(f"{wheel.name}, in a new environment: caffe-port predict segments {IMAGE.name}")


if __name__ == "__main__":
    main()
