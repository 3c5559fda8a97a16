"""Rewrites scripts of Python 2 and old libraries for Python 3 and present libraries.

from caffe_port.modernizing import modernize
result = modernize("print np.int(3)\\n", "old.py")   # result.text, result.notes
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from caffe_port.errors import FormatError
from caffe_port.modernizing.edits import rewrite
from caffe_port.modernizing.libraries import RULES
from caffe_port.modernizing.python2 import PYTHON2_RULES, division_notes, is_python2, to_python3


@dataclass(frozen=True)
class Modernized:
    """A rewritten script.

    Attributes:
        text: Python 3.
        notes: places that no rule can decide, as `line 7: ...`, with lines of the new text.
    """

    text: str
    notes: tuple[str, ...]


def modernize(text: str, name: str) -> Modernized:
    """Rewrites a script; one that needs no change is returned as it is.

    Args:
        text: Python 2 or 3.
        name: the name of the file, for messages.
    Raises:
        FormatError: the text is neither Python 2 nor 3.
        UsageError: it is Python 2, and fissix is not installed.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    text = text.replace("\r\n", "\n")
    old = is_python2(text)
    if old:
        text = to_python3(text, name)
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise FormatError(f"not Python: {error.msg}", path=name, line=error.lineno) from error
    text = rewrite(text, (*RULES, *PYTHON2_RULES) if old else RULES)
    notes = tuple(division_notes(text)) if old else ()
    return Modernized(text.replace("\n", newline), notes)
