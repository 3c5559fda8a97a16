"""Checks items on all cores, writes their masks and lists, and resumes an interrupted run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from caffe_port.data.images import Bytes, PathLike, read_labels, read_note, write_labels
from caffe_port.data.voc_prepare.folders import SBD, VOC, Lists, count_notes, make_lists
from caffe_port.data.voc_prepare.layout import Counts, Item, checked, counted, layout_items
from caffe_port.data.voc_prepare.report import Outcome, Problem
from caffe_port.errors import DataError, UsageError
from caffe_port.files import write_text
from caffe_port.reports.progress import Report

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
