"""Files of repositories, from git directories or plain folders that the user has."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".prototxt", ".proto")


@dataclass(frozen=True)
class Repository:
    """A line of the list.

    Attributes:
        name: owner/name.
        commit: of which the figures are.
        group: 'segmentation', 'detection', 'caffe' (a whole Caffe) or 'models'.
        schema: the repository whose caffe.proto its nets are for; its own where empty.
    """

    name: str
    commit: str
    group: str
    schema: str = ""


def read_list(path: Path) -> list[Repository]:
    """The list: `owner/name commit group [schema]` by line, `#` comments.

    Raises:
        ValueError: a line of another form; a repository that is listed twice.
    """
    found: dict[str, Repository] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) not in (3, 4) or "/" not in words[0]:
            raise ValueError(
                f"{path}:{number}: expected 'owner/name commit group [schema]': {line}"
            )
        if words[0] in found:
            raise ValueError(f"{path}:{number}: {words[0]} is listed twice")
        found[words[0]] = Repository(*words)
    return list(found.values())


def find_tree(folder: Path, name: str) -> Path | None:
    """A repository's git directory or folder below ``folder``; None if there is none.

    Args:
        folder: holds owner/name, owner+name or name, each a clone, a bare clone or a plain folder.
        name: owner/name.
    """
    for part in (name, name.replace("/", "+"), name.partition("/")[2]):
        for inner in (".git", "repo/.git", "repo", ""):
            path = folder / part / inner
            if (path / "HEAD").is_file() and (path / "objects").is_dir():
                return path
        if (folder / part).is_dir():
            return folder / part
    return None


def is_git(tree: Path) -> bool:
    return (tree / "HEAD").is_file()


def _git(tree: Path, *words: str, given: bytes = b"") -> bytes:
    command = ["git", f"--git-dir={tree}", *words]
    return subprocess.run(command, check=True, input=given, capture_output=True).stdout


def has_commit(tree: Path, commit: str) -> bool:
    command = ["git", f"--git-dir={tree}", "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def head(tree: Path) -> str:
    return _git(tree, "rev-parse", "HEAD").decode().strip()


def files(tree: Path, commit: str) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of every prototxt, and every .proto, of a commit or a plain folder."""
    if not is_git(tree):
        for path in sorted(tree.rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                yield str(path.relative_to(tree)), path.read_bytes()
        return
    entries = []
    for entry in _git(tree, "ls-tree", "-r", "-z", commit).split(b"\0"):
        head_part, _, path = entry.partition(b"\t")
        if path.endswith(tuple(suffix.encode() for suffix in SUFFIXES)):
            mode, kind, digest = head_part.split()
            if kind == b"blob" and mode != b"120000":
                entries.append((path.decode(errors="replace"), digest))
    given = b"".join(digest + b"\n" for _, digest in entries)
    output, at = _git(tree, "cat-file", "--batch", given=given), 0
    for path, digest in entries:
        line = output.index(b"\n", at)
        words = output[at:line].split()
        if words[-1] == b"missing":
            at = line + 1
            continue
        start, size = line + 1, int(words[2])
        assert words[0] == digest
        yield path, output[start : start + size]
        at = start + size + 1
