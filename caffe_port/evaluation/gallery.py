"""Pictures of a report, side by side: image, truth, before, after, what changed, what is wrong."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from caffe_port import html
from caffe_port.data.pictures import Bytes, read_labels, read_rgb, voc_palette
from caffe_port.data.voc import VOCItem
from caffe_port.evaluation.confusion import Counts, image_iou
from caffe_port.evaluation.pipeline import Result
from caffe_port.evaluation.worker import Outcome

if TYPE_CHECKING:
    from PIL import Image

LARGEST = 360  # pixels: sharp enough at the size a gallery shows, and a small file
RIGHT, WRONG, IGNORED = (226, 229, 232), (200, 44, 36), (250, 250, 248)
REPAIRED, BROKEN, NEITHER = (38, 138, 76), WRONG, (222, 160, 30)


def chosen(result: Result, number: int) -> dict[str, list[Outcome]]:
    """Images worth a look: the worst, the best and the first, ``number`` of each at most."""
    good = [outcome for outcome in result.outcomes if not outcome.error]
    scored = [outcome for outcome in good if not np.isnan(_final_iou(outcome))]
    if not scored:
        return {"First images": good[:number]}
    ranked = sorted(scored, key=_final_iou)
    return {
        "Worst images": ranked[:number],
        "Best images": ranked[::-1][:number],
        "First images": good[:number],
    }


def gallery(result: Result, outcomes: Sequence[Outcome], *, ignore_label: int) -> html.Html:
    """One row of pictures per image.

    Args:
        result: the evaluation; its label maps must still be on disk.
        outcomes: some of its images.
        ignore_label: drawn apart in the difference.
    """
    items = {item.id: item for item in result.items}
    rows = [_row(result, items[outcome.id], outcome, ignore_label) for outcome in outcomes]
    # a grid each, so that a narrow page breaks every image's row alike
    return html.Html("".join(html.figure_grid(row, columns=len(row)) for row in rows))


def _row(result: Result, item: VOCItem, outcome: Outcome, ignore_label: int) -> list[html.Html]:
    before = read_labels(result.store.before(item.id))
    final, row = before, [html.figure(_photograph(item), item.id)]
    truth = None if item.label is None else read_labels(item.label)
    if truth is not None:
        row.append(html.figure(_label_map(truth), "truth"))
    row.append(html.figure(_label_map(before), _captioned("before", outcome.before)))
    if result.store.refined:
        final = read_labels(result.store.after(item.id))
        row.append(html.figure(_label_map(final), _captioned("after", outcome.after)))
    if truth is not None and result.store.refined:
        row.append(_changes(truth, before, final, ignore_label))
    if truth is not None:
        wrong = (final != truth) & (truth != ignore_label)
        picture = np.where(truth == ignore_label, np.uint8(2), wrong.astype(np.uint8))
        caption = f"wrong: {100 * wrong.mean():.1f} % of the pixels"
        palette = np.array([RIGHT, WRONG, IGNORED], np.uint8)
        row.append(html.figure(_label_map(picture, palette), caption))
    return row


def _changes(truth: Bytes, before: Bytes, after: Bytes, ignore_label: int) -> html.Html:
    """What the CRF changed: repaired, broken, or from one wrong class to another."""
    valid = truth != ignore_label
    changed = valid & (before != after)
    repaired, broken = changed & (after == truth), changed & (before == truth)
    picture = np.select([~valid, repaired, broken, changed], [1, 2, 3, 4], 0).astype(np.uint8)
    palette = np.array([RIGHT, IGNORED, REPAIRED, BROKEN, NEITHER], np.uint8)
    words = f"CRF: {int(repaired.sum()):,} repaired (green), {int(broken.sum()):,} broken (red)"
    return html.figure(_label_map(picture, palette), words)


def _captioned(name: str, counts: Counts | None) -> str:
    return name if counts is None else f"{name}: IoU {100 * image_iou(counts):.1f} %"


def _final_iou(outcome: Outcome) -> float:
    return image_iou(outcome.before if outcome.after is None else outcome.after)


def _photograph(item: VOCItem) -> bytes:
    from PIL import Image

    picture = Image.fromarray(read_rgb(item.image))
    size = _display_size(picture)
    return _encoded(picture.resize(size, Image.Resampling.LANCZOS), "JPEG", quality=88)


def _label_map(labels: Bytes, palette: Bytes | None = None) -> bytes:
    from PIL import Image

    picture = Image.fromarray(labels)
    picture.putpalette((voc_palette() if palette is None else palette).tobytes())
    size = _display_size(picture)
    return _encoded(picture.resize(size, Image.Resampling.NEAREST), "PNG", optimize=True)


def _display_size(picture: Image.Image) -> tuple[int, int]:
    shrink = min(1.0, LARGEST / max(picture.size))
    return max(1, round(picture.width * shrink)), max(1, round(picture.height * shrink))


def _encoded(
    picture: Image.Image, format: str, *, quality: int = 75, optimize: bool = False
) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=format, quality=quality, optimize=optimize)
    return stream.getvalue()
