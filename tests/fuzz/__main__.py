"""``python -m tests.fuzz``: see README.md."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path("build/fuzz")
SLOWEST = 10  # seconds for one input
MEGABYTES = 2048


def main() -> int:
    """Runs what the command line says; the exit status tells whether something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", help="names of targets; all of them when left out")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--plain", action="store_true", help="without atheris")
    parser.add_argument("--replay", type=Path, help="only run the one target on this file")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        return _fuzz(given.target[0], given.seconds)
    from tests.fuzz.targets import TARGETS

    names = given.target or list(TARGETS)
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"no target {unknown[0]}; there are {', '.join(TARGETS)}")
    if given.replay:
        TARGETS[names[0]].check(given.replay.read_bytes())
        return 0
    run = _plain if given.plain or not _has_atheris() else _in_a_process
    failed = [name for name in names if not run(name, given.seconds)]
    print(f"found something: {', '.join(failed)}" if failed else "nothing found")
    return bool(failed)


def _has_atheris() -> bool:
    from importlib.util import find_spec

    return find_spec("atheris") is not None


def _in_a_process(name: str, seconds: int) -> bool:
    """One target under atheris, whose fuzzing never returns."""
    command = [sys.executable, "-m", "tests.fuzz", "--inside", name, "--seconds", str(seconds)]
    print(f"{name}: {seconds} seconds", flush=True)
    return subprocess.run(command, check=False).returncode == 0


def _fuzz(name: str, seconds: int) -> int:
    """Inside that process: the package is imported under atheris' eyes."""
    import atheris

    with atheris.instrument_imports(include=["caffe_port"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    corpus, found = FOLDER / "corpus" / name, FOLDER / "found" / name
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(target.seeds()):
        (corpus / f"seed-{i}").write_bytes(seed)
    arguments = [
        f"-max_total_time={seconds}", f"-timeout={SLOWEST}", f"-rss_limit_mb={MEGABYTES}",
        f"-artifact_prefix={found.resolve()}/", "-print_final_stats=1", "-max_len=32000",
        "-verbosity=0",
    ]  # fmt: skip
    if words := [*target.words()]:
        dictionary = FOLDER / f"{name}.dict"
        dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in words))
        arguments.append(f"-dict={dictionary.resolve()}")
    atheris.Setup([sys.argv[0], *arguments, str(corpus.resolve())], target.check)
    atheris.Fuzz()
    return 0


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _plain(name: str, seconds: int) -> bool:
    """One target on inputs of our own, in this process."""
    from tests.fuzz.mutate import inputs
    from tests.fuzz.targets import TARGETS

    target, end, count = TARGETS[name], time.monotonic() + seconds, 0
    print(f"{name}: {seconds} seconds", flush=True)
    for count, data in enumerate(inputs(target, int(time.time()))):
        if time.monotonic() > end:
            break
        try:
            target.check(data)
        except Exception as error:
            folder = FOLDER / "found" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"plain-{count}").write_bytes(data)
            print(f"{name}: {type(error).__name__}: {error}: {folder / f'plain-{count}'}")
            return False
    print(f"{name}: {count} inputs")
    return True


if __name__ == "__main__":
    raise SystemExit(main())
