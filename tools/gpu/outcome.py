"""What a part of the check found: a line of JSON for each comparison and each measured time.

A part writes each line as soon as it is known, so that a crash or a limit of time loses nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One line.

    Attributes:
        group: of equal things, which the page counts together.
        name: which of them.
        passed: None for what is measured only.
        found: in words.
        required: whether the check fails where this did not pass.
        worst: the error as a part of its bound; None where there is none.
        figures: measured numbers by name, such as {"ms": 3.1}.
    """

    group: str
    name: str
    passed: bool | None
    found: str = ""
    required: bool = True
    worst: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it makes the whole check fail."""
        return self.passed is False and self.required

    def line(self) -> str:
        """The row as JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Setting:
    """How the parts run.

    Attributes:
        device: as torch names it.
        small: small sizes and few cases, as for the tests on a CPU.
        only: a word; cases without it in their name are left out.
    """

    device: str
    small: bool
    only: str = ""

    @property
    def on_gpu(self) -> bool:
        """Whether it is a CUDA device."""
        return self.device.startswith("cuda")

    def wants(self, name: str) -> bool:
        """Whether a case of that name is to run."""
        return self.only in name


Run = Callable[[Setting], Iterator[Row]]


def within(
    group: str, name: str, error: float, bound: float, *, required: bool = True, what: str = "error"
) -> Row:
    """A row of an error and its bound; NaN does not pass."""
    passed = math.isfinite(error) and error <= bound
    found = f"{what} {error:.1e}, at most {bound:.0e}"
    worst = error / bound if math.isfinite(error) else None
    return Row(group, name, passed, found, required, worst)


def equal(group: str, name: str, differing: int, of: int, what: str) -> Row:
    """A row of things that have to be equal."""
    return Row(group, name, differing == 0, f"{differing} of {of:,} {what} differ")


def read_rows(path: Path) -> list[Row]:
    """The rows that a part has written; a last line that was cut off is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [Row(**json.loads(line)) for line in lines]


def write_rows(path: Path, rows: Iterable[Row]) -> bool:
    """Writes rows as they come, one line each.

    Returns:
        Whether any of them failed.
    """
    failed = False
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(row.line() + "\n")
            file.flush()
            failed = failed or row.failed
    return failed
