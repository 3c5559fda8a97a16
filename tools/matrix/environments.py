"""Environments in which wheels are tested: a Python, pinned libraries, the wheel and the tests."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent.parent
WORK = ROOT / ".matrix"
SHOWN = ("numpy", "protobuf", "torch", "h5py", "scipy", "pillow")


@dataclass(frozen=True)
class Row:
    """One environment: a Python and pinned libraries; all others are the newest that fit."""

    name: str
    python: str
    pins: tuple[str, ...] = ()


ROWS = (
    # the oldest that pyproject.toml allows
    Row("oldest", "3.10", ("numpy==1.26.4", "protobuf==4.21.12", "torch==2.4.1", "scipy==1.11.4",
                           "h5py==3.10.0", "pillow==10.1.0", "safetensors==0.4.3", "click==8.2.0",
                           "rich==13.0.0", "starlette==0.41.3", "uvicorn==0.30.0")),
    Row("numpy1", "3.11", ("numpy==1.26.4", "protobuf==4.25.8", "torch==2.13.0")),
    Row("protobuf5", "3.11", ("protobuf==5.29.5", "torch==2.13.0")),
    Row("protobuf6", "3.12", ("protobuf==6.33.0", "torch==2.13.0")),
    Row("newest", "3.13", ("torch==2.13.0",)),
)  # fmt: skip


@dataclass
class Tally:
    """The result of a pytest run: counts by outcome, reasons of skips, names of failures."""

    counts: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether tests ran and none failed."""
        return self.counts.get("passed", 0) > 0 and not self.failed


def call(arguments: Iterable[str | Path], **options: object) -> str:
    """Runs a command; returns its standard output.

    Raises:
        CalledProcessError: with its output.
    """
    words = [str(word) for word in arguments]
    ran = subprocess.run(words, check=True, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    return str(ran.stdout)


def last_line(error: subprocess.CalledProcessError) -> str:
    """The last line of the output of a failed command."""
    lines = (error.stderr or error.stdout or "").strip().splitlines()
    return lines[-1] if lines else f"status {error.returncode}"


def tracked() -> list[str]:
    """The tracked files of the checkout."""
    return call(["git", "-C", ROOT, "ls-files", "-z"]).strip("\0").split("\0")


def commit() -> str:
    """The checkout's commit, with a + where files differ from it."""
    name = call(["git", "-C", ROOT, "rev-parse", "--short=10", "HEAD"]).strip()
    changed = call(["git", "-C", ROOT, "status", "--porcelain", "--untracked-files=no"])
    return name + ("+" if changed.strip() else "")


def fingerprint(names: Iterable[str]) -> str:
    """One value for the names and contents of some of the checkout's files."""
    digest = hashlib.sha256()
    for name in sorted(names):
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def machine() -> str:
    """A description of this machine."""
    libc = " ".join(platform.libc_ver())
    return f"Linux on {platform.machine()}, {libc}, {os.cpu_count()} cores"


def copied(target: Path, names: Iterable[str]) -> Path:
    """A copy of some of the checkout's files."""
    shutil.rmtree(target, ignore_errors=True)
    for name in names:
        if os.path.lexists(ROOT / name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
    return target


def interpreter(version: str) -> str | None:
    """A Python of a version: on the path, or pyenv's."""
    pyenv = Path.home() / ".pyenv" / "versions"
    candidates = [f"python{version}", *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")))]
    for candidate in candidates:
        found = shutil.which(candidate)
        # pyenv's shims are on the path even for Pythons that are not chosen; those only fail
        if found and subprocess.call([found, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            return found
    return None


def environment(row: Row, python: str, work: Path, wheel: Path) -> Path:
    """The programs of the row's virtual environment with the wheel, made if missing."""
    folder = work / row.name
    bin = folder / "venv" / "bin"
    if not (bin / "pip").exists():
        call([python, "-m", "venv", "--clear", folder / "venv"])
        call([bin / "pip", "install", "--quiet", "--upgrade", "pip"])
    pins = folder / "constraints.txt"
    pins.write_text("\n".join(row.pins) + "\n", encoding="utf-8")
    call([bin / "pip", "install", "--quiet", "--constraint", pins, f"{wheel.resolve()}[test]"])
    call([bin / "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel.resolve()])
    return bin


def versions(bin: Path) -> dict[str, str]:
    """Python's and the libraries' versions in an environment."""
    listed = json.loads(call([bin / "pip", "list", "--format", "json"]))
    found = {item["name"].lower(): item["version"] for item in listed}
    python = call([bin / "python", "-c", "import platform; print(platform.python_version())"])
    return {"python": python.strip(), **{name: found.get(name, "") for name in SHOWN}}


def tests_copy(folder: Path) -> Path:
    """A copy of the checkout without the package's sources, to test an installed one."""
    return copied(folder / "beside", [n for n in tracked() if not n.startswith("caffe_port/")])


def tested(
    command: Iterable[str | Path], place: Path, environ: Mapping[str, str], logs: Path
) -> Tally:
    """Runs pytest in a folder; prints its dots, and writes its output to logs/pytest.log.

    Raises:
        CalledProcessError: it ended without a report, or ran no test.
    """
    report, log_file = logs.resolve() / "pytest.xml", logs / "pytest.log"
    logs.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    words = [*map(str, command), f"--junitxml={report}"]
    with (
        log_file.open("w", encoding="utf-8") as log,
        subprocess.Popen(words, cwd=place, env=environ, text=True, errors="replace",
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running,
    ):  # fmt: skip
        for line in running.stdout or ():
            log.write(line)
            if line.rstrip().endswith("%]"):
                print(f"  {line.rstrip()}", flush=True)
    if not report.exists():
        log_says = log_file.read_text(encoding="utf-8")
        raise subprocess.CalledProcessError(running.returncode, words, log_says)
    return read_report(report)


def read_report(path: Path) -> Tally:
    """Reads a JUnit report of pytest."""
    result, counts, reasons = Tally(), Counter[str](), Counter[str]()
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            counts["failed"] += 1
            result.failed.append(f"{case.get('classname', '')}::{case.get('name', '')}")
        elif skipped is not None:
            counts["skipped"] += 1
            reasons[str(skipped.get("message"))] += 1
        else:
            counts["passed"] += 1
    result.counts, result.skipped = dict(counts), dict(reasons.most_common())
    return result
