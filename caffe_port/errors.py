"""The exceptions, and printing of text that may contain a file's own words.

Layer, blob, image and file names can contain anything: codes that colour a terminal, erase its
lines, set its title, reverse letters or forge a line of a log. What is shown has such codes spelled
out; data keeps them. Catch ``CaffePortError`` to catch every error that caffe_port raises on
purpose; each says where, what was found, what was expected and, where possible, what to do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console


LONGEST = 1000  # characters of a word: file names have at most 255, paths rarely more than this
MOST = 2**20  # characters of a text

# control codes, direction and joining marks, separators, surrogates, tags
_HIDDEN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_LONG = re.compile(rf"\S{{{LONGEST + 1},}}")
_NEXT_LINE = re.compile(r"(?<=.)\n(?=\S)", re.DOTALL)


def escaped(text: str) -> str:
    """Spells out characters that a terminal or a page interprets; line ends and tabs stay.

    Returns:
        The text with codes as `\\x1b` and `\\u202e`, words of over ``LONGEST`` characters and a
        text of over ``MOST`` shortened. Escaping it again changes nothing.
    """
    if len(text) > MOST:
        text = f"{text[:MOST]} [{len(text) - MOST:,} more characters]"
    if len(text) > LONGEST:
        text = _LONG.sub(_shortened, text)
    return _HIDDEN.sub(_spelled, text)


def printable(text: str) -> str:
    """``escaped`` for a message, with its further lines indented: none can look like another line.

    Applying it again changes nothing.
    """
    return _NEXT_LINE.sub("\n  ", escaped(text))


def reason(error: Exception) -> str:
    """What is wrong with values of a file, where a KeyError means a missing field."""
    return f"field {error} is missing" if isinstance(error, KeyError) else str(error)


def echo(text: str, *, err: bool = False) -> None:
    """Prints a line on stdout or stderr, with control codes spelled out."""
    import click

    click.echo(printable(text), err=err)


def console(**options: Any) -> Console:
    """A ``rich.console.Console`` with these options that shows text literally, without markup."""
    from rich.console import Console
    from rich.text import Text

    class Plain(Console):
        def render_str(self, text: str, **given: Any) -> Text:
            return super().render_str(printable(text), **(given | {"markup": False}))

    return Plain(**({"markup": False, "emoji": False, "highlight": False} | options))


def _spelled(match: re.Match[str]) -> str:
    return ascii(match[0])[1:-1]


def _shortened(match: re.Match[str]) -> str:
    word = match[0]
    return f"{word[: LONGEST // 2]}[{len(word) - LONGEST + 100:,} more]{word[100 - LONGEST // 2 :]}"


_MOST_TYPES = 20  # in one message
Interface = Literal["python", "caffe-port", "caffe"]
_interfaces: list[Interface] = ["python"]
# an option of Python in caffe-port and in caffe; "" where the program has none
_SPELLINGS = {
    "allow_python_layers": ("--allow-python-layers", "-allow_python_layers"),
    "blob": ("--blob {}", ""),
    "fresh": ("--fresh", ""),
    "dataset": ("--dataset {}", ""),
    "exif": ("--exif {}", ""),
    "ignore_label": ("--ignore-label {}", "a mapped label file"),
    "keeps_run_state": ("", "-norunstate"),
    "imports": ("--import {}", "-import {}"),
    "label_map": ("--label-map {}", "a mapped label file"),
    "level": ("--level {}", "-level {}"),
    "opset": ("--opset {}", ""),
    "overlap": ("--overlap {}", ""),
    "reduce_zero_label": ("--reduce-zero-label", ""),
    "unknown_labels": ("--unknown-labels {}", ""),
    "mean": ("--mean {}", ""),
    "max_pixels": ("--max-pixels {} of evaluate, score and predict", ""),
    "phase": ("--phase {}", ""),
    "snapshot": ("", "-snapshot {}"),
    "stages": ("--stage {}", "-stage {}"),
    "names": ("convert --names {}", ""),
    "strict": ("convert --lenient", ""),
    "dialect": ("--dialect {}", "the environment variable CAFFE_PORT_DIALECT={}"),
    "weights": ("", "-weights {}"),
    "variables": ("--set {}=VALUE", "a value in the file, as sed does it"),
    "strict_text": ("", "; -allow_unknown_fields only warns of it"),
}
_IN_PYTHON = {
    "imports": "import {}, or put it into the environment variable CAFFE_PORT_IMPORT",
    "variables": "variables={{{!r}: VALUE}}",
    "mean": "mean=({})",
    "overlap": "inference=InferenceOptions(overlap={})",
    "snapshot": "solver.restore",
    "weights": "net.copy_from",
    "strict_text": "; strict_text=False, or for scripts the environment variable "
    "CAFFE_PORT_ALLOW_UNKNOWN_FIELDS=1, only warns of it",
}


@contextlib.contextmanager
def speaking(interface: Interface) -> Iterator[None]:
    """During the block, messages name the options of that program; see ``option``."""
    _interfaces.append(interface)
    try:
        yield
    finally:
        _interfaces.remove(interface)


def in_command() -> bool:
    """Whether a command runs, whose user sees one line and no traceback."""
    return _interfaces[-1] != "python"


def option(name: str, value: object) -> str:
    """An option of ``caffe_port.load`` in the syntax of the running program.

    Args:
        name: its name in Python.
        value: what to set it to.
    Returns:
        Such as ``stages=['deploy']`` or ``--stage deploy``; "" where the program has no such
        option.
    """
    if _interfaces[-1] == "python":
        return _IN_PYTHON.get(name, f"{name}={{!r}}").format(value)
    text = ",".join(value) if isinstance(value, list) else str(value)
    return _SPELLINGS[name][_interfaces[-1] == "caffe"].format(text)


def shapes_option(blobs: Sequence[str]) -> str:
    """``option`` for the shapes of these blobs, to be filled in by the user."""
    if _interfaces[-1] == "python":
        return f"input_shapes={{{', '.join(f'{blob!r}: (N, C, H, W)' for blob in blobs)}}}"
    if _interfaces[-1] == "caffe":
        return ""
    return " ".join(f"--input-shape {blob}=N,C,H,W" for blob in blobs)


class _Shown(BaseException):
    """Shows its message with control codes spelled out; ``args`` keep it unchanged."""

    def __str__(self) -> str:
        return printable(super().__str__())


class CaffePortError(_Shown, Exception):
    """Base of every error that this package raises on purpose."""


class FormatError(CaffePortError):
    """A file breaks its format.

    Args:
        message: what was found and what was expected.
        path: the file, if there is one.
        line: 1-based line of a text file.
        column: 1-based column of a text file.
        offset: byte offset in a binary file.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | os.PathLike[str] | None = None,
        line: int | None = None,
        column: int | None = None,
        offset: int | None = None,
    ) -> None:
        self.message, self.path = message, None if path is None else os.fspath(path)
        self.line, self.column, self.offset = line, column, offset
        where = [] if self.path is None else [self.path]
        if line is not None:
            where.append(f"line {line}" + (f", column {column}" if column is not None else ""))
        if offset is not None:
            where.append(f"byte {offset}")
        super().__init__(": ".join([*where, message]))


