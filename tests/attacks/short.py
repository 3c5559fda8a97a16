"""The attacks that take no time, each at its last entry point, for the tests."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from tests.attacks import running


def main(results: Path) -> None:
    """Writes the outcomes as JSON."""
    running.prepare()
    from tests.attacks.test_attacks import SHORT

    with tempfile.TemporaryDirectory() as folder:
        runner = running.Runner(Path(folder) / "scenes")
        outcomes = [
            asdict(outcome)
            for attack in SHORT
            for outcome in runner.run(replace(attack, entries=attack.entries[-1:]))
        ]
    results.write_text(json.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
