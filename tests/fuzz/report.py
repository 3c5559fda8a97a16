"""The results of fuzzing, as a table and as docs/fuzz.md."""

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
        failed: whether it ended with an error.
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
    """The result of a libFuzzer run, from its log.

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


TEXT = """# Fuzzing

Made by `make fuzz SECONDS={seconds}`: fuzz tests of every reader of the package and of the dense
CRF, on inputs that a fuzzer derives from valid ones, each target for {seconds} seconds of one
core, in addition to the corpus of previous runs. A target takes any bytes, accepts the errors of
`caffe_port.errors`, and checks the results: printed text is read back equal, an upgraded net
needs no upgrade, weights are equal after writing and reading, probabilities sum to 1. A find is
any other exception, a warning, an input that takes over 10 seconds or 2 GB, or, for the compiled
lattice, a report of AddressSanitizer or UndefinedBehaviorSanitizer.

{table}

*edges* counts the branches taken in this package's code, *features* also how often; libraries
(h5py, Pillow, torch) run but are not counted. *found* counts the finds of this run. All earlier
finds are fixed, and are tests in `tests/fuzz/test_found.py`.

## Changes with valid checksums

Most changes of single bytes fail at the first checksum or length. For formats with these, the
fuzzer also makes changes that keep them valid: one field of a protobuf message, at any depth,
with all lengths around it; one member of a zip archive with its checksum; an inflated element of
a MAT file or chunk of a PNG, compressed again; an entry of a safetensors header; a record of an
LMDB page; a dataset, link or attribute of an HDF5 file, exchanged through the library; a field,
layer or connection of a net, as a message.

## Reproducing a find

A find is kept in `build/fuzz/found`, and the run ends with the commands that reproduce it:

```text
found: python -m tests.fuzz netspec --replay build/fuzz/found/netspec/crash-0a4d55a8d778e5022f
```

`make fuzz RUNS=2000` starts from the seeds only, with a fixed random number: the same inputs every
time. Every change must pass it. Without [atheris](https://github.com/google/atheris), which has
wheels for Python 3.11 to 3.13 on Linux, changes are made at random; without clang, the lattice
gets random bytes under g++'s sanitizers.
"""
