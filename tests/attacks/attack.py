"""What an attack is, and the register of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.attacks.entries import Entry

Make = Callable[[Path], object]


@dataclass(frozen=True)
class Attack:
    """Hostile files, and the ways in which they are handed to the package.

    Attributes:
        family: the kind of file.
        name: what is wrong with it.
        make: writes the files into a scene's folder (see ``scene``).
        entries: the entry points that are given them.
        reads: names of those entries that may read the file and end well, because they never
            come to what is wrong with it.
        keeps: results that are finished before the fault is reached.
        within: the folder of results, outside of which nothing may change even if all ends well.
    """

    family: str
    name: str
    make: Make
    entries: tuple[Entry, ...]
    reads: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    within: str = ""

    def kept(self, name: str) -> bool:
        """Whether a file belongs to what is finished before."""
        return any(name == kept or name.startswith(f"{kept}/") for kept in self.keeps)

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


class Family:
    """Collects the attacks with one kind of file.

    Args:
        name: the kind.
        entries: where its attacks go in unless they say otherwise.
        keeps: results that are finished before the fault is reached.
    """

    def __init__(self, name: str, *entries: Entry, keeps: tuple[str, ...] = ()) -> None:
        self.name, self.entries, self.keeps = name, entries, keeps
        self.attacks: list[Attack] = []

    def __iter__(self) -> Iterator[Attack]:
        return iter(self.attacks)

    def add(self, name: str, make: Make, *entries: Entry, reads: tuple[Entry, ...] = ()) -> None:
        """Adds an attack; ``entries`` replace the family's."""
        allowed = tuple(entry.name for entry in reads)
        given = entries or self.entries
        self.attacks.append(Attack(self.name, name, make, given, allowed, self.keeps))
