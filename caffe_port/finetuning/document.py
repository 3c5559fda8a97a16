"""Tables of an experiment inside a document, between marks that name them.

<!-- table variants -->
whatever stands here is replaced
<!-- end -->
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from caffe_port.errors import UsageError
from caffe_port.files import read_text, write_text
from caffe_port.finetuning.tables import Table

_PLACE = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, tables: Mapping[str, Table]) -> str:
    """The text with every marked place filled.

    Raises:
        UsageError: there is no marked place, or one names a table that is not there.
    """

    def fill(match: re.Match[str]) -> str:
        name = match[2]
        if name not in tables:
            raise UsageError(f"no table '{name}'; there are {', '.join(tables)}")
        return f"{match[1]}{tables[name].markdown()}{match[3]}"

    changed, count = _PLACE.subn(fill, text)
    if not count:
        raise UsageError("no place for a table: expected <!-- table variants --> and <!-- end -->")
    return changed


def fill_document(path: Path, tables: Mapping[str, Table]) -> None:
    """Fills a file in place. Raises as ``filled``, naming the file."""
    try:
        changed = filled(read_text(path), tables)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    write_text(path, changed)
