"""report.html and report.json of an evaluation, and its table in the terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caffe_port.data.images import Bytes, read_labels, read_rgb
from caffe_port.data.voc import VOCItem
from caffe_port.datasets.rules import IGNORED as IGNORED_LABEL
from caffe_port.evaluation.figures import (
    Reference,
    as_json,
    confusion_image,
    evaluated_rows,
    image_table,
    versions,
)
from caffe_port.evaluation.pipeline import Result
from caffe_port.evaluation.scoring import ConfusionMatrix, Counts, changes_section, image_iou
from caffe_port.evaluation.steps import Outcome
from caffe_port.files import write_bytes, write_text
from caffe_port.reports import html
from caffe_port.reports.html import label_map, photograph

if TYPE_CHECKING:
    from rich.table import Table


LARGEST = 360  # pixels: sharp enough at the size a gallery shows, and a small file
RIGHT, WRONG, IGNORED = (226, 229, 232), (200, 44, 36), (250, 250, 248)
REPAIRED, BROKEN, NEITHER = (38, 138, 76), WRONG, (222, 160, 30)
_REFINED = "after CRF"
OVERALL = ("mean IoU", "pixel accuracy", "mean accuracy", "frequency-weighted IoU")


def chosen(result: Result, number: int) -> dict[str, list[Outcome]]:
    """Typical, worst and best images, ``number`` of each at most; without truth the first ones.

    Typical images are those around the median of the images' mean IoU.
    """
    good = [outcome for outcome in result.outcomes if not outcome.error]
    scored = [outcome for outcome in good if not np.isnan(_final_iou(outcome))]
    if not scored:
        return {"First images": good[:number]}
    ranked = sorted(scored, key=_final_iou)
    start = max(0, (len(ranked) - number) // 2)
    return {
        "Typical images": ranked[start : start + number],
        "Worst images": ranked[:number],
        "Best images": ranked[::-1][:number],
    }


def gallery(result: Result, outcomes: Sequence[Outcome]) -> html.Html:
    """One row per image: image, truth, before, after, what the CRF changed, what is wrong.

    Args:
        result: the evaluation; its label maps must still be on disk.
        outcomes: some of its images.
    """
    items = {item.id: item for item in result.items}
    rows = [_row(result, items[outcome.id], outcome) for outcome in outcomes]
    # a grid each, so that a narrow page breaks every row in the same way
    return html.Html("".join(html.figure_grid(row, columns=len(row)) for row in rows))


def _row(result: Result, item: VOCItem, outcome: Outcome) -> list[html.Html]:
    colours = result.store.colours

    def coloured(labels: Bytes) -> bytes:
        return label_map(labels, colours, largest=LARGEST)

    before = read_labels(result.store.before(item.id), colours)
    final, row = before, [html.figure(photograph(read_rgb(item.image), largest=LARGEST), item.id)]
    truth = None
    if item.label is not None:
        truth = result.rules.read(item.label, result.classes).labels
    if truth is not None:
        row.append(html.figure(coloured(truth), "truth"))
    row.append(html.figure(coloured(before), _captioned("before", outcome.before)))
    if result.store.refined:
        final = read_labels(result.store.after(item.id), colours)
        row.append(html.figure(coloured(final), _captioned("after", outcome.after)))
    if truth is not None and result.store.refined:
        row.append(_changes(truth, before, final))
    if truth is not None:
        wrong = (final != truth) & (truth != IGNORED_LABEL)
        kinds = np.where(truth == IGNORED_LABEL, np.uint8(2), wrong.astype(np.uint8))
        caption = f"wrong: {100 * wrong.mean():.1f} % of the pixels"
        palette = np.array([RIGHT, WRONG, IGNORED], np.uint8)
        row.append(html.figure(label_map(kinds, palette, largest=LARGEST), caption))
    return row


def _changes(truth: Bytes, before: Bytes, after: Bytes) -> html.Html:
    """What the CRF changed: repaired, broken, or from one wrong class to another."""
    valid = truth != IGNORED_LABEL
    changed = valid & (before != after)
    repaired, broken = changed & (after == truth), changed & (before == truth)
    kinds = np.select([~valid, repaired, broken, changed], [1, 2, 3, 4], 0).astype(np.uint8)
    palette = np.array([RIGHT, IGNORED, REPAIRED, BROKEN, NEITHER], np.uint8)
    words = f"CRF: {int(repaired.sum()):,} repaired (green), {int(broken.sum()):,} broken (red)"
    return html.figure(label_map(kinds, palette, largest=LARGEST), words)


def _captioned(name: str, counts: Counts | None) -> str:
    return name if counts is None else f"{name}: IoU {100 * image_iou(counts):.1f} %"


def _final_iou(outcome: Outcome) -> float:
    return image_iou(outcome.before if outcome.after is None else outcome.after)


def write_report(
    result: Result,
    names: Sequence[str],
    *,
    title: str,
    subtitle: str = "",
    reference: Reference | None = None,
    images: int = 6,
    more: Mapping[str, object] | None = None,
    sections: Iterable[html.Html] = (),
) -> tuple[Path, Path]:
    """Writes report.html, which needs no other file, and report.json next to the label maps.

    Also written are per_image.csv and the confusion matrices as images.

    Args:
        result: from ``evaluate``.
        names: of the classes.
        title, subtitle: the page's heading.
        reference: figures to compare with.
        images: how many typical, worst and best ones to show.
        more: further entries of report.json.
        sections: further sections, between the first images and the table of classes.
    Returns:
        The paths of report.html and report.json.
    """
    values = {**as_json(result, names), **(more or {})}
    confusions = {name: confusion_image(m, names) for name, m in _matrices(result).items()}
    legend = _legend(names, result.store.colours)
    shown = [
        html.section(heading, legend, gallery(result, outcomes))
        for heading, outcomes in (chosen(result, images).items() if images else ())
    ]
    tables = [*sections, _iou_section(result, names, reference, confusions)]
    if result.changes is not None:
        tables.append(changes_section(result.changes, names))
    body = [_summary(result), *shown[:1], *tables, *shown[1:], _run_section(result)]
    paths = (result.store.root / "report.html", result.store.root / "report.json")
    write_text(paths[0], html.page(title, body, subtitle=subtitle))
    write_text(result.store.root / "per_image.csv", image_table(evaluated_rows(result), names))
    for name, image in confusions.items():
        stage = "after" if name == _REFINED else "before"
        write_bytes(result.store.root / f"confusion_{stage}.png", image)
    write_text(paths[1], json.dumps(values, indent=1, allow_nan=False) + "\n")
    return paths


def percent(value: float | None) -> str:
    """A share as per cent with three decimals, a dash when unknown."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.3f}"


