"""report.html and report.json of an evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from caffe_port import html
from caffe_port.data.pictures import voc_palette
from caffe_port.evaluation.changes import changes_section
from caffe_port.evaluation.confusion import ConfusionMatrix
from caffe_port.evaluation.figures import Reference, as_json, versions
from caffe_port.evaluation.gallery import chosen, gallery
from caffe_port.evaluation.pipeline import Result
from caffe_port.files import write_text

if TYPE_CHECKING:
    from rich.table import Table

OVERALL = ("mean IoU", "pixel accuracy", "mean recall")


def write_report(
    result: Result,
    names: Sequence[str],
    *,
    title: str,
    subtitle: str = "",
    reference: Reference | None = None,
    pictures: int = 6,
    ignore_label: int = 255,
    more: Mapping[str, object] | None = None,
    sections: Iterable[html.Html] = (),
) -> tuple[Path, Path]:
    """Writes report.html (one file, nothing outside it) and report.json beside the label maps.

    Args:
        result: from ``evaluate``.
        names: of the classes.
        title, subtitle: the page's heading.
        reference: figures to set beside these.
        pictures: how many worst, best and first images to show.
        ignore_label: drawn apart in the differences.
        more: further entries of report.json.
        sections: further sections, put before the table of classes.
    Returns:
        the paths of report.html and report.json.
    """
    values = {**as_json(result, names), **(more or {})}
    body = [_summary(result), *sections, _iou_section(result, names, reference)]
    if result.changes is not None:
        body.append(changes_section(result.changes, names))
    for heading, outcomes in chosen(result, pictures).items() if pictures else ():
        picture = gallery(result, outcomes, ignore_label=ignore_label)
        body.append(html.section(heading, _legend(names), picture))
    body.append(_run_section(result))
    paths = (result.store.root / "report.html", result.store.root / "report.json")
    write_text(paths[0], html.page(title, body, subtitle=subtitle))
    write_text(paths[1], json.dumps(values, indent=1, allow_nan=False) + "\n")
    return paths


def percent(value: float | None) -> str:
    """A share as per cent with three decimals, a dash when unknown."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.3f}"


def _matrices(result: Result) -> dict[str, ConfusionMatrix]:
    both = {"before CRF": result.before, "after CRF": result.after}
    if result.after is None:
        both = {"network": result.before}
    return {name: matrix for name, matrix in both.items() if matrix is not None}


def _summary(result: Result) -> html.Html:
    figures: dict[str, object] = {
        f"mean IoU {name}": f"{percent(matrix.mean_iou())} %"
        for name, matrix in _matrices(result).items()
    }
    figures["images"] = len(result.outcomes) - len(result.skipped)
    return html.cards(figures)


def iou_table(
    result: Result, names: Sequence[str], reference: Reference | None
) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the IoU table, in per cent: a row per class, then OVERALL."""
    columns = [(name, [*m.iou(), *_overall(m)]) for name, m in _matrices(result).items()]
    parts = () if reference is None else zip(reference.mean_iou, reference.per_class, strict=True)
    for when, (mean, classes) in zip(("before", "after"), parts, strict=False):
        if reference is not None and mean is not None:
            known = list(classes) if len(classes) == len(names) else [math.nan] * len(names)
            columns.append((f"{reference.name}, {when}", [*known, mean, math.nan, math.nan]))
    rows = [
        [label, *(percent(values[i]) for _, values in columns)]
        for i, label in enumerate([*names, *OVERALL])
    ]
    return ["class", *(name for name, _ in columns)], rows


def _overall(matrix: ConfusionMatrix) -> list[float]:
    return [matrix.mean_iou(), matrix.pixel_accuracy(), matrix.mean_recall()]


def terminal_table(result: Result, names: Sequence[str], reference: Reference | None) -> Table:
    """The IoU table for ``rich.print``."""
    from rich.table import Table

    headers, rows = iou_table(result, names, reference)
    table = Table(title="IoU, %", title_justify="left")
    for i, header in enumerate(headers):
        table.add_column(header, justify="right" if i else "left")
    for i, row in enumerate(rows, 1):
        mean = row[0] == OVERALL[0]
        table.add_row(*row, style="bold" if mean else None, end_section=i == len(names))
    return table


def remarks(result: Result, names: Sequence[str]) -> list[str]:
    """What a reader must know to take the figures right."""
    words = [f"The network knows {len(names)} classes: {', '.join(names)}."]
    if not _matrices(result):
        return [*words, "The list has no label maps, so nothing is scored."]
    for name, matrix in _matrices(result).items():
        if matrix.absent:
            absent = ", ".join(names[c] for c in matrix.absent)
            words.append(f"In neither truth nor prediction ({name}), so not in the mean: {absent}.")
    if result.unknown:
        labels = ", ".join(f"{k} ({v} pixels)" for k, v in sorted(result.unknown.items()))
        words.append(
            f"The truth also holds labels the network does not know, which were ignored: {labels}. "
            "The score says nothing about them."
        )
    return words


def _iou_section(result: Result, names: Sequence[str], reference: Reference | None) -> html.Html:
    notes = [html.paragraph(words) for words in remarks(result, names)]
    if not _matrices(result):
        return html.section("IoU by class", *notes)
    headers, rows = iou_table(result, names, reference)
    table = html.table(headers, rows, row_classes=[""] * len(names) + ["total", "", ""])
    rule = "One confusion matrix over all images; ignored pixels (VOC's boundaries) do not count."
    confusions = [_confusion(name, m, names) for name, m in _matrices(result).items()]
    end = html.paragraph(rule, note=True)
    return html.section("IoU by class, %", notes[0], table, *notes[1:], end, *confusions)


def _confusion(name: str, matrix: ConfusionMatrix, names: Sequence[str]) -> html.Html:
    rows = [[label, *row] for label, row in zip(names, matrix.counts.tolist(), strict=True)]
    table = html.table(["truth \\ prediction", *names], rows)
    return html.details(f"Confusion matrix {name} (pixels)", table)


def _legend(names: Sequence[str]) -> html.Html:
    colours = voc_palette()
    keys = {name: tuple(map(int, colours[i])) for i, name in enumerate(names)}
    return html.legend({name: (rgb[0], rgb[1], rgb[2]) for name, rgb in keys.items()})


def _run_section(result: Result) -> html.Html:
    pieces = []
    if result.skipped:
        rows = [[outcome.id, outcome.error] for outcome in result.skipped]
        kinds = ["fail"] * len(rows)
        align: list[html.Align] = ["left", "left"]
        pieces.append(html.table(["skipped", "why"], rows, align=align, row_classes=kinds))
    settings = [[name, json.dumps(value)] for name, value in _flat(result.settings).items()]
    entries = [*settings, *([f"version of {k}", v] for k, v in versions().items())]
    pieces.append(html.table(["setting", "value"], entries, align=["left", "left"]))
    return html.section("What was run", *pieces)


def _flat(values: Mapping[str, object], start: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in values.items():
        inner = value if isinstance(value, dict) and value else None
        flat |= {f"{start}{key}": value} if inner is None else _flat(inner, f"{start}{key}.")
    return flat
