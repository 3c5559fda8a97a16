"""``caffe-port prepare_voc``: VOC 2012 and SBD as DeepLab's training data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffe_port.errors import echo

if TYPE_CHECKING:
    from caffe_port.data.voc_prepare import Outcome


FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
SOME_FAULTY = 1  # exit status
_NAMED = 20  # faulty files named in the terminal; the reports name all


@click.command(name="prepare_voc")
@click.argument("voc", type=FOLDER)
@click.argument("sbd", type=FOLDER, required=False)
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write; may be VOC itself.",
)  # fmt: skip
@click.option(
    "--check-only", is_flag=True, help="Only check the folder VOC, which has this layout."
)
@click.option(
    "--list", "lists", type=click.Path(exists=True, dir_okay=False, path_type=Path), multiple=True,
    help="With --check-only: list file to check; repeat for each.  [default: all of the folder]",
)  # fmt: skip
@click.option("--classes", type=click.IntRange(1, 255), default=21, show_default=True)
@click.option(
    "--strict", is_flag=True, help="Treat counts that differ from the published as faults."
)
@click.option("--fresh", is_flag=True, help="Rebuild everything.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="Threads.  [default: cores + 4]")
def prepare_voc_command(
    voc: Path,
    sbd: Path | None,
    out: Path | None,
    check_only: bool,
    lists: tuple[Path, ...],
    classes: int,
    strict: bool,
    fresh: bool,
    jobs: int | None,
) -> None:
    """Prepare VOC2012 and SBD as DeepLab's training data, and check every file.

    VOC is VOCdevkit/VOC2012, SBD is benchmark_RELEASE/dataset. Writes OUT/SegmentationClassAug
    (class indices as grey PNGs, VOC's masks where both have one), OUT/list with DeepLab's
    lists (train 1,464, train_aug 10,582, trainval_aug 12,031, val 1,449 and others), a link
    OUT/JPEGImages, and OUT/report.html and report.json. Run again, the command writes files that
    are missing or older than their sources.

    Exit status: 0 done, 1 files are missing or damaged (each is named) or, with --strict, counts
    differ, 2 nothing could be done, 130 interrupted.
    """
    from caffe_port.data.voc_prepare import check_folder, find_sbd, find_voc, prepare
    from caffe_port.reports.progress import shown_images

    _check_arguments(out, sbd, check_only, lists)
    workers = jobs or (os.cpu_count() or 1) + 4  # more than cores, because they wait for the disk
    with shown_images("prepare_voc") as progress:
        if check_only:
            outcome = check_folder(voc, lists, classes=classes, jobs=workers, progress=progress)
        else:
            assert out is not None
            own, more = find_voc(voc), None if sbd is None else find_sbd(sbd)
            outcome = prepare(
                own, more, out, classes=classes, jobs=workers, fresh=fresh, progress=progress
            )
    _report(outcome, out)
    if outcome.problems or (strict and outcome.notes):
        raise click.exceptions.Exit(SOME_FAULTY)


def _check_arguments(
    out: Path | None, sbd: Path | None, check_only: bool, lists: tuple[Path, ...]
) -> None:
    if check_only and (out is not None or sbd is not None):
        raise click.UsageError("--check-only takes one folder and writes nothing")
    if not check_only and out is None:
        raise click.UsageError("give -o OUT, or --check-only")
    if lists and not check_only:
        raise click.UsageError("--list needs --check-only")
    if out is not None:
        from caffe_port.files import expect_writable

        expect_writable(out / "report.html")


def _report(outcome: Outcome, out: Path | None) -> None:
    from caffe_port.data.voc_prepare.run import write_reports

    _show(outcome)
    if out is not None:
        echo(f"report: {write_reports(outcome, out)}")


def _show(outcome: Outcome) -> None:
    from rich.table import Table

    from caffe_port.data.voc_prepare import PUBLISHED
    from caffe_port.errors import console

    shown = console(soft_wrap=True)
    table = Table("list", "images", "published", title="lists")
    for name, count in outcome.lists.items():
        published = PUBLISHED.get(name)
        table.add_row(name, f"{count:,}", "-" if published is None else f"{published:,}")
    shown.print(table)
    masks = ", ".join(f"{count:,} of {source}" for source, count in outcome.masks.items()) or "none"
    shown.print(f"good masks: {masks}; {outcome.made:,} written, {outcome.kept:,} kept")
    for note in outcome.notes:
        shown.print(f"note: {note}", style="yellow")
    for problem in outcome.problems[:_NAMED]:
        shown.print(problem.message, style="red")
    if len(outcome.problems) > _NAMED:
        shown.print(f"... and {len(outcome.problems) - _NAMED:,} more", style="red")
    if outcome.problems:
        shown.print(f"{len(outcome.problems):,} files are missing or damaged", style="bold red")
