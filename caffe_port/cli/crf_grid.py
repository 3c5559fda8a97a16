"""``caffe-port crf_grid``: the dense CRF's best settings on a validation subset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from caffe_port.printing import echo

if TYPE_CHECKING:
    from caffe_port.crf.programs import Item, Kind
    from caffe_port.evaluation.makers import Colours

Function = TypeVar("Function", bound=Callable[..., Any])
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


def _values(ctx: click.Context, param: click.Parameter, text: str) -> Any:
    from caffe_port.errors import UsageError
    from caffe_port.evaluation.crf_grid import values

    try:
        return values(text)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def _axis(name: str, default: str, help: str) -> Callable[[Function], Function]:
    return click.option(
        name, default=default, show_default=True, callback=_values, metavar="VALUES", help=help
    )


@click.command(name="crf_grid")
@click.option("-id", "pictures", type=FOLDER, required=True, help="Pictures: .ppm, .jpg or .png.")
@click.option("-fd", "features", type=FOLDER, required=True, help="NAME.bin or NAME_blob_0.mat.")
@click.option("-gt", "labels", type=FOLDER, required=True, help="True label maps NAME.png.")
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("-i", "iterations", type=click.IntRange(min=0), default=10, show_default=True)
@click.option("--images", type=click.IntRange(min=1), default=100, show_default=True)
@_axis("--pos-w", "3", "Position kernel: weights.")
@_axis("--pos-xy-std", "3", "Position kernel: widths.")
@_axis("--bi-w", "3,4,5", "Bilateral kernel: weights.")
@_axis("--bi-xy-std", "30:90:20", "Bilateral kernel: widths in pixels.")
@_axis("--bi-rgb-std", "3:9:2", "Bilateral kernel: widths in colour.")
@click.option(
    "--crf-colours",
    type=click.Choice(["layer", "rgb"]),
    default="layer",
    show_default=True,
    help="As evaluate sees them by default (BGR minus mean), or DeepLab's programs (RGB).",
)
@click.option("--kind", type=click.Choice(["bin", "mat"]), help="Where -fd holds both.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    help="Threads.  [default: OMP_NUM_THREADS or all]",
)
def command(
    pictures: Path,
    features: Path,
    labels: Path,
    out: Path,
    iterations: int,
    images: int,
    crf_colours: Colours,
    kind: Kind | None,
    jobs: int | None,
    **axes: Any,
) -> None:
    """Try every combination of weights and widths and rank them by mean IoU.

    VALUES are 3,4,5 or first:last:step. Of the images that have features, --images are taken,
    evenly spread over their names. Written are OUT/best.json, which evaluate --crf-config takes,
    OUT/grid.json and OUT/report.html with heat maps.

    Exit status: 0 done, 2 a file cannot be read or used.
    """
    from caffe_port.evaluation.crf_grid import Grid, mean_ious, search, write_report
    from caffe_port.evaluation.workers import cores
    from caffe_port.files import expect_writable

    for name in ("best.json", "grid.json", "report.html"):
        expect_writable(out / name)
    which, chosen = _chosen(pictures, features, kind, images)
    grid = Grid(**axes, iterations=iterations)
    workers = jobs or cores()
    total: Any = 0
    counts = search(chosen, labels, which, grid, colours=crf_colours, jobs=workers)
    for done, found in enumerate(counts, 1):
        total = total + found
        echo(f"crf_grid: {done} of {len(chosen)} images", err=True)
    scores = mean_ious(total)
    write_report(out, grid, scores, len(chosen))
    _show(grid, scores)
    echo(f"best settings: {out / 'best.json'}; report: {out / 'report.html'}")


def _chosen(
    pictures: Path, features: Path, kind: Kind | None, most: int
) -> tuple[Kind, list[Item]]:
    """The kind of features, and images evenly spread over the names of all that have some."""
    from caffe_port.crf.programs import find_items, find_kind
    from caffe_port.errors import UsageError

    which = kind or find_kind(features)
    items = find_items(pictures, features, which)
    if not items:
        raise UsageError(f"{features} holds no features of kind {which}")
    count = min(most, len(items))
    return which, [items[i * len(items) // count] for i in range(count)]


def _show(grid: Any, scores: Any) -> None:
    from rich.table import Table

    from caffe_port.evaluation.crf_grid import AXES, best_first
    from caffe_port.printing import console

    table = Table(*AXES, "mean IoU, %", title="best settings")
    for setting, score in best_first(grid, scores)[:10]:
        table.add_row(*(f"{setting[name]:g}" for name in AXES), f"{100 * score:.3f}")
    console().print(table)
