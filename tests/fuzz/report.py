"""What came out of fuzzing, as a table and as docs/fuzz.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.goldens_dir import ROOT

PAGE = ROOT / "docs" / "fuzz.md"
LATTICE = "lattice"  # the target in C++
_STATE = re.compile(r"^#(\d+)\s+\S+\s+cov: (\d+) ft: (\d+)", re.MULTILINE)
_KEPT = re.compile(r"Test unit written to (\S+)")


@dataclass(frozen=True)
class Result:
    """One target's run.

    Attributes:
        target, engine: names.
        runs: inputs tried.
        edges, features: of the program, as libFuzzer counts them; None without it.
        failed: it ended otherwise than well.
        found: files with the inputs that did it.
    """

    target: str
    engine: str
    runs: int
    edges: int | None = None
    features: int | None = None
    failed: bool = False
    found: tuple[Path, ...] = ()

    def line(self) -> str:
        """The row of a Markdown table."""
        edges, features = ("" if n is None else f"{n:,}" for n in (self.edges, self.features))
        bad = len(self.found) or ("failed" if self.failed else 0)
        return f"| {self.target} | {self.engine} | {self.runs:,} | {edges} | {features} | {bad} |"

    def again(self) -> list[str]:
        """The commands that run what was found again."""
        run = f"python -m tests.fuzz {self.target} --replay"
        if self.target == LATTICE:
            run = "build/fuzz/lattice_fuzzer"
        return [f"{run} {file}" for file in self.found]


def from_log(target: str, engine: str, log: Path, code: int) -> Result:
    """A run of libFuzzer by what it said.

    Args:
        target, engine: names.
        log: the file it wrote.
        code: its exit status.
    """
    said = log.read_text(encoding="utf-8", errors="replace")
    states = _STATE.findall(said) or [(0, 0, 0)]
    runs, edges, features = map(int, states[-1])
    found = tuple(Path(name) for name in _KEPT.findall(said))
    if code:
        print("\n".join(said.splitlines()[-40:]))
    return Result(target, engine, runs, edges, features, code != 0, found)


HEAD = ["| target | engine | inputs | edges | features | found |", "|---|---|---|---|---|---|"]


def rows(results: Sequence[Result]) -> list[str]:
    """The table."""
    return [*HEAD, *(result.line() for result in results)]


def page(results: Sequence[Result], seconds: int) -> str:
    """The page of the documentation."""
    return TEXT.format(seconds=seconds, table="\n".join(rows(results)))


TEXT = """# Fuzzed

Made by `make fuzz SECONDS={seconds}`: every reader of the package, and the dense CRF, on inputs
that a fuzzer makes from good ones, each target for {seconds} seconds of one core, on top of what
former runs had collected. A target takes any bytes, expects the named errors of
`caffe_port.errors`, and checks what came out: what is printed is read as the same, an upgraded net
needs no upgrade, weights that were read can be written and come back, probabilities sum to 1.
Anything else is found: another exception, a warning, an input that takes over 10 seconds or 2 GB,
and for the compiled lattice whatever AddressSanitizer or UndefinedBehaviorSanitizer says.

{table}

*Edges* are the jumps of our own code that were taken, *features* also count how often; libraries
(h5py, Pillow, torch) are run, but not counted. *found* is what this run found. All that was ever
found was mended, and is kept as a test in `tests/fuzz/test_found.py`.

## Getting behind the front door

Most changes of single bytes are turned away by the first checksum or length. Where a format has
such, the fuzzer also makes changes that keep them right: one field of a protobuf message, at any
depth, with all lengths around it; one member of a zip archive with its checksum; an inflated
element of a MAT file or chunk of a PNG, packed again; an entry of a safetensors header; a record
of an LMDB page; a dataset, link or attribute of an HDF5 file, exchanged through the library; a
field, layer or connection of a net, as a message.

## A find again

A find is kept below `build/fuzz/found`, and the run ends with the commands that show it:

```text
found: python -m tests.fuzz netspec --replay build/fuzz/found/netspec/crash-0a4d55a8d778e5022f
```

`make fuzz RUNS=2000` starts from the seeds alone and from one random number: the same inputs every
time. Every change has to pass it. Without [atheris](https://github.com/google/atheris), which has
wheels for Python 3.11 to 3.13 on Linux, changes are made at random; without clang, the lattice
gets random bytes under g++'s sanitizers.
"""
