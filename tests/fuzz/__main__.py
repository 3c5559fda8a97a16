"""``python -m tests.fuzz``: see README.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.fuzz.effort import Effort
from tests.fuzz.engines import has_atheris, load_targets, plainly, with_atheris
from tests.fuzz.lattice import run_lattice
from tests.fuzz.report import HEAD, LATTICE, PAGE, page


def main() -> int:
    """Runs the targets of the command line; the exit status shows whether something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", help="names of targets; all of them when left out")
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--seconds", type=int, default=60, help="for each target")
    effort.add_argument("--runs", type=int, help="for each target, the same inputs every time")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    parser.add_argument("--plain", action="store_true", help="without atheris")
    parser.add_argument("--replay", type=Path, help="only run the one target on this file")
    given = parser.parse_args()
    guided = not given.plain and has_atheris()
    TARGETS = load_targets(guided=guided)  # noqa: N806
    names = given.target or [*TARGETS, LATTICE]
    if unknown := [name for name in names if name not in (*TARGETS, LATTICE)]:
        parser.error(f"no target {unknown[0]}; there are {', '.join(TARGETS)}, {LATTICE}")
    if given.replay:
        if len(given.target) != 1 or names == [LATTICE]:
            parser.error("--replay needs the name of one target, of those in Python")
        TARGETS[names[0]].check(given.replay.read_bytes())
        return 0
    effort, python = Effort(given.seconds, given.runs), [n for n in names if n != LATTICE]
    chosen = {name: TARGETS[name] for name in python}
    print("\n".join(HEAD), flush=True)
    results = with_atheris(chosen, effort, given.jobs) if guided else plainly(chosen, effort)
    results += [run_lattice(effort) for name in names if name == LATTICE]
    if not given.target and given.runs is None:
        PAGE.write_text(page(results, given.seconds), encoding="utf-8")
    for result in results:
        for command in result.again():
            print(f"found: {command}")
    return any(result.failed for result in results)


if __name__ == "__main__":
    raise SystemExit(main())
