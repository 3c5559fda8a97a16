"""Tests a wheel outside of the checkout: its compiled and generated parts, and a run.

A wheel for this processor goes into the matrix's environment of its Python; then `caffe-port`
converts the bundled model, verifies it against real Caffe's recording and evaluates it on four
images, and tests/crf and tests/proto run. A wheel for arm64 does the same under qemu-user, where
--arm64-root names a Debian for arm64 with that Python (docs/matrix.md says how to make one); pip
runs in there too, so the libraries are arm64's.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tools.matrix.building import Wheel
from tools.matrix.environments import (
    ROWS,
    Tally,
    call,
    environment,
    interpreter,
    tested,
    tests_copy,
)

SHORT = ("tests/crf", "tests/proto")
IMAGES = 4
START = """from importlib.metadata import entry_points
(command,) = entry_points(group="console_scripts", name="caffe-port")
command.load()()"""  # the script's first line would not start the emulator
EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
ARM64_PINS = ("torch==2.8.0",)  # the last that PyPI has for arm64 without CUDA's gigabytes


def tried(wheel: Wheel, out: Path, work: Path, arm64_root: Path | None) -> None:
    """Runs the tests if this machine can, and writes the result into the wheel's record.

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
        testers = ("pytest>=8", "hypothesis>=6.100")
        call([*install, *ARM64_PINS, path.resolve(), *testers], env=in_pip)
    call([*install, "--no-deps", path.resolve()], env=in_pip)
    wheel.tried = f"under qemu-user, {' '.join(ARM64_PINS).replace('==', ' ')}"
    _run(wheel, emulated, folder, {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(site)})


def _run(wheel: Wheel, python: list[str | Path], folder: Path, environ: dict[str, str]) -> None:
    checkout = tests_copy(folder)
    print(f"trying {wheel.file}", flush=True)
    for words in _smoke(checkout / "examples" / "shapes_voc", folder / "smoke"):
        call([*python, "-c", START, *words], cwd=checkout, env=environ)
    wheel.tests = tested([*python, "-m", "pytest", *SHORT], checkout, environ, folder)


def _smoke(example: Path, out: Path) -> list[list[str | Path]]:
    """The tutorial's commands, on a few images."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    caffe, model, few = example / "caffe_run", out / "shapes.pt", out / "few.txt"
    names = (example / "val_id.txt").read_text(encoding="utf-8").split()[:IMAGES]
    few.write_text("\n".join(names) + "\n", encoding="utf-8")
    weights = caffe / "model" / "train_iter_2400.caffemodel"
    return [
        ["convert", caffe / "recording" / "net.prototxt", weights, "-o", model],
        ["verify", model, caffe / "recording", "-o", out / "parity"],
        ["evaluate", model, "--images", example, "--list", few, "--crf",
         "bi_w=4,bi_xy_std=49,bi_rgb_std=13", "--names", example / "class_names.txt",
         "-o", out / "voc"],
    ]  # fmt: skip