class NetError(CaffePortError):
    """The layers of a net do not fit together: a missing bottom, a cycle, a duplicate name."""


def counted(types: Sequence[str]) -> str:
    """Layer types with their numbers of occurrences, for a message: "Warp (6), Quilt"."""
    counts = Counter(types).most_common()
    shown = [type if count == 1 else f"{type} ({count})" for type, count in counts[:_MOST_TYPES]]
    more = f" and {len(counts) - _MOST_TYPES} more" if len(counts) > _MOST_TYPES else ""
    return ", ".join(shown) + more


class LayerError(CaffePortError):
    """A layer's options or bottoms are not accepted by its type."""

    def __init__(self, layer: str, type: str, message: str) -> None:
        self.layer, self.type = layer, type
        super().__init__(f"layer '{layer}' ({type}): {message}")


class UnsupportedLayerError(LayerError):
    """A layer's type is not in the registry."""


class WeightMismatchError(CaffePortError):
    """Stored weights and the net's parameters differ in names, counts or shapes."""


class ParityError(CaffePortError):
    """A recording cannot be compared, or a comparison that must pass fails."""


class DataError(CaffePortError):
    """An image, a label map or a list file is missing, unreadable or of the wrong kind."""


class ReadError(DataError, FormatError):
    """The system cannot open or read a file; raised by ``caffe_port.files.reading``."""


class UsageError(CaffePortError):
    """A call or command whose arguments cannot be used."""


class UnknownFieldWarning(_Shown, UserWarning):
    """A file has fields that no dialect of the schema has and nothing reads.

    Those of a prototxt are kept; those of stored blobs are omitted when written.
    """


class SideEffectWarning(_Shown, UserWarning):
    """Caffe's memory makes a net's data or diffs differ from those of its layers' formulas."""


class EngineWarning(_Shown, UserWarning):
    """An engine of an optimized net cannot be used, so that torch computes in its place."""


class DialectWarning(_Shown, UserWarning):
    """A net has another meaning in a fork's dialect than in the one it was read in."""


_TO_DO = {
    errno.EACCES: "check the permissions of it and of its folder",
    errno.EPERM: "check the permissions of it and of its folder",
    errno.EROFS: "choose a place that can be written",
    errno.ENOSPC: "make room there and run it again",
    errno.EDQUOT: "make room there and run it again",
    errno.EFBIG: "raise the limit of a file's size and run it again",
    errno.ENOENT: "check its name",
}


def described(error: OSError) -> str:
    """A system's error as one line: the file, the cause, and what to do where that is known."""
    if error.errno is None or error.filename is None:
        return str(error)
    name = error.filename if isinstance(error.filename, int) else os.fsdecode(error.filename)
    words = f"{name}: {error.strerror}"
    to_do = _TO_DO.get(error.errno)
    return words if to_do is None or ";" in words else f"{words}; {to_do}"
