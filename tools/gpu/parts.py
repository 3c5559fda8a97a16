"""The parts of the check, the most important first, each with its share of eight minutes."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.gpu.outcome import Row, Run, Setting, read_rows, write_rows

ROOT = Path(__file__).resolve().parents[2]

ON_A_CPU = 900  # seconds of each part, whatever else the machine does


@dataclass(frozen=True)
class Part:
    """One part, which runs in a process of its own.

    Attributes:
        name: also of its module.
        title: for the page.
        seconds: after which it is ended.
    """

    name: str
    title: str
    seconds: int

    def run(self, setting: Setting, path: Path) -> bool:
        """Runs it in this process; returns whether a row failed."""
        run: Run = importlib.import_module(f"tools.gpu.{self.name}").run
        return write_rows(path, run(setting))


PARTS = (
    Part("kernels", "Triton kernels against the reference", 115),
    Part("goldens", "Recordings of Caffe, by the rule of `verify`", 110),
    Part("modes", "Mixed precision, channels_last and torch.compile", 90),
    Part("training", "Training, with one process of NCCL", 50),
    Part("evaluating", "Evaluation with the CRF next to the network", 40),
    Part("timing", "Times", 75),
)
NAMES = tuple(part.name for part in PARTS)


def part_of(name: str) -> Part:
    """The part of that name."""
    return PARTS[NAMES.index(name)]


@dataclass(frozen=True)
class Outcome:
    """What became of a part.

    Attributes:
        status: "passed", "failed" (a row failed), "crashed", "not finished" (its time was over) or
            "nothing to check".
        seconds: how long it took.
        rows: what it wrote before that.
        message: the last words of a crash.
    """

    status: str
    seconds: float
    rows: tuple[Row, ...]
    message: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it says nothing against the port."""
        return self.status == "passed"

    @staticmethod
    def of(stored: Mapping[str, Any]) -> Outcome:
        """From JSON."""
        rows = tuple(Row(**row) for row in stored["rows"])
        return Outcome(stored["status"], stored["seconds"], rows, stored["message"])


def command(part: Part, setting: Setting, path: Path) -> list[str]:
    """What runs a part alone."""
    words = [sys.executable, "-m", "tools.gpu", "--device", setting.device, "--only", setting.only]
    words += ["--small"] if setting.small else []
    return [*words, "--part", part.name, "--rows", str(path)]


def environment(setting: Setting) -> dict[str, str]:
    """That of a part: trainings are silent; without a GPU kernels run in Triton's interpreter."""
    variables = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    variables["GLOG_minloglevel"] = "2"
    if not setting.on_gpu:
        variables["TRITON_INTERPRET"] = "1"
    return variables


def run_part(part: Part, setting: Setting, seconds: float | None = None) -> Outcome:
    """Runs a part in a process of its own, for a limited time.

    Args:
        part: which one.
        setting: how.
        seconds: the limit, in place of the part's own, which is meant for a GPU.
    """
    limit = seconds or (part.seconds if setting.on_gpu else ON_A_CPU)
    with tempfile.TemporaryDirectory() as folder:
        path, started = Path(folder) / "rows", time.monotonic()
        words, message, code = command(part, setting, path), "", None
        try:
            done = subprocess.run(
                words, cwd=ROOT, env=environment(setting), stderr=subprocess.PIPE, text=True,
                errors="replace", timeout=limit, check=False,
            )  # fmt: skip
            code, message = done.returncode, last_line(done.stderr)
        except subprocess.TimeoutExpired:
            message = f"its {limit:g} s were over"
        rows = tuple(read_rows(path))
        return Outcome(status(code, rows), time.monotonic() - started, rows,
                       "" if code in (0, 1) and rows else message)  # fmt: skip


def status(code: int | None, rows: Sequence[Row]) -> str:
    """What a part's exit status and rows say; no exit status if its time was over."""
    if any(row.failed for row in rows):
        return "failed"
    if code is None:
        return "not finished"
    if code:
        return "crashed"
    return "passed" if rows else "nothing to check"


def last_line(text: str) -> str:
    """The last words on standard error, such as those of an exception."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"