def _matrices(result: Result) -> dict[str, ConfusionMatrix]:
    both = {"before CRF": result.before, _REFINED: result.after}
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
            columns.append(
                (f"{reference.name}, {when}", [*known, mean, *[math.nan] * (len(OVERALL) - 1)])
            )
    rows = [
        [label, *(percent(values[i]) for _, values in columns)]
        for i, label in enumerate([*names, *OVERALL])
    ]
    return ["class", *(name for name, _ in columns)], rows


def _overall(matrix: ConfusionMatrix) -> list[float]:
    return [
        matrix.mean_iou(),
        matrix.pixel_accuracy(),
        matrix.mean_recall(),
        matrix.frequency_weighted_iou(),
    ]


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
    """What a reader must know to interpret the figures."""
    words = [f"The network has {len(names)} classes: {', '.join(names)}."]
    if not _matrices(result):
        return [*words, "The list has no label maps, so nothing is scored."]
    for name, matrix in _matrices(result).items():
        if matrix.absent:
            absent = ", ".join(names[c] for c in matrix.absent)
            words.append(f"In neither truth nor prediction ({name}), so not in the mean: {absent}.")
    if result.unknown:
        labels = ", ".join(f"{k} ({v} pixels)" for k, v in sorted(result.unknown.items()))
        words.append(
            "The truth also has labels that the network does not have, which were ignored: "
            f"{labels}. The score says nothing about them."
        )
    return words


def _iou_section(
    result: Result,
    names: Sequence[str],
    reference: Reference | None,
    images: Mapping[str, bytes],
) -> html.Html:
    notes = [html.paragraph(words) for words in remarks(result, names)]
    if not _matrices(result):
        return html.section("IoU by class", *notes)
    headers, rows = iou_table(result, names, reference)
    table = html.table(headers, rows, row_classes=[""] * len(names) + ["total", "", "", ""])
    rule = "One confusion matrix over all images; ignored pixels (VOC's boundaries) do not count."
    confusions = [
        _confusion(name, matrix, names, images[name]) for name, matrix in _matrices(result).items()
    ]
    end = html.paragraph(rule, note=True)
    return html.section("IoU by class, %", notes[0], table, *notes[1:], end, *confusions)


def _confusion(name: str, matrix: ConfusionMatrix, names: Sequence[str], image: bytes) -> html.Html:
    rows = [[label, *row] for label, row in zip(names, matrix.counts.tolist(), strict=True)]
    table = html.table(["truth \\ prediction", *names], rows)
    figure = html.figure(image, "share of each true class (row)")
    return html.details(f"Confusion matrix {name} (pixels)", figure, table)


def _legend(names: Sequence[str], colours: Bytes) -> html.Html:
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
