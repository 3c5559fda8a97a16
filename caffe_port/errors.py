"""Every error caffe_port raises on purpose.

Each says where, what was found, what was expected and, where it can, what to do. Catch
``CaffePortError`` to catch them all.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from caffe_port.printing import printable

_MOST_TYPES = 20  # in one message
Interface = Literal["python", "caffe-port", "caffe"]
_interfaces: list[Interface] = ["python"]
# how caffe-port and caffe spell an option of Python; "" where the program has none
_SPELLINGS = {
    "allow_python_layers": ("--allow-python-layers", "-allow_python_layers"),
    "blob": ("--blob {}", ""),
    "fresh": ("--fresh", ""),
    "keeps_run_state": ("", "-norunstate"),
    "level": ("--level {}", "-level {}"),
    "phase": ("--phase {}", ""),
    "snapshot": ("", "-snapshot {}"),
    "stages": ("--stage {}", "-stage {}"),
    "strict": ("convert --lenient", ""),
    "dialect": ("--dialect {}", "the environment variable CAFFE_PORT_DIALECT={}"),
    "weights": ("", "-weights {}"),
    "variables": ("--set {}=VALUE", "a value in the file, as sed does it"),
    "strict_text": ("", "; -allow_unknown_fields only warns of it"),
}
_IN_PYTHON = {
    "variables": "variables={{{!r}: VALUE}}",
    "snapshot": "solver.restore",
    "weights": "net.copy_from",
    "strict_text": "; strict_text=False, or for scripts the environment variable "
    "CAFFE_PORT_ALLOW_UNKNOWN_FIELDS=1, only warns of it",
}


@contextlib.contextmanager
def speaking(interface: Interface) -> Iterator[None]:
    """While a command of that program runs, messages name its options; see ``option``."""
    _interfaces.append(interface)
    try:
        yield
    finally:
        _interfaces.remove(interface)


def in_command() -> bool:
    """Whether a command of ours runs, whose user sees one line and no traceback."""
    return _interfaces[-1] != "python"


def option(name: str, value: object) -> str:
    """An option of ``caffe_port.load`` as whoever reads the message writes it.

    Args:
        name: its name in Python.
        value: what to set it to.
    Returns:
        Such as ``stages=['deploy']`` or ``--stage deploy``; "" where the running program has no
        such option.
    """
    if _interfaces[-1] == "python":
        return _IN_PYTHON.get(name, f"{name}={{!r}}").format(value)
    text = ",".join(value) if isinstance(value, list) else str(value)
    return _SPELLINGS[name][_interfaces[-1] == "caffe"].format(text)


def shapes_option(blobs: Sequence[str]) -> str:
    """``option`` for the shapes of these blobs, which the reader fills in."""
    if _interfaces[-1] == "python":
        return f"input_shapes={{{', '.join(f'{blob!r}: (N, C, H, W)' for blob in blobs)}}}"
    if _interfaces[-1] == "caffe":
        return ""
    return " ".join(f"--input-shape {blob}=N,C,H,W" for blob in blobs)


class _Shown(BaseException):
    """Shows its message without what a terminal would act upon; ``args`` keep it as it is."""

    def __str__(self) -> str:
        return printable(super().__str__())


class CaffePortError(_Shown, Exception):
    """Base of every error raised on purpose by this package."""


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
    """Layer types with how often each occurs, for a message: "Warp (6), Quilt"."""
    counts = Counter(types).most_common()
    shown = [type if count == 1 else f"{type} ({count})" for type, count in counts[:_MOST_TYPES]]
    more = f" and {len(counts) - _MOST_TYPES} more" if len(counts) > _MOST_TYPES else ""
    return ", ".join(shown) + more


class LayerError(CaffePortError):
    """One layer's options or bottoms are not what its type accepts."""

    def __init__(self, layer: str, type: str, message: str) -> None:
        self.layer, self.type = layer, type
        super().__init__(f"layer '{layer}' ({type}): {message}")


class UnsupportedLayerError(LayerError):
    """A layer's type is not in the registry."""


class WeightMismatchError(CaffePortError):
    """Stored weights and the net's parameters differ in names, counts or shapes."""


class ParityError(CaffePortError):
    """A recording cannot be compared, or a comparison was asked to raise when it fails."""


class DataError(CaffePortError):
    """An image, a label map or a list file is missing, unreadable or of the wrong kind."""


class UsageError(CaffePortError):
    """A call that cannot be carried out as asked."""


class UnknownFieldWarning(_Shown, UserWarning):
    """A file has fields that no dialect knows, and nothing reads them.

    Those of a prototxt are kept; those of stored blobs are left out of what is written.
    """


class DialectWarning(_Shown, UserWarning):
    """A net means one thing in the dialect it was read in and another in a fork's."""
