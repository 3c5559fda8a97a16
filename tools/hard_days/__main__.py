"""Hard days: commands that are killed, interrupted, stalled, refused and out of room.

usage: python -m tools.hard_days [--part NAME ...] [--only COMMAND ...] [--times N] [--seed N]

Each part tries the commands in its own way and writes its rows to docs/hard_days.json at once, so
that parts can be run one by one; docs/hard_days.md is made of all rows there are. Exit status: 0
if every row that was made is as it should be.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tools.hard_days import (
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
    """Runs the parts asked for, and makes the page."""
    parser = argparse.ArgumentParser(prog="python -m tools.hard_days")
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
