"""``python -m tests.fuzz.lattice``: builds and runs the C++ target, under the sanitizers."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

from tests.goldens_dir import ROOT

FLAGS = ["-std=c++17", "-g", "-O1", "-ffp-contract=off", "-fno-math-errno", "-D_GLIBCXX_ASSERTIONS"]
CLANGS = ("clang++", *(f"clang++-{version}" for version in range(22, 12, -1)))


def libfuzzer_compiler() -> str | None:
    """A clang that is here."""
    return next((name for name in CLANGS if shutil.which(name)), None)


def build(folder: Path, compiler: str, *, libfuzzer: bool) -> Path:
    """Compiles the lattice and the target; returns the program."""
    program = folder / "lattice_fuzzer"
    kinds = "fuzzer,address,undefined" if libfuzzer else "address,undefined"
    sanitize = [f"-fsanitize={kinds}", "-fno-sanitize-recover=all"]
    own = [] if libfuzzer else ["-DSTANDALONE"]
    # all but what Cython made
    files = sorted(f for f in (ROOT / "ext").glob("*.cpp") if not f.name.startswith("_"))
    files.append(ROOT / "tests" / "fuzz" / "lattice_fuzzer.cpp")
    folder.mkdir(parents=True, exist_ok=True)
    command = [compiler, *FLAGS, *sanitize, *own, f"-I{ROOT / 'ext'}", *map(str, files)]
    subprocess.run([*command, "-pthread", "-o", str(program)], check=True)
    return program


def main() -> int:
    """The program's exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.lattice", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    given = parser.parse_args()
    folder, clang = Path("build/fuzz"), libfuzzer_compiler()
    if clang is None:
        program = build(folder, "g++", libfuzzer=False)
        return subprocess.run([program, str(given.seconds * 100)], check=False).returncode
    program = build(folder, clang, libfuzzer=True)
    corpus, found = folder / "corpus" / "lattice", folder / "found" / "lattice"
    for made in (corpus, found):
        made.mkdir(parents=True, exist_ok=True)
    arguments = [f"-max_total_time={given.seconds}", f"-artifact_prefix={found}/", "-timeout=10"]
    return subprocess.run([program, *arguments, corpus], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
