"""What a refinement changed: pixels by true class, and whether for better or worse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_port import html
from caffe_port.evaluation.confusion import Counts, Labels

KINDS = ("pixels", "changed", "repaired", "broken")


def count_changes(
    truth: Labels, before: Labels, after: Labels, classes: int, *, ignore_label: int = 255
) -> Counts:
    """Pixels of each true class that a refinement changed.

    A changed pixel is repaired when it was wrong and is right, broken when it was right and is
    wrong; the others went from one wrong class to another.

    Args:
        truth: (H, W) classes or ``ignore_label``, whose pixels do not count.
        before, after: (H, W) classes.
        classes: number of classes C.
    Returns:
        (C, 4) pixels, changed, repaired, broken, as ``KINDS`` names them.
    """
    valid = truth != ignore_label
    changed = valid & (before != after)
    kinds = (valid, changed, changed & (after == truth), changed & (before == truth))
    counts = [np.bincount(truth[kind].astype(np.int64), minlength=classes) for kind in kinds]
    return np.stack(counts, axis=1)


def changes_json(counts: Counts) -> dict[str, object]:
    """The counts by name: in total and by class."""
    return {
        kind: {"total": int(column.sum()), "by_class": column.tolist()}
        for kind, column in zip(KINDS, counts.T, strict=True)
    }


def changes_section(counts: Counts, names: Sequence[str]) -> html.Html:
    """A table with a row for each true class and one for all."""
    lines = np.vstack([counts, counts.sum(axis=0)])
    rows = [_row(name, line) for name, line in zip([*names, "all"], lines, strict=True)]
    headers = [
        "true class",
        "pixels",
        "changed",
        "%",
        "repaired",
        "broken",
        "wrong to wrong",
        "net",
    ]
    words = (
        "Repaired: wrong before the CRF and right after it. Broken: the reverse. Net: repaired "
        "less broken. Ignored pixels do not count."
    )
    table = html.table(headers, rows, row_classes=[""] * len(names) + ["total"])
    return html.section("What the CRF changed", table, html.paragraph(words, note=True))


def _row(name: str, line: Counts) -> list[html.Cell]:
    pixels, changed, repaired, broken = line.tolist()
    share = f"{100 * changed / pixels:.2f}" if pixels else "-"
    neither = changed - repaired - broken
    cells = [f"{x:,}" for x in (repaired, broken, neither)]
    return [name, f"{pixels:,}", f"{changed:,}", share, *cells, f"{repaired - broken:+,}"]
