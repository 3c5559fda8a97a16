"""Builds a wheel for each Python and runs all tests against it under old and new libraries.

usage: python tools/matrix.py [--only NAME ...] [--work DIR] [-- PYTEST OPTIONS]

Each row is an environment of its own under --work (default .matrix), kept for the next time. The
result goes to docs/matrix.md. An interpreter that this machine lacks is said and passed over.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "matrix.md"
SHOWN = ("numpy", "protobuf", "torch", "h5py", "scipy", "pillow")


@dataclass(frozen=True)
class Row:
    """One environment: a Python, and what is pinned in it; all else is the newest that fits."""

    name: str
    python: str
    pins: tuple[str, ...] = ()


ROWS = (
    Row("oldest", "3.10", ("numpy==1.26.4", "protobuf==4.21.12", "torch==2.4.1", "scipy==1.11.4",
                           "h5py==3.10.0", "pillow==10.1.0")),
    Row("numpy1", "3.11", ("numpy==1.26.4", "protobuf==4.25.8", "torch==2.13.0")),
    Row("protobuf5", "3.11", ("protobuf==5.29.5", "torch==2.13.0")),
    Row("protobuf6", "3.12", ("protobuf==6.33.0", "torch==2.13.0")),
    Row("newest", "3.13", ("torch==2.13.0",)),
)  # fmt: skip


@dataclass
class Outcome:
    """What became of a row."""

    row: Row
    versions: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    trouble: str = ""

    @property
    def passed(self) -> bool:
        """Whether tests ran and none failed."""
        return not self.trouble and self.counts.get("passed", 0) > 0 and not (
            self.counts.get("failed", 0) or self.counts.get("error", 0)
        )  # fmt: skip


def main() -> None:
    """Runs the rows asked for and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS])
    parser.add_argument("--work", type=Path, default=ROOT / ".matrix")
    parser.add_argument("pytest", nargs="*", help="options for pytest")
    options = parser.parse_args()
    outcomes = []
    for row in ROWS:
        if options.only is None or row.name in options.only:
            outcomes.append(run(row, options.work, options.pytest))
            print(json.dumps(outcomes[-1].__dict__, default=lambda x: x.__dict__), flush=True)
    PAGE.write_text(page(outcomes, options.pytest), encoding="utf-8")
    sys.exit(0 if all(outcome.passed for outcome in outcomes) else 1)


def run(row: Row, work: Path, extra: Sequence[str]) -> Outcome:
    """Makes the row's environment, installs the wheel, runs the tests against it."""
    outcome, python = Outcome(row), interpreter(row.python)
    if python is None:
        outcome.trouble = f"no Python {row.python} here"
        return outcome
    began = time.monotonic()
    try:
        bin = environment(row, python, work)
        outcome.versions = versions(bin)
        files = [name for name in tracked() if not name.startswith("caffe_port/")]
        beside = copied(work / row.name / "beside", files)
        outcome.counts = tested(bin, beside, extra)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or "").strip().splitlines()
        outcome.trouble = said[-1] if said else f"status {error.returncode}"
    outcome.seconds = round(time.monotonic() - began)
    return outcome


def interpreter(version: str) -> str | None:
    """A Python of a version: on the path, or one that pyenv holds."""
    pyenv = Path.home() / ".pyenv" / "versions"
    candidates = [f"python{version}", *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")))]
    for candidate in candidates:
        found = shutil.which(candidate)
        if found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:  # noqa: PLW1510
            return found
    return None


def environment(row: Row, python: str, work: Path) -> Path:
    """The row's virtual environment with the wheel of this checkout in it."""
    folder = work / row.name
    bin = folder / "venv" / "bin"
    if not bin.is_dir():
        call([python, "-m", "venv", folder / "venv"])
        call([bin / "pip", "install", "--quiet", "--upgrade", "pip"])
    pins = folder / "constraints.txt"
    pins.write_text("\n".join(row.pins) + "\n", encoding="utf-8")
    for old in folder.glob("*.whl"):
        old.unlink()
    source = copied(folder / "source", tracked())
    call([bin / "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source])
    (wheel,) = folder.glob("*.whl")
    limits = ["--constraint", pins]
    call([bin / "pip", "install", "--quiet", *limits, f"{wheel}[test]"])
    call([bin / "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel])
    return bin


def versions(bin: Path) -> dict[str, str]:
    """Python's and the libraries' versions in an environment."""
    listed = json.loads(call([bin / "pip", "list", "--format", "json"]))
    found = {item["name"].lower(): item["version"] for item in listed}
    python = call([bin / "python", "-c", "import platform; print(platform.python_version())"])
    return {"python": python.strip(), **{name: found.get(name, "") for name in SHOWN}}


def tracked() -> list[str]:
    """The checkout's files, without what was built in it."""
    return call(["git", "-C", ROOT, "ls-files", "-z"]).strip("\0").split("\0")


def copied(target: Path, names: Sequence[str]) -> Path:
    """A copy of some of the checkout's files."""
    shutil.rmtree(target, ignore_errors=True)
    for name in names:
        if os.path.lexists(ROOT / name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
    return target


def tested(bin: Path, beside: Path, extra: Sequence[str]) -> dict[str, int]:
    """Runs pytest; counts by outcome."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{bin}:{os.environ['PATH']}"}
    ran = subprocess.run(
        [bin / "python", "-m", "pytest", *extra],
        cwd=beside, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    (beside.parent / "pytest.log").write_text(ran.stdout + ran.stderr, encoding="utf-8")
    return {
        word.rstrip("s") if word == "errors" else word: int(count)
        for count, word in last(ran.stdout)
    }


def last(output: str) -> Iterator[tuple[str, str]]:
    """The pairs of pytest's last line, such as ('12', 'passed')."""
    for line in reversed(output.splitlines()):
        found = re.findall(r"(\d+) (passed|failed|skipped|error|errors)\b", line)
        if found:
            yield from found
            return


def call(arguments: Sequence[str | Path]) -> str:
    """Runs a command and gives what it wrote.

    Raises:
        CalledProcessError: with what it said.
    """
    ran = subprocess.run([str(a) for a in arguments], check=True, capture_output=True, text=True)
    return ran.stdout


def page(outcomes: Sequence[Outcome], chosen: Sequence[str]) -> str:
    """The result as a page of the book."""
    which = f"the tests of `{' '.join(chosen)}`" if chosen else "all tests"
    lines = [
        "# Where it runs",
        "",
        "Made by `make matrix`: a wheel is built for each Python and installed beside these",
        f"libraries, and {which} run against it, the checkout's own sources out of the way.",
        "",
        "| environment | Python | " + " | ".join(SHOWN) + " | tests |",
        "|---|---|" + "---|" * (len(SHOWN) + 1),
    ]
    for outcome in outcomes:
        found = [outcome.versions.get(name, "") for name in ("python", *SHOWN)]
        result = outcome.trouble or ", ".join(f"{n:,} {word}" for word, n in outcome.counts.items())
        lines.append(f"| {outcome.row.name} | " + " | ".join(found) + f" | {result} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
