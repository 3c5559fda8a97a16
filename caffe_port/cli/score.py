"""``caffe-port score``: mean IoU of a folder of results, as DeepLab's EvalSegResults gives it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from caffe_port.evaluation.scoring import Scored

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FAULTY = 1  # exit status


@click.command(name="score")
@click.argument("results", type=FOLDER)
@click.option("--images", type=FOLDER, required=True, help="VOC folder, or folder of images.")
@click.option(
    "--list", "image_list", help="List file, or a name in ImageSets/Segmentation.  [default: val]"
)
@click.option("--labels", type=FOLDER, help="Label maps, if not where the list or VOC has them.")
@click.option("--classes", type=click.IntRange(1, 255), default=21, show_default=True)
@click.option("--names", type=FILE, help="Class names, one a line.  [default: VOC's for 21]")
@click.option("--kind", type=click.Choice(["png", "bin", "mat"]), help="Where there are several.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    help="Threads.  [default: OMP_NUM_THREADS or all]",
)
@click.option("--json", "report", type=click.Path(dir_okay=False, path_type=Path), help="Report.")
def command(
    results: Path,
    images: Path,
    image_list: str | None,
    labels: Path | None,
    classes: int,
    names: Path | None,
    kind: str | None,
    jobs: int | None,
    report: Path | None,
) -> None:
    """Score RESULTS, a folder of NAME.png or NAME.bin label maps, or of raw features.

    NAME_blob_0.mat scores are cut to the image's size, NAME.bin probabilities have it already; of
    both the largest class counts. One confusion matrix over all images; pixels of truth 255 do
    not count.

    Exit status: 0 done, 1 some images could not be scored (they are named), 2 nothing could.
    """
    from caffe_port.data.voc import voc_items
    from caffe_port.evaluation.figures import class_names
    from caffe_port.evaluation.scoring import find_kind, score
    from caffe_port.evaluation.workers import cores
    from caffe_port.files import expect_writable

    if report is not None:
        expect_writable(report)
    known = class_names(classes, names)
    items = voc_items(images, image_list, labels)
    which = kind or find_kind(results, items)
    scored = score(results, items, which, classes, jobs=jobs or cores())
    _show(scored, known)
    if report is not None:
        _write(report, scored, known)
    if scored.failed:
        raise click.exceptions.Exit(FAULTY)


def _show(scored: Scored, names: list[str]) -> None:
    from rich.table import Table

    from caffe_port.printing import console

    matrix, shown = scored.matrix, console(soft_wrap=True)
    table = Table("class", title="IoU, %", title_justify="left")
    table.add_column("IoU", justify="right")
    for name, iou in zip(names, matrix.iou(), strict=True):
        table.add_row(name, f"{100 * iou:.3f}")
    table.add_section()
    table.add_row("mean IoU", f"{100 * matrix.mean_iou():.3f}", style="bold")
    table.add_row("pixel accuracy", f"{100 * matrix.pixel_accuracy():.3f}")
    table.add_row("mean recall", f"{100 * matrix.mean_recall():.3f}")
    shown.print(table)
    for message in scored.failed:
        shown.print(f"not scored: {message}", style="red")


def _write(path: Path, scored: Scored, names: list[str]) -> None:
    from caffe_port.evaluation.figures import matrix_json
    from caffe_port.files import write_text

    values = {"classes": names, "after": matrix_json(scored.matrix), "not_scored": scored.failed}
    write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")
