"""Prepares VOC, and reports what was found."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from caffe_port.data.images import (
    Bytes,
    PathLike,
    read_labels,
    read_note,
    read_rgb,
    voc_palette,
    write_labels,
)
from caffe_port.data.list_file import list_words
from caffe_port.data.voc import VOC_CLASSES
from caffe_port.data.voc_prepare.layout import (
    IGNORED,
    PUBLISHED,
    SBD,
    VOC,
    Counts,
    Item,
    Lists,
    checked,
    count_notes,
    counted,
    layout_items,
    make_lists,
)
from caffe_port.errors import DataError, UsageError
from caffe_port.files import write_text
from caffe_port.reports import html
from caffe_port.reports.html import photograph
from caffe_port.reports.progress import Report


@dataclass(frozen=True)
class Problem:
    """A file that is missing or broken: its image and its fault."""

    id: str
    message: str


@dataclass
class Outcome:
    """The outcome of preparing or checking a folder.

    Attributes:
        lists: images of each list.
        notes: differences from the published data, which are expected in other folders.
        problems: every missing or broken file, in order of the ids.
        masks: number of good masks by origin.
        made, kept: masks written now, and those kept from an earlier run.
        classes: their number; 21 get VOC's names.
        images, pixels: for each of 256 labels, good masks that have it, and its pixels there.
    """

    lists: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    masks: dict[str, int] = field(default_factory=dict)
    made: int = 0
    kept: int = 0
    classes: int = len(VOC_CLASSES)
    images: Counts = field(default_factory=lambda: np.zeros(256, np.int64))
    pixels: Counts = field(default_factory=lambda: np.zeros(256, np.int64))

    def class_rows(self) -> list[tuple[str, int, float]]:
        """Name of each label that occurs, images that have it, its share of the pixels in %."""
        total = max(int(self.pixels.sum()), 1)
        names = {label: f"class {label}" for label in range(self.classes)} | {IGNORED: "void"}
        if self.classes == len(VOC_CLASSES):
            names |= dict(enumerate(VOC_CLASSES))
        rows = []
        for label in np.nonzero(self.images)[0]:
            name = names[int(label)]
            share = 100 * int(self.pixels[label]) / total
            rows.append((name, int(self.images[label]), share))
        return rows

    def to_json(self) -> dict[str, object]:
        """Everything that does not depend on earlier runs."""
        return {
            "lists": {
                name: {"images": count, "published": PUBLISHED.get(name)}
                for name, count in self.lists.items()
            },
            "masks": self.masks,
            "notes": self.notes,
            "problems": [{"id": p.id, "message": p.message} for p in self.problems],
            "classes": [
                {"name": name, "images": images, "pixels_percent": round(share, 6)}
                for name, images, share in self.class_rows()
            ],
        }

    def write_json(self, path: Path) -> None:
        """Writes ``to_json``, whole or not at all."""
        write_text(path, json.dumps(self.to_json(), indent=1) + "\n")


_IMAGES, _LARGEST = 10, 240  # how many, and pixels of the longer side


def write_reports(outcome: Outcome, out: Path) -> Path:
    """Writes report.json and report.html into the prepared folder; returns the page's path."""
    outcome.write_json(out / "report.json")
    sections = [
        html.section("Lists", _lists(outcome), *map(html.paragraph, outcome.notes)),
        html.section("Files that are missing or broken", _problems(outcome)),
        html.section("Classes", _classes(outcome)),
        html.section("Images", html.figure_grid(_figures(out))),
    ]
    masks = ", ".join(f"{count:,} masks of {source}" for source, count in outcome.masks.items())
    page = html.page("VOC as DeepLab trained on it", sections, subtitle=masks)
    write_text(out / "report.html", page)
    return out / "report.html"


def _lists(outcome: Outcome) -> html.Html:
    rows, kinds = [], []
    for name, count in outcome.lists.items():
        published = PUBLISHED.get(name)
        rows.append([name, f"{count:,}", "-" if published is None else f"{published:,}"])
        kinds.append("pass" if count == published else "warn")
    return html.table(["list", "images", "published"], rows, row_classes=kinds)


def _problems(outcome: Outcome) -> html.Html:
    if not outcome.problems:
        return html.paragraph("None.")
    rows = [[problem.id, problem.message] for problem in outcome.problems]
    return html.table(["image", "what is wrong"], rows, align=["left", "left"])


def _classes(outcome: Outcome) -> html.Html:
    rows = [[name, f"{count:,}", f"{share:.3f}"] for name, count, share in outcome.class_rows()]
    return html.table(["label", "images", "of all pixels, %"], rows)


