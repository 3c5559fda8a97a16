"""Parses command lines in gflags' syntax: ``-x v``, ``-x=v``, ``--x=v``, ``-x``, ``-nox``.

Source: gflags.cc, CommandLineFlagParser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from caffe_port.errors import UsageError

_TRUTHS = {"1": True, "t": True, "true": True, "y": True, "yes": True,
           "0": False, "f": False, "false": False, "n": False, "no": False}  # fmt: skip


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        default: the value of a flag that is not given; also determines the type.
        help: its description.
        joined: whether repeated values are joined by ','; otherwise the last one counts.
    """

    default: str | int | bool
    help: str
    joined: bool = False

    def parse(self, name: str, text: str) -> str | int | bool:
        """The value of a text.

        Raises:
            UsageError: the text is not of the flag's type.
        """
        if isinstance(self.default, bool):
            if text.lower() not in _TRUTHS:
                raise UsageError(
                    f"illegal value '{text}' for bool flag '{name}'; expected true or false"
                )
            return _TRUTHS[text.lower()]
        if isinstance(self.default, int):
            try:
                return int(text, 0)
            except ValueError:
                message = f"illegal value '{text}' for int32 flag '{name}'; expected a number"
                raise UsageError(message) from None
        return text


class Flags:
    """Values of flags, as attributes."""

    def __init__(self, values: Mapping[str, str | int | bool]) -> None:
        self._values = dict(values)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(name) from None


def parse(arguments: Sequence[str], known: Mapping[str, Flag]) -> tuple[Flags, list[str]]:
    """Separates the flags from the other arguments of a command line.

    Args:
        arguments: without the program's name; flags and others in any order; after ``--`` all
            are others.
        known: flag name -> flag; ``-`` may be written for ``_``.
    Returns:
        The flags' values, and the other arguments.
    Raises:
        UsageError: an unknown flag, one without its value, or a value of another type.
    """
    values = {name: flag.default for name, flag in known.items()}
    others: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            others += rest
            break
        if not word.startswith("-") or word == "-":
            others.append(word)
            continue
        name, equals, text = word[2 if word.startswith("--") else 1 :].partition("=")
        name = name.replace("-", "_")
        if not equals and name not in known and name[:2] == "no" and _is_bool(known, name[2:]):
            name, text = name[2:], "false"
        elif name not in known:
            raise UsageError(f"unknown command line flag '{name}'; -help lists the known ones")
        elif not equals:
            text = _value(name, known, rest)
        before = f"{values[name]}," if known[name].joined and values[name] else ""
        values[name] = known[name].parse(name, before + text)
    return Flags(values), others


def _is_bool(known: Mapping[str, Flag], name: str) -> bool:
    return name in known and isinstance(known[name].default, bool)


def _value(name: str, known: Mapping[str, Flag], rest: list[str]) -> str:
    """The value of a flag without ``=``: the next argument, or true for a bool flag."""
    if _is_bool(known, name):
        return "true"
    if not rest:
        raise UsageError(f"flag '{name}' is missing its argument")
    return rest.pop(0)


def usage(known: Mapping[str, Flag]) -> str:
    """The flags with their meanings and defaults, for ``-help``."""
    lines = []
    for name, flag in sorted(known.items()):
        kind = {bool: "bool", int: "int32", str: "string"}[type(flag.default)]
        shown = f'"{flag.default}"' if kind == "string" else str(flag.default).lower()
        lines.append(f"    -{name} ({flag.help}) type: {kind} default: {shown}")
    return "\n".join(lines)
