"""Timing several ways of doing one thing in turn, so that a drifting machine slows all alike."""

from __future__ import annotations

import gc
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def interleave(
    ways: Mapping[str, Callable[[], object]],
    repeats: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each way, taken A B C A B C ...

    Args:
        ways: name -> what to time.
        repeats: counted rounds.
        warmup: rounds before these.
        clock: wall seconds, or the process's, which other work on the machine leaves alone.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-warmup, repeats):
        for name, way in ways.items():
            gc.collect()
            started = clock()
            way()
            if turn >= 0:
                seconds[name].append(clock() - started)
    return seconds


def summary(seconds: Mapping[str, list[float]], base: str) -> dict[str, dict[str, float]]:
    """Median seconds of each way and the median, over the rounds, of its ratio to ``base``."""
    return {
        name: {
            "seconds": round(statistics.median(times), 5),
            "ratio": round(
                statistics.median(a / b for a, b in zip(times, seconds[base], strict=True)), 3
            ),
        }
        for name, times in seconds.items()
    }


def peak() -> int:
    """The most bytes that this process has had in memory."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def versions(*packages: str) -> dict[str, str]:
    """Versions of what was measured, and the machine."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "cpus": str(os.cpu_count())}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def report(subject: str, result: Mapping[str, Any]) -> None:
    """Writes the result as JSON and prints its tables."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{subject}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{subject}")
    for title, table in result["tables"].items():
        print(f"  {title}")
        for name, figures in table.items():
            cells = "  ".join(f"{key} {value:>9}" for key, value in figures.items())
            print(f"    {name:44} {cells}")
