"""Carries out a Dockerfile in a chroot, to test it where there is no Docker.

usage: python -m tools.dockerfile DOCKERFILE ROOT [--arg NAME=VALUE] [--bind PATH]
                                   [--writable PATH] [-- WORD ...]

Each stage becomes a folder: the last one ROOT, a named one ROOT-NAME. FROM debian:RELEASE is made
by debootstrap, unless the folder exists; RUN, COPY, ARG, ENV and WORKDIR do what Docker does. Then
the entry point runs with the WORDs (default: CMD). --bind shows a path of this machine inside,
read-only, such as the name server (/etc/resolv.conf) or a folder with images; --writable shows one
that the image's program (not RUN) may write to. Needs root and debootstrap.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.matrix.environments import ROOT, tracked

INSTRUCTIONS = {"FROM", "RUN", "COPY", "ARG", "ENV", "WORKDIR", "EXPOSE", "ENTRYPOINT", "CMD"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# In a mount namespace of its own, so that nothing stays mounted. The chroot has root's rights and
# must not change this machine: shown paths are read-only, and /dev has only what Docker has.
ENTER = """set -e
root=$1; shift
show() {
    if [ -d "$1" ]; then mkdir -p "$root$1"; else mkdir -p "$root${1%/*}"; touch "$root$1"; fi
    mount --bind "$1" "$root$1"
}
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/dev"
for device in null zero full random urandom tty; do show "/dev/$device"; done
mkdir "$root/dev/shm"; mount -t tmpfs tmpfs "$root/dev/shm"; ln -s /proc/self/fd "$root/dev/fd"
while [ "$1" != -- ]; do
    show "$1"; mount -o remount,bind,ro "$root$1"; shift
done
shift
while [ "$1" != -- ]; do show "$1"; shift; done
shift
exec chroot "$root" "$@"
"""


@dataclass
class Stage:
    """A stage as it is built: its folder, variables, current folder, and what an image starts."""

    root: Path
    environ: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    folder: str = "/"
    entry: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def run(self, words: Sequence[str], bind: Sequence[str], writable: Sequence[str] = ()) -> None:
        """Runs a command inside, which sees the paths ``bind`` and may write to ``writable``.

        Raises:
            CalledProcessError: it failed.
        """
        environ = [f"{name}={value}" for name, value in self.environ.items()]
        inside = ["env", "-i", *environ, "sh", "-c", 'cd "$0" && exec "$@"', self.folder, *words]
        enter = ["unshare", "--mount", "sh", "-c", ENTER, "sh", str(self.root)]
        subprocess.run([*enter, *bind, "--", *writable, "--", *inside], check=True)


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Name and rest of each instruction, with continued lines joined.

    Raises:
        ValueError: an instruction that this program does not carry out.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    for line in filter(str.strip, joined.splitlines()):
        name, _, rest = line.partition(" ")
        if name not in INSTRUCTIONS:
            raise ValueError(f"{line!r}: {name} is not one of {', '.join(sorted(INSTRUCTIONS))}")
        yield name, rest.strip()


def built(path: Path, root: Path, arguments: dict[str, str], bind: Sequence[str]) -> Stage:
    """The last stage, built in ``root``.

    Raises:
        ValueError: an instruction that this program does not carry out.
        CalledProcessError: a command failed.
    """
    steps = list(instructions(path.read_text(encoding="utf-8")))
    stages: dict[str, Stage] = {}
    last = sum(name == "FROM" for name, _ in steps)
    stage, count = Stage(root), 0
    for name, rest in steps:
        print(f"{name} {rest}", flush=True)
        if name == "FROM":
            image, _, alias = (word.strip() for word in rest.partition(" AS "))
            count += 1
            stage = Stage(root if count == last else Path(f"{root}-{alias}"))
            stages[alias] = stage
            debootstrap(image, stage.root)
        elif name == "RUN":
            stage.run(["sh", "-c", rest], bind)
        elif name == "COPY":
            copy(rest, stage, stages)
        else:
            set_option(stage, name, rest, arguments)
    return stage


def set_option(stage: Stage, name: str, rest: str, arguments: dict[str, str]) -> None:
    """ARG, ENV, WORKDIR, ENTRYPOINT and CMD; EXPOSE does nothing."""
    if name in {"ARG", "ENV"}:
        (word,) = shlex.split(rest)
        key, _, value = word.partition("=")
        stage.environ[key] = arguments.get(key, value) if name == "ARG" else value
    elif name == "WORKDIR":
        stage.folder = rest
        (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
    elif name == "ENTRYPOINT":
        stage.entry = json.loads(rest)
    elif name == "CMD":
        stage.command = json.loads(rest)


def debootstrap(image: str, root: Path) -> None:
    """The system of ``debian:RELEASE`` or ``debian:RELEASE-slim``."""
    release = re.fullmatch(r"debian:(\w+?)(-slim)?", image)
    if release is None:
        raise ValueError(f"FROM {image}: only debian:RELEASE can be made without Docker")
    if not (root / "etc").is_dir():
        subprocess.run(["debootstrap", "--variant=minbase", release[1], root], check=True)


def copy(rest: str, stage: Stage, stages: dict[str, Stage]) -> None:
    """COPY of a file or folder of the checkout (tracked files) or, with --from, of a stage."""
    *options, source, target = rest.split()
    to = stage.root / target.lstrip("/")
    if options:
        origin = stages[options[0].removeprefix("--from=")].root / source.lstrip("/")
        shutil.copytree(origin, to, symlinks=True, dirs_exist_ok=True)
        return
    files = [file for file in tracked() if source in {".", file} and not ignored(file)]
    if not files:
        raise ValueError(f"COPY {rest}: .dockerignore or git leaves nothing to copy")
    for file in files:
        place = to / file if source == "." else to
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, place)


def ignored(file: str) -> bool:
    """Whether .dockerignore, which names what is kept, leaves out a tracked file."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    return not any(file == name or file.startswith(f"{name}/") for name in kept)


def main() -> None:
    """Builds the image's folder and starts what the image starts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("root", type=Path)
    parser.add_argument("--arg", action="append", default=[], help="a build argument")
    parser.add_argument("--bind", action="append", default=[], help="a path to read")
    parser.add_argument("--writable", action="append", default=[], help="a path to write to")
    before, after = sys.argv[1:], []
    if "--" in before:
        place = before.index("--")
        before, after = before[:place], before[place + 1 :]
    options = parser.parse_args(before)
    arguments = dict(word.split("=", 1) for word in options.arg)
    try:
        stage = built(options.dockerfile, options.root.resolve(), arguments, options.bind)
        stage.run([*stage.entry, *(after or stage.command)], options.bind, options.writable)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


if __name__ == "__main__":
    main()
