"""Compares the port with any Caffe on random nets.

usage: python -m tools.differential --caffe "COMMAND" [-o FOLDER] [--cases N] [--seed N]
           [--kinds layer,net,solver,files] [--types TYPE,..] [--import FILE.py] [--jobs N]
           [--retry]

COMMAND starts a Python that can "import caffe": "python3", "chroot /debian python3",
"docker run -i --rm IMAGE python3", "ssh HOST python3". Nothing needs to be installed there. Both
sides get the same nets, drawn from what the port's layer types declare; where they differ, the case
is made small and written to FOLDER/differences. A run that was interrupted is resumed by the same
command. See docs/differential.md.

Exit status: 0 no differences but accepted ones, 1 differences, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from caffe_port.errors import CaffePortError, echo
from caffe_port.proto.dialects import DIALECTS, V2_TYPES
from caffe_port.spec.plugins import import_own
from tools.differential.cases import KINDS
from tools.differential.nets import Catalogue, catalogue_of
from tools.differential.other_side import THREADS
from tools.differential.progress import Progress
from tools.differential.report import Report, text_of, write
from tools.differential.running import Results, Setting, run
from tools.differential.shrinking import MAX_TRIES
from tools.differential.sides import CaffeSide


def main(arguments: list[str]) -> int:
    """Runs the test; returns the exit status."""
    options = parse(arguments)
    try:
        import_own(options.imports)
        with CaffeSide(options.caffe, options.timeout) as caffe:
            about = caffe.about()
        catalogue = catalogue_of(about["schema"], about["types"], options.types)
        setting = setting_of(options, about, catalogue)
        results = Results(options.out, setting, about["versions"], options.retry)
    except CaffePortError as error:
        echo(f"differential: {error}", err=True)
        return 2
    progress = Progress(len(results.outcomes), options.cases)
    interrupted = False
    try:
        run(setting, results, options.cases, options.jobs, progress)
    except KeyboardInterrupt:
        interrupted = True
    progress.close()
    command = f"python -m tools.differential {shlex.join(arguments)}"
    report = Report(list(results), about, catalogue, command)
    write(report, options.out)
    for line in text_of(report).splitlines():
        echo(line)
    echo(f"{options.out / 'report.html'}", err=True)
    if interrupted:
        echo("interrupted: run the same command again to resume", err=True)
        return 130
    return int(bool(report.differences))


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m tools.differential",
                                     description=__doc__.splitlines()[0])  # fmt: skip
    add, half = parser.add_argument, max(1, (os.cpu_count() or 1) // 2)
    add("--caffe", required=True, metavar="COMMAND", help='a Python that can "import caffe"')
    add("-o", "--out", type=Path, default=Path("differential"), help="folder (differential)")
    add("--cases", type=int, default=500, help="how many (500)")
    add("--seed", type=int, default=1, help="of all cases (1)")
    add("--kinds", type=_kinds, default=KINDS, help=f"of cases, from {','.join(KINDS)} (all)")
    add("--types", type=_words, default=(), help="layer types, separated by commas (all)")
    add("--import", action="append", default=[], dest="imports", metavar="FILE.py",
        help="layers of your own, registered as in docs/own_layer.md")  # fmt: skip
    add("--dialect", choices=DIALECTS, help="of the nets (found by the layer types)")
    add("--jobs", type=int, default=half, help=f"processes; 0 is this one alone ({half})")
    add("--timeout", type=float, default=60.0, help="seconds for one request (60)")
    add("--tries", type=int, default=MAX_TRIES, help=f"of smaller cases ({MAX_TRIES})")
    add("--retry", action="store_true", help="run the cases again that differed")
    return parser.parse_args(arguments)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def _kinds(text: str) -> tuple[str, ...]:
    words = _words(text)
    unknown = [word for word in words if word not in KINDS]
    if unknown or not words:
        raise argparse.ArgumentTypeError(f"'{text}'; expected some of {','.join(KINDS)}")
    return words


def setting_of(options: argparse.Namespace, about: dict[str, Any], catalogue: Catalogue) -> Setting:
    """The setting of a run, with the types that are drawn."""
    theirs = about["types"] or ()
    dialect = options.dialect or ("deeplab2" if V2_TYPES.intersection(theirs) else "bvlc")
    return Setting(
        options.caffe, options.seed, options.kinds, tuple(catalogue.types), dialect,
        options.timeout, options.tries, tuple(options.imports),
    )  # fmt: skip


if __name__ == "__main__":
    for _name in THREADS:  # the processes that carry out the cases share the cores
        os.environ.setdefault(_name, "1")
    os.environ.setdefault("GLOG_minloglevel", "2")  # the port's solver writes Caffe's log
    sys.exit(main(sys.argv[1:]))
