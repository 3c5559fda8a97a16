"""How long a target is tried, and where its files are."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import LIMIT, slowness

FOLDER = Path("build/fuzz")
SLOWEST = 10  # seconds for one input, on an idle machine of the usual speed
MEGABYTES = 2048
LONGEST = 40_000  # bytes of an input


@dataclass(frozen=True)
class Effort:
    """How long to try each target.

    Attributes:
        seconds: from what former runs have collected, with a new seed.
        runs: instead, so many inputs from the seeds alone: the same ones every time.
    """

    seconds: int
    runs: int | None = None

    @property
    def seed(self) -> int:
        """Of the random numbers."""
        return int(time.time()) if self.runs is None else 1

    def corpus(self, name: str, work: Path) -> Path:
        """The folder that libFuzzer reads and extends."""
        made = FOLDER / "corpus" / name if self.runs is None else work / "corpus"
        made.mkdir(parents=True, exist_ok=True)
        return made

    def found(self, name: str) -> Path:
        """Where inputs go that end in a bug."""
        made = FOLDER / "found" / name
        made.mkdir(parents=True, exist_ok=True)
        return made

    def options(self, name: str) -> list[str]:
        """For libFuzzer."""
        how_long, slowest = f"-max_total_time={self.seconds}", SLOWEST * slowness()
        if self.runs is not None:  # a check, which may run on a busy machine
            how_long, slowest = f"-runs={self.runs}", LIMIT
        return [
            how_long, f"-seed={self.seed}", f"-artifact_prefix={self.found(name).resolve()}/",
            f"-timeout={slowest:.0f}", f"-rss_limit_mb={MEGABYTES}", f"-max_len={LONGEST}",
            "-print_final_stats=1",
        ]  # fmt: skip
