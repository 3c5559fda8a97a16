"""Builds wheels for Linux on x86-64 and arm64, checks them and tries them.

usage: python -m tools.matrix.wheels [--python 3.11 ...] [--arch x86_64 aarch64] [-o DIR]
                                     [--work DIR] [--arm64-root DIR]

First an sdist is made, then every wheel from that sdist, none from the checkout; a wheel of the
same sources is not built again. The wheels are written to DIR (dist), the results to
docs/matrix.json and docs/matrix.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from tools.matrix.building import ARCHES, PYTHONS, built
from tools.matrix.environments import ROOT, WORK, last_line
from tools.matrix.outcomes import keep
from tools.matrix.page import wheel_line, write
from tools.matrix.trial import tried


def main() -> None:
    """Builds, checks and tests the chosen wheels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", nargs="+", default=PYTHONS, choices=PYTHONS)
    parser.add_argument("--arch", nargs="+", default=ARCHES, choices=ARCHES)
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--arm64-root", type=Path, help="a Debian for arm64 with a Python")
    options = parser.parse_args()
    failed = False
    for python in options.python:
        for arch in options.arch:
            try:
                wheel = built(python, arch, options.out, options.work)
                tried(wheel, options.out, options.work, options.arm64_root)
            except (ValueError, LookupError, subprocess.CalledProcessError) as error:
                why = (
                    last_line(error) if isinstance(error, subprocess.CalledProcessError) else error
                )
                print(f"Python {python}, {arch}: {why}", flush=True)
                failed = True
                continue
            keep("wheels", wheel.name, wheel)
            failed |= bool(wheel.tests.failed)
            print(f"  {wheel_line(asdict(wheel))}", flush=True)
    write()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
