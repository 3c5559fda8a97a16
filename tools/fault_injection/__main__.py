"""Fault injection: commands killed, interrupted, stalled, without permissions or disk space.

usage: python -m tools.fault_injection [--part NAME ...] [--only COMMAND ...] [--times N] [--seed N]

Each part injects one kind of fault and writes its rows to docs/fault_injection.json as they are
measured, so parts can be run one by one; docs/fault_injection.md shows all rows. Exit status: 0 if
every row measured now is as required.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tools.fault_injection import (
    full_disk,
    interrupted,
    killed,
    page,
    permissions,
    stalled,
    together,
)

PARTS = {
    "killed": killed,
    "full_disk": full_disk,
    "permissions": permissions,
    "stalled": stalled,
    "interrupted": interrupted,
    "together": together,
}


def main() -> None:
    """Runs the chosen parts and writes the page."""
    parser = argparse.ArgumentParser(prog="python -m tools.fault_injection")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--only", nargs="+", metavar="COMMAND")
    parser.add_argument("--times", type=int, default=100, help="kills or interrupts of each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    good = True
    for name in options.part:
        part = PARTS[name]
        for case in part.CASES:
            if options.only is None or case in options.only:
                with tempfile.TemporaryDirectory() as folder:
                    numbers = random.Random(f"{options.seed} {name} {case}")
                    row = part.row(case, Path(folder), options.times, numbers)
                print(name, *row, sep=" | ", flush=True)
                good = good and part.is_good(row)
                page.keep(name, case, row)
    page.write(PARTS)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
