"""`make gpu`: what can be checked on one CUDA GPU, within eight minutes.

Prints a table, writes docs/gpu.json and the table of docs/gpu.md. Each part runs in a process of
its own and has its own limit of time; what was found before a crash or the limit counts.

Exit status: 0 everything passes, 1 something fails, crashes or is not finished, 2 there is no such
device. `--device cpu` runs all parts on the CPU, kernels in Triton's interpreter, in small sizes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.gpu.outcome import Setting
from tools.gpu.page import PAGE, RESULTS, machine, read_results, table, write_page, write_results
from tools.gpu.parts import NAMES, Outcome, Part, part_of, run_part


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.gpu", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--device", default="cuda", help="as torch names it (default: cuda)")
    parser.add_argument(
        "--parts", default=",".join(NAMES), help=f"some of {','.join(NAMES)} (default: all)"
    )
    parser.add_argument(
        "--again", action="store_true",
        help="run the chosen parts again and keep the others' results; by default a part that "
        "passed on this machine is not repeated",
    )  # fmt: skip
    parser.add_argument("--only", default="", help="only cases with this word in their names")
    parser.add_argument("-o", "--out", type=Path, help=f"the JSON file (default: {RESULTS.name})")
    parser.add_argument("--small", action="store_true", help="small sizes, as on the CPU")
    parser.add_argument("--seconds", type=float, help="limit of each part")
    parser.add_argument("--part", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    found = parser.parse_args(given)
    unknown = set(found.parts.split(",")) - set(NAMES)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    return found


def refused(device: str) -> str:
    """Why the check cannot run there; '' if it can."""
    from caffe_port.errors import UsageError
    from caffe_port.live.mode import expect_device

    try:
        expect_device(device)
    except UsageError as error:
        return f"{error}; --device cpu runs the parts that need no GPU, in small sizes"
    return ""


def chosen(given: argparse.Namespace, known: Mapping[str, Outcome]) -> list[Part]:
    """The parts to run: with `--again` all that were named, else those that have not passed."""
    named = [part_of(name) for name in NAMES if name in given.parts.split(",")]
    return [p for p in named if given.again or not (p.name in known and known[p.name].is_good)]


def check(given: argparse.Namespace) -> int:
    """Runs the parts and reports; returns the exit status."""
    if why := refused(given.device):
        print(f"gpu: {why}", file=sys.stderr)
        return 2
    setting = Setting(given.device, given.small or not given.device.startswith("cuda"), given.only)
    # of a run on the CPU there is nothing for the page
    out = given.out or (RESULTS if setting.on_gpu else None)
    facts = machine(given.device)
    found = read_results(out, facts) if out is not None else {}
    for part in chosen(given, found):
        print(f"{part.title} ({part.name}) ...", flush=True)
        found[part.name] = run_part(part, setting, given.seconds)
        print(f"  {found[part.name].status}, {found[part.name].seconds:.0f} s", flush=True)
        if out is not None:
            write_results(out, facts, found)
    print("\n" + table(found))
    if out == RESULTS:
        write_page(PAGE, json.loads(RESULTS.read_text(encoding="utf-8")))
        print(f"written: {RESULTS} and the table of {PAGE}")
    named = given.parts.split(",")
    return 0 if all(found[name].is_good for name in named) else 1


def main(given: Sequence[str]) -> int:
    """Runs one part in this process, or all in their own."""
    options = arguments(given)
    if options.part is None:
        return check(options)
    setting = Setting(options.device, options.small, options.only)
    return int(part_of(options.part).run(setting, options.rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
