"""`python -m benchmarks [SUBJECT ...]`: measures the named subjects, or all."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

SKIPPED = {"__init__", "__main__", "measure", "nets", "shapes"}


def main() -> None:
    """Runs each subject's main()."""
    known = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in SKIPPED)
    for subject in sys.argv[1:] or known:
        if subject not in known:
            sys.exit(f"no subject '{subject}'; there are {', '.join(known)}")
        importlib.import_module(f"benchmarks.{subject}").main()


if __name__ == "__main__":
    main()
