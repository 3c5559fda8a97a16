"""``python -m tests.attacks``: runs every attack and writes the table; see README.md."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.attacks import running
from tests.attacks.report import page, table
from tests.attacks.running import Outcome
from tests.goldens_dir import ROOT

DOCUMENT, RESULTS = ROOT / "docs" / "security.md", ROOT / "docs" / "security.json"


def main() -> int:
    """Exit status: 0 when every attack ended as it must, 1 when one did not."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("words", nargs="*", help="only attacks whose family or name holds one")
    parser.add_argument("--json", type=Path, help="write the outcomes here, and no document")
    parser.add_argument("--any-figures", action="store_true", help="seconds and MB may be any")
    given = parser.parse_args()
    running.prepare()
    from tests.attacks.everything import ATTACKS

    chosen = [a for a in ATTACKS if not given.words or any(w in str(a) for w in given.words)]
    outcomes: list[Outcome] = []
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        runner = running.Runner(Path(folder) / "scenes")
        for attack in chosen:
            for outcome in runner.run(attack):
                outcomes.append(outcome)
                good = outcome.safe(outcome.entry in attack.reads)
                if not (good and (given.any_figures or outcome.within_bounds())):
                    bad += 1
                    print(outcome, file=sys.stderr)
    print(f"{len(chosen)} attacks at {len(outcomes)} entry points, {bad} ended badly")
    if given.json:
        given.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes]))
    elif not bad and not given.words:
        RESULTS.write_text(table(outcomes))
        DOCUMENT.write_text(page(outcomes))
    return bool(bad)


if __name__ == "__main__":
    raise SystemExit(main())
