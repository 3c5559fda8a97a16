"""``python -m tests.attacks``: runs every attack and writes the table; see README.md."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.attacks import running
from tests.attacks.attack import Attack
from tests.attacks.report import page, table
from tests.attacks.running import Outcome
from tests.goldens_dir import ROOT

DOCUMENT, RESULTS = ROOT / "docs" / "security.md", ROOT / "docs" / "security.json"
JOURNAL = ROOT / "build" / "attacks.jsonl"  # what a run has found so far
EVERY = 25  # attacks between two lines of progress


def main() -> int:
    """Exit status: 0 when every attack ended as it must, 1 when one did not."""
    given = _arguments()
    running.prepare()
    from tests.attacks.everything import ATTACKS

    chosen = [a for a in ATTACKS if not given.words or any(w in str(a) for w in given.words)]
    JOURNAL.parent.mkdir(exist_ok=True)
    done = _journal() if given.resume else {}
    JOURNAL.write_text("".join(f"{json.dumps(found)}\n" for found in done.values()))
    _run([attack for attack in chosen if not _found(attack, done)], given.jobs)
    done = _journal()
    outcomes = [outcome for attack in chosen for outcome in _found(attack, done)]
    bad = [o for a in chosen for o in _found(a, done) if not _good(a, o, given.any_figures)]
    for outcome in bad:
        print(outcome, file=sys.stderr)
    print(f"{len(chosen)} attacks at {len(outcomes)} entry points, {len(bad)} ended badly")
    whole = len(outcomes) == sum(len(attack.entries) for attack in chosen)
    if given.json:
        given.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes]))
    elif whole and not bad and not given.words:
        RESULTS.write_text(table(outcomes))
        DOCUMENT.write_text(page(outcomes))
    return not whole or bool(bad)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("words", nargs="*", help="only attacks whose family or name holds one")
    parser.add_argument("--jobs", type=int, default=1, help="attacks at a time")
    parser.add_argument("--resume", action="store_true", help="resume the last run")
    parser.add_argument("--json", type=Path, help="write the outcomes here, and no document")
    parser.add_argument("--any-figures", action="store_true", help="seconds and MB may be any")
    return parser.parse_args()


def _good(attack: Attack, outcome: Outcome, any_figures: bool) -> bool:
    return outcome.safe(outcome.entry in attack.reads) and (any_figures or outcome.within_bounds())


def _journal() -> dict[str, list[dict[str, Any]]]:
    """The outcomes by attack, of a file whose last line may be cut off."""
    lines = JOURNAL.read_text().splitlines(keepends=True) if JOURNAL.exists() else []
    whole = (json.loads(line) for line in lines if line.endswith("\n"))
    return {f"{found[0]['family']}: {found[0]['attack']}": found for found in whole}


def _found(attack: Attack, done: dict[str, list[dict[str, Any]]]) -> list[Outcome]:
    return [Outcome(**found) for found in done.get(str(attack), [])]


def _run(attacks: Sequence[Attack], jobs: int) -> None:
    """Runs attacks in processes that each take the next one, and notes what they found."""
    fork = multiprocessing.get_context("fork")
    place = fork.Value("i", 0)
    with tempfile.TemporaryDirectory() as folder:
        workers = [
            fork.Process(target=_work, args=(attacks, Path(folder) / str(n), place))
            for n in range(jobs)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


def _work(attacks: Sequence[Attack], folder: Path, place: Any) -> None:
    runner = running.Runner(folder)
    while True:
        with place.get_lock():
            number, place.value = place.value, place.value + 1
        if number >= len(attacks):
            return
        found = json.dumps([asdict(outcome) for outcome in runner.run(attacks[number])])
        with place.get_lock(), JOURNAL.open("a") as journal:
            journal.write(f"{found}\n")
        if (number + 1) % EVERY == 0:
            print(f"{number + 1} of {len(attacks)} attacks", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
