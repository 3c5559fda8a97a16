"""Adapts docstrings and signatures to the site's parser."""

from __future__ import annotations

import re
from typing import Any

import griffe

_SECTION = re.compile(
    r"(?<!\n)\n(?=[ ]*(?:Args|Returns|Raises|Warns|Yields|Examples|Source|(?:Class a|A)ttributes):)"
)
_SEVERAL = re.compile(r"^ +\w+(?:, \w+)+(?=: )", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Adds an empty line before each section; spells out the name of a union."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object that the site documents."""
        if obj.docstring is not None:
            text = _SECTION.sub("\n\n", obj.docstring.value)
            text = _SEVERAL.sub(lambda names: names[0].replace(", ", ",\u00a0"), text)
            obj.docstring.value = text.replace("Class attributes:", "Attributes:")

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Called for every function among them."""
        for parameter in func.parameters:
            if "_Path" in str(parameter.annotation or ""):
                spelt = str(parameter.annotation).replace("_Path", "str | PathLike[str]")
                parameter.annotation = spelt
