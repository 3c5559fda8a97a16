"""Tries a wheel away from the checkout: the tests of its compiled and generated parts, and a run.

A wheel for this processor goes into the matrix's environment of its Python; then tests/crf and
tests/proto run, and `caffe-port demo` converts, verifies and evaluates the bundled model. One for
arm64 does the same under qemu-user, where --arm64-root names a Debian for arm64 with its Python
(docs/matrix.md says how to make one); pip runs in there too, so the libraries are arm64's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tools.matrix.building import Wheel
from tools.matrix.environments import (
    ROWS,
    Tally,
    call,
    environment,
    interpreter,
    tested,
    tests_beside,
)

SHORT = ("tests/crf", "tests/proto")
EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
ARM64_PINS = ("torch==2.8.0",)  # the last that PyPI has for arm64 without CUDA's gigabytes


def tried(wheel: Wheel, out: Path, work: Path, arm64_root: Path | None) -> None:
    """Runs the tests, where this machine can; what came of it goes into the wheel's record.

    Raises:
        CalledProcessError: it cannot be installed, the tests cannot start, or the demo failed.
    """
    wheel.tests, wheel.tried = Tally(), "not run: another processor's"
    if wheel.arch == os.uname().machine:
        _tried_here(wheel, out / wheel.file, work)
    elif wheel.arch == "aarch64" and arm64_root is not None:
        _tried_under_qemu(wheel, out / wheel.file, work, arm64_root.resolve())


def _tried_here(wheel: Wheel, path: Path, work: Path) -> None:
    row = next(row for row in ROWS if row.python == wheel.python)
    bin = environment(row, str(interpreter(row.python)), work, path)
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{bin}:{os.environ['PATH']}"}
    wheel.tried = "here"
    _run(wheel, [bin / "python"], work / row.name, environ)


def _tried_under_qemu(wheel: Wheel, path: Path, work: Path, root: Path) -> None:
    emulator = next(filter(shutil.which, EMULATORS), None)
    python = root / "usr" / "bin" / f"python{wheel.python}"
    if emulator is None or not python.exists():
        missing = "no qemu-user" if emulator is None else "no such Python for arm64"
        wheel.tried = f"not run: {missing}"
        return
    folder = work / f"arm64-{wheel.python}"
    site, pip = folder / "site", folder / "pip"
    emulated: list[str | Path] = [emulator, "-L", root, python]
    shutil.rmtree(pip, ignore_errors=True)
    (builder,) = (work / "builders" / wheel.python).glob("lib/python*/site-packages/pip")
    shutil.copytree(builder, pip / "pip")
    install = [*emulated, "-m", "pip", "install", "--quiet", "--root-user-action=ignore",
               "--target", site, "--upgrade"]  # fmt: skip
    in_pip = {**os.environ, "PYTHONPATH": str(pip)}
    if not (site / "torch").is_dir():
        beside = ("pytest>=8", "hypothesis>=6.100")
        call([*install, *ARM64_PINS, path.resolve(), *beside], env=in_pip)
    call([*install, "--no-deps", path.resolve()], env=in_pip)
    wheel.tried = "under qemu-user"
    _run(wheel, emulated, folder, {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(site)})


def _run(wheel: Wheel, python: list[str | Path], folder: Path, environ: dict[str, str]) -> None:
    beside = tests_beside(folder)
    demo = "from caffe_port.cli import main; main()"
    print(f"trying {wheel.file}", flush=True)
    subprocess.run(
        [*map(str, python), "-c", demo, "demo", "-o", str(folder / "demo"), "--jobs", "1"],
        cwd=beside, env=environ, check=True, capture_output=True, text=True,
    )  # fmt: skip
    wheel.tests = tested([*python, "-m", "pytest", *SHORT], beside, environ)
