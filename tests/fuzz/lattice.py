"""The C++ target: the lattice, built and run under the sanitizers."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.effort import FOLDER, Effort
from tests.fuzz.report import LATTICE, Result, from_log
from tests.goldens_dir import ROOT

FLAGS = ["-std=c++17", "-g", "-O1", "-ffp-contract=off", "-fno-math-errno", "-D_GLIBCXX_ASSERTIONS"]
CLANGS = ("clang++", *(f"clang++-{version}" for version in range(22, 12, -1)))
PER_SECOND = 100  # random inputs, about
LONGEST = 256  # bytes: all that a case draws


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


def _seeds() -> Iterator[bytes]:
    chance = random.Random(0)
    for _ in range(30):
        yield chance.randbytes(LONGEST)


def run_lattice(effort: Effort) -> Result:
    """Under libFuzzer, or on random inputs where there is no clang."""
    clang = libfuzzer_compiler()
    program = build(FOLDER, clang or "g++", libfuzzer=clang is not None)
    log = FOLDER / f"{LATTICE}.log"
    work = FOLDER / "work" / LATTICE
    shutil.rmtree(work, ignore_errors=True)
    if clang is None:
        count = effort.runs or effort.seconds * PER_SECOND
        command = [program, str(count), str(effort.seed)]
    else:
        corpus = effort.corpus(LATTICE, work)
        for i, seed in enumerate(_seeds()):
            (corpus / f"seed-{i}").write_bytes(seed)
        limits = [f"-max_len={LONGEST}", "-len_control=0"]
        command = [program, *effort.options(LATTICE), *limits, corpus]
    with log.open("w") as stream:
        code = subprocess.run(command, stdout=stream, stderr=stream, check=False).returncode
    result = from_log(LATTICE, "libFuzzer, C++", log, code)
    if clang is None:
        tried = re.search(r"(\d+) inputs", log.read_text(errors="replace"))
        result = Result(LATTICE, "random, C++", int(tried[1]) if tried else 0, failed=code != 0)
    print(result.line(), flush=True)
    return result
