"""Our docstrings, as the site's reader of them wants them: an empty line before each section."""

from __future__ import annotations

import re
from typing import Any

import griffe

_SECTION = re.compile(r"(?<!\n)\n(?=[ ]*(?:Args|Returns|Raises|Warns|Yields|Source|Attributes):)")


class SpacedSections(griffe.Extension):
    """Called for every object that the site documents."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _SECTION.sub("\n\n", obj.docstring.value)