def _figures(out: Path) -> list[html.Html]:
    """Images under their masks, evenly spread over the largest list."""
    lists = [path for path in sorted((out / "list").glob("*.txt")) if path.stem[-3:] != "_id"]
    pairs = max(([w for _, w in list_words(p) if len(w) == 2] for p in lists), key=len, default=[])
    number = min(_IMAGES, len(pairs))
    figures = []
    for words in (pairs[i * len(pairs) // number] for i in range(number)):
        image, mask = (out / word.lstrip("/") for word in words)
        try:
            figures.append(html.figure(_blended(image, mask), mask.stem))
        except DataError:
            continue  # named among the broken files
    return figures


def _blended(image: Path, mask: Path) -> bytes:
    pixels, labels = read_rgb(image), read_labels(mask)
    if pixels.shape[:2] != labels.shape:
        raise DataError(f"{mask}: not of its image's size")
    mixed = np.where(labels[:, :, None] > 0, 0.4 * pixels + 0.6 * voc_palette()[labels], pixels)
    return photograph(mixed.astype(np.uint8), largest=_LARGEST)


MASKS, IMAGES, LISTS = "SegmentationClassAug", "JPEGImages", "list"


def _silent(done: int, total: int, lines: Sequence[str]) -> None:
    """Shows no progress."""


def prepare(
    voc: VOC,
    sbd: SBD | None,
    out: PathLike,
    *,
    classes: int = 21,
    jobs: int = 1,
    fresh: bool = False,
    progress: Report = _silent,
) -> Outcome:
    """Writes out/SegmentationClassAug, out/list and, unless out is VOC's own, a link to JPEGImages.

    A mask is written after its image and its source have passed every check; one that exists, is
    newer than both and comes from the same source is kept. That of a bad item is removed. The lists
    are complete even if files are bad.

    Args:
        voc, sbd: the downloads; without SBD there are no _aug lists.
        out: the folder; may be VOC's own.
        classes: labels 0 to classes - 1 and 255 are allowed.
        jobs: threads.
        fresh: rebuild everything.
        progress: called after every image with its faults.
    Raises:
        UsageError: out has another JPEGImages.
        OSError: out cannot be written.
    """
    root, lists = Path(out), make_lists(voc, sbd)
    _link_images(voc.root / IMAGES, root / IMAGES)
    counts = {name: len(ids) for name, ids in lists.ids.items()}
    outcome = Outcome(counts, list(lists.notes), classes=classes)
    items = _items(voc, sbd, lists, root / MASKS)
    _collect(outcome, items, classes, jobs, fresh, progress)
    for name, ids in lists.ids.items():
        labelled = name != "test"
        lines = [f"/{IMAGES}/{id}.jpg" + f" /{MASKS}/{id}.png" * labelled for id in ids]
        _write_list(root / LISTS / f"{name}.txt", lines)
        _write_list(root / LISTS / f"{name}_id.txt", ids)
    return outcome


def check_folder(
    root: PathLike,
    lists: Sequence[PathLike] = (),
    *,
    classes: int = 21,
    jobs: int = 1,
    progress: Report = _silent,
) -> Outcome:
    """Makes the same checks in a folder of the layout that ``prepare`` writes; writes nothing.

    Args:
        root, lists: as for ``layout_items``.
    """
    items, counts = layout_items(root, lists)
    outcome = Outcome(counts, count_notes(counts), classes=classes)
    _collect(outcome, items, classes, jobs, True, progress)
    return outcome


def _items(voc: VOC, sbd: SBD | None, lists: Lists, masks: Path) -> list[Item]:
    """VOC's own mask where it exists or a list of VOC names it; SBD's for the rest."""
    own = {*voc.train, *voc.val, *voc.trainval}
    items = []
    for id in sorted({id for ids in lists.ids.values() for id in ids}):
        mask: Path | None = voc.mask(id)
        if id not in own and not os.path.isfile(voc.mask(id)):
            extra = sbd is not None and (id in lists.ids["trainval_aug"])
            mask = sbd.mask(id) if sbd is not None and extra else None
        items.append(Item(id, voc.image(id), mask, masks / f"{id}.png"))
    return items


@dataclass(frozen=True)
class _Done:
    """The result of an item: pixels of each label, or its faults."""

    item: Item
    counts: Counts | None
    wrong: list[str]
    kept: bool


def _collect(
    outcome: Outcome, items: list[Item], classes: int, jobs: int, fresh: bool, progress: Report
) -> None:
    """Adds up the results of the items, in the items' order."""
    for number, done in enumerate(_each(items, classes, jobs, fresh), 1):
        outcome.problems += [Problem(done.item.id, message) for message in done.wrong]
        if done.counts is not None:
            outcome.pixels += done.counts
            outcome.images += done.counts > 0
            source = done.item.source
            outcome.masks[source] = outcome.masks.get(source, 0) + 1
            outcome.kept += done.kept
            outcome.made += not done.kept and done.item.target is not None
        progress(number, len(items), done.wrong)


def _each(items: list[Item], classes: int, jobs: int, fresh: bool) -> Iterator[_Done]:
    # decoding, inflating and deflating release the interpreter's lock
    pool = ThreadPoolExecutor(jobs, "preparing")
    try:
        yield from pool.map(lambda item: _process(item, classes, fresh), items)
    finally:
        pool.shutdown(cancel_futures=True)


def _process(item: Item, classes: int, fresh: bool) -> _Done:
    labels = None if fresh else _kept(item)
    if labels is not None:
        return _Done(item, counted(labels), [], True)
    labels, wrong = checked(item, classes)
    if item.target is not None and wrong:
        item.target.unlink(missing_ok=True)
    if item.target is not None and labels is not None:
        # Caffe reads masks as grey values, so these must be the classes
        write_labels(item.target, labels, note=item.source, palette=False)
    return _Done(item, None if labels is None else counted(labels), wrong, False)


def _kept(item: Item) -> Bytes | None:
    """The mask that an earlier run wrote from the same files, judging by their dates."""
    if item.target is None or item.mask is None:
        return None
    try:
        made = item.target.stat().st_mtime_ns
        if made < max(path.stat().st_mtime_ns for path in (item.image, item.mask)):
            return None
        return read_labels(item.target) if read_note(item.target) == item.source else None
    except (OSError, DataError):
        return None


def _link_images(images: Path, link: Path) -> None:
    if not link.exists() and not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(images.resolve(), target_is_directory=True)
    if not link.exists() or not link.samefile(images):
        raise UsageError(f"{link} is not {images}; remove it or choose another folder")


def _write_list(path: Path, lines: Sequence[str]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))
