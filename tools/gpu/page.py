"""The results as JSON, as a table on the terminal, and on the page docs/gpu.md."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from caffe_port.files import write_text
from tools.gpu.outcome import Row
from tools.gpu.parts import PARTS, ROOT, Outcome

RESULTS, PAGE = ROOT / "docs" / "gpu.json", ROOT / "docs" / "gpu.md"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
NEVER = (
    "**This command has never been run on a GPU**, so there is no figure here. What is known "
    "without one is [below](#without-a-gpu)."
)
SHOWN_FAILURES = 12


def machine(device: str) -> dict[str, str]:
    """What was checked, and on what; without the date, so that two runs can be compared."""
    import torch

    facts = {"device": platform.processor() or "CPU", "driver": "none", "torch": torch.__version__}
    if device.startswith("cuda"):
        facts["device"] = torch.cuda.get_device_name(device)
        facts["capability"] = ".".join(map(str, torch.cuda.get_device_capability(device)))
        facts["driver"] = driver()
        facts["CUDA"] = str(torch.version.cuda)
        facts["cuDNN"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    for package in ("triton", "caffe-port"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "absent"
    return {**facts, "Python": platform.python_version(), "commit": commit()}


def commit() -> str:
    """The checkout's commit; '+' where code was changed since."""

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )

    found = git("rev-parse", "--short=10", "HEAD").stdout.strip() or "unknown"
    changed = git("diff", "--quiet", "HEAD", "--", "caffe_port", "tests", "tools").returncode
    return found + "+" * bool(changed)


def driver() -> str:
    """The version of NVIDIA's driver."""
    path = Path("/proc/driver/nvidia/version")
    words = path.read_text().split() if path.is_file() else []
    return next((word for word in words if word[:1].isdigit() and "." in word), "unknown")


def write_results(path: Path, facts: Mapping[str, str], found: Mapping[str, Outcome]) -> None:
    """Writes the results so far."""
    stored = {"date": time.strftime("%Y-%m-%d"), "machine": dict(facts),
              "parts": {name: asdict(outcome) for name, outcome in found.items()}}  # fmt: skip
    write_text(path, json.dumps(stored, indent=1) + "\n")


def read_results(path: Path, facts: Mapping[str, str]) -> dict[str, Outcome]:
    """Results of an earlier run on the same machine with the same versions, else none."""
    if not path.is_file():
        return {}
    stored = json.loads(path.read_text(encoding="utf-8"))
    if stored["machine"] != facts:
        return {}
    return {name: Outcome.of(outcome) for name, outcome in stored["parts"].items()}


def counted(rows: tuple[Row, ...]) -> Iterator[tuple[str, str, str]]:
    """Group, what became of its checks, and the largest error as a part of its bound."""
    for group in dict.fromkeys(row.group for row in rows if row.passed is not None):
        own = [row for row in rows if row.group == group and row.passed is not None]
        good = sum(bool(row.passed) for row in own)
        worst = max((row.worst for row in own if row.worst is not None), default=None)
        words = f"all {good} pass" if good == len(own) else f"{good} of {len(own)} pass"
        if not all(row.required for row in own):
            words += " (reported only)"
        yield group, words, "" if worst is None else f"{worst:.2f}"


def table(found: Mapping[str, Outcome]) -> str:
    """All results as plain text."""
    lines = []
    for part in PARTS:
        if part.name not in found:
            continue
        outcome = found[part.name]
        lines.append(f"{part.title}: {outcome.status}, {outcome.seconds:.0f} s")
        lines += [f"  {outcome.message}"] if outcome.message else []
        lines += [f"  {group}: {words}{f', largest error {worst} of its bound' if worst else ''}"
                  for group, words, worst in counted(outcome.rows)]  # fmt: skip
        lines += [f"  FAILED {row.group}, {row.name}: {row.found}"
                  for row in outcome.rows if row.failed]  # fmt: skip
        lines += [f"  {row.group}, {row.name}: {row.found}"
                  for row in outcome.rows if row.passed is None]  # fmt: skip
    return "\n".join(lines)


def markdown(stored: Mapping[str, Any]) -> str:
    """The page's tables."""
    facts = ", ".join(f"{name} {value}" for name, value in stored["machine"].items())
    parts = {name: Outcome.of(part) for name, part in stored["parts"].items()}
    lines = [f"Run on {stored['date']}: {facts}.", ""]
    lines += ["| part | outcome | seconds |", "|---|---|---|"]
    for part in PARTS:
        outcome = parts.get(part.name, Outcome("not run", 0, ()))
        words = outcome.status + (f": {cell(outcome.message)}" if outcome.message else "")
        lines.append(f"| {part.title} | {words} | {outcome.seconds:.0f} |")
    lines += ["", "| checks | passed | largest error, of its bound |", "|---|---|---|"]
    for outcome in parts.values():
        lines += [f"| {cell(group)} | {words} | {worst} |"
                  for group, words, worst in counted(outcome.rows)]  # fmt: skip
    return "\n".join([*lines, *failures(parts), *measured(parts)])


def failures(parts: Mapping[str, Outcome]) -> list[str]:
    """Lines of what failed, if anything did."""
    failed = [row for outcome in parts.values() for row in outcome.rows if row.failed]
    if not failed:
        return []
    lines = ["", "| failed | found |", "|---|---|"]
    lines += [f"| {cell(f'{row.group}: {row.name}')} | {cell(row.found)} |"
              for row in failed[:SHOWN_FAILURES]]  # fmt: skip
    return [*lines, f"| {len(failed) - SHOWN_FAILURES} more | |"] if len(
        failed) > SHOWN_FAILURES else lines  # fmt: skip


def measured(parts: Mapping[str, Outcome]) -> list[str]:
    """Lines of what was measured only."""
    rows = [row for outcome in parts.values() for row in outcome.rows if row.passed is None]
    if not rows:
        return []
    lines = [f"| {cell(row.group)} | {cell(row.name)} | {cell(row.found)} |" for row in rows]
    return ["", "| measured | of | found |", "|---|---|---|", *lines]


def cell(text: str) -> str:
    """Text that a table's cell can hold."""
    return text.replace("|", "\\|").replace("\n", " ")


def write_page(path: Path, stored: Mapping[str, Any] | None) -> None:
    """Puts the results between the marks of the page; without any, that there are none."""
    text = path.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    shown = NEVER if stored is None else markdown(stored)
    write_text(path, f"{head}{BEGIN}\n{shown}\n{END}{tail}")
