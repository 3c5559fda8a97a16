"""`caffe-port crf` as DeepLab's CRF programs, `crf_convert` of their files, `crf_grid`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from caffe_port.cli.labels import dataset_option, label_options, rules_of
from caffe_port.errors import echo

if TYPE_CHECKING:
    from caffe_port.crf.programs import Item, Kernels, Kind
    from caffe_port.evaluation.refinement import Colours

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
SOME_FAILED = 1  # exit status
_FEATURES = "NAME.bin, NAME_blob_0.mat, .npy, .npz or .h5."
KINDS = ["bin", "mat", "npy", "npz", "h5"]

_WIDTHS = {
    "px": "Position kernel: width in x.",
    "py": "Position kernel: width in y.",
    "pw": "Position kernel: weight.",
    "bx": "Bilateral kernel: width in x.",
    "by": "Bilateral kernel: width in y.",
    "br": "Bilateral kernel: width in red.",
    "bg": "Bilateral kernel: width in green.",
    "bb": "Bilateral kernel: width in blue.",
    "bw": "Bilateral kernel: weight.",
}


def _kernel_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, text in reversed(_WIDTHS.items()):
        function = click.option(f"-{name}", name, type=float, help=text)(function)
    return function


@click.command(name="crf")
@click.option("-id", "photos", type=FOLDER, required=True, help="Images: .ppm, .jpg or .png.")
@click.option("-fd", "features", type=FOLDER, required=True, help=_FEATURES)
@click.option(
    "-sd",
    "out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the label maps: NAME.bin, NAME.png.",
)
@click.option("-i", "iterations", type=click.IntRange(min=0), help="Iterations.  [default: 10]")
@_kernel_options
@click.option("--kind", type=click.Choice(KINDS), help="If -fd has several.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    help="Threads.  [default: OMP_NUM_THREADS or all]",
)
@click.option("--png/--no-png", default=True, help="Also write PNGs.  [default: png]")
@click.option(
    "--probabilities", type=click.Choice(["npy", "npz", "h5"]),
    help="Also write the refined probabilities as NAME.npy, .npz or .h5.",
)  # fmt: skip
@click.option("--fresh", is_flag=True, help="Also refine images that are done.")
def crf_command(
    photos: Path,
    features: Path,
    out: Path,
    kind: Kind | None,
    jobs: int | None,
    png: bool,
    probabilities: str | None,
    fresh: bool,
    **settings: float | None,
) -> None:
    """Refine a folder of probabilities or scores with the dense CRF.

    Works as DeepLab's prog_refine_pascal for .bin probabilities (defaults: widths 60 and 20,
    weight 10) and prog_refine_pascal_v4 for .mat scores and arrays (70, 5 and 5), and writes the
    same files.
    Run again, it refines images whose result is missing or older than their inputs.

    Exit status: 0 done, 1 some images could not be refined (they are named), 2 none could.
    """
    from caffe_port.crf.programs import DEFAULTS, find_items, find_kind, refine_items, unfinished
    from caffe_port.errors import UsageError
    from caffe_port.evaluation.scheduler import cores
    from caffe_port.locks import locked

    which: Kind = kind or find_kind(features)
    kernels = _kernels(DEFAULTS[which], settings)
    items = find_items(photos, features, which)
    if not items:
        raise UsageError(f"{features} has no features of kind {which}")
    with locked(out / ".crf.lock", str(out), "refining into this folder", "choose another folder"):
        array = probabilities or ""
        left = unfinished(items, out, kernels, which, png=png, array=array)
        if fresh:
            left = items
        if len(left) < len(items):
            echo(f"{len(items) - len(left)} of {len(items)} images are done", err=True)
        workers = jobs or cores()
        failed = _show_failures(
            refine_items(left, out, which, kernels, jobs=workers, png=png, array=array),
            len(left),
        )
    if failed:
        echo(f"{failed} of {len(left)} images could not be refined", err=True)
        raise click.exceptions.Exit(SOME_FAILED if failed < len(left) else 2)


def _kernels(usual: Kernels, given: dict[str, float | None]) -> Kernels:
    from caffe_port.crf.programs import Kernels

    def value(name: str, default: float) -> float:
        found = given[name]
        return default if found is None else found

    def values(names: str, defaults: tuple[float, ...]) -> tuple[Any, ...]:
        return tuple(value(n, d) for n, d in zip(names.split(), defaults, strict=True))

    return Kernels(
        int(value("iterations", usual.iterations)),
        values("px py", usual.position_width),
        value("pw", usual.position_weight),
        values("bx by", usual.bilateral_width),
        values("br bg bb", usual.colour_width),
        value("bw", usual.bilateral_weight),
    )


def _show_failures(results: Any, total: int) -> int:
    """Prints progress and failures; returns the number of failures."""
    failed = 0
    every = max(1, total // 10)
    item: Item
    for done, (item, error) in enumerate(results, 1):
        if error is not None:
            failed += 1
            echo(f"{item.name}: {error}", err=True)
        if done % every == 0 or done == total:
            echo(f"crf: {done} of {total} images", err=True)
    return failed


@click.command(name="crf_convert")
@click.argument(
    "sources", type=click.Path(exists=True, dir_okay=False, path_type=Path), nargs=-1, required=True
)
@click.option(
    "--to",
    type=click.Choice(["bin", "mat", "png", "npy", "npz", "h5"]),
    required=True,
    help="The kind to write.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder.",
)
@click.option(
    "-id",
    "photos",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Images: crop scores to the size of NAME.ppm, .jpg or .png.",
)
@click.option("--raw", is_flag=True, help="Copy values without softmax or logarithm.")
def crf_convert_command(
    sources: tuple[Path, ...],
    to: str,
    out: Path,
    photos: Path | None,
    raw: bool,
) -> None:
    """Convert NAME.bin, NAME_blob_0.mat, NAME.png, .npy, .npz and .h5 files.

    Scores (.mat) become probabilities (.bin) by the softmax, probabilities become scores by the
    logarithm (of at least the smallest normal float32). Arrays (.npy, .npz, .h5) are probabilities
    if they sum to 1 at each pixel, else scores, and are written as they come. Label maps are .bin,
    .png or arrays.

    Exit status: 0 done, 2 a file cannot be read or converted.
    """
    for source in sources:
        echo(str(_convert(source, to, out, photos, raw)))


def _convert(source: Path, to: str, out: Path, photos: Path | None, raw: bool) -> Path:
    import numpy as np

    from caffe_port.crf.files import MAT_SUFFIX, write_array, write_bin, write_scores
    from caffe_port.crf.files import SUFFIXES as ARRAYS
    from caffe_port.data.images import write_labels
    from caffe_port.errors import DataError

    values = _read(source, raw, to)
    name = source.name.removesuffix(MAT_SUFFIX).removesuffix(source.suffix)
    if photos is not None and values.ndim == 3:
        values = _cut(values, source, name, photos)
    target = out / (name + (MAT_SUFFIX if to == "mat" else f".{to}"))
    is_labels = values.ndim == 2
    if to in ARRAYS:
        write_array(target, values)
    elif to == "bin":
        write_bin(target, values)
    elif to == "mat" and not is_labels:
        write_scores(target, values)
    elif to == "png" and is_labels and values.min() >= 0 and values.max() < 256:
        write_labels(target, values.astype(np.uint8))
    else:
        raise DataError(
            f"{source} has {'labels' if is_labels else 'probabilities or scores'} "
            f"{values.shape}, which a .{to} file cannot hold"
        )
    return target


def _cut(values: Any, source: Path, name: str, photos: Path) -> Any:
    """Drops the padding right of the image and below it."""
    from caffe_port.crf.programs import IMAGE_SUFFIXES, Item, read_item_image
    from caffe_port.errors import DataError

    paths = (photos / f"{name}{suffix}" for suffix in IMAGE_SUFFIXES)
    photo = next((path for path in paths if path.is_file()), None)
    height, width, _ = read_item_image(Item(name, source, photo)).shape
    if values.shape[1] < height or values.shape[2] < width:
        raise DataError(f"{source}: {values.shape} does not cover {height} x {width} pixels")
    return values[:, :height, :width]


def _read(source: Path, raw: bool, to: str) -> Any:
    import numpy as np

    from caffe_port.crf.files import SUFFIXES, is_probabilities, read_array, read_bin, read_scores
    from caffe_port.data.images import read_labels

    if source.suffix == ".png":
        return read_labels(source)
    values: Any
    if source.suffix in SUFFIXES.values():
        values = read_array(source)
        is_scores = values.ndim == 3 and not is_probabilities(values)
    else:
        is_scores = source.suffix == ".mat"
        values = read_scores(source) if is_scores else read_bin(source)
    if is_scores:
        if raw or to != "bin":
            return values
        p = np.exp(values - values.max(0))
        return p / p.sum(0)
    if raw or to != "mat" or values.ndim == 2:
        return values
    return np.log(np.maximum(values, np.finfo(np.float32).tiny))


Function = TypeVar("Function", bound=Callable[..., Any])


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
@click.option("-id", "photos", type=FOLDER, required=True, help="Images: .ppm, .jpg or .png.")
@click.option("-fd", "features", type=FOLDER, required=True, help=_FEATURES)
@click.option("-gt", "labels", type=FOLDER, required=True, help="True label maps NAME.png.")
@dataset_option
@label_options
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("-i", "iterations", type=click.IntRange(min=0), default=10, show_default=True)
@click.option(
    "--images", type=click.IntRange(min=1), default=100, show_default=True, help="Number used."
)
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
    help="As in evaluate by default (BGR minus mean), or in DeepLab's programs (RGB).",
)
@click.option("--kind", type=click.Choice(KINDS), help="If -fd has several.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    help="Threads.  [default: OMP_NUM_THREADS or all]",
)
def crf_grid_command(
    photos: Path,
    features: Path,
    labels: Path,
    out: Path,
    iterations: int,
    images: int,
    crf_colours: Colours,
    kind: Kind | None,
    jobs: int | None,
    **others: Any,
) -> None:
    """Try every combination of weights and widths and rank them by mean IoU.

    VALUES are 3,4,5 or first:last:step. Of the images that have features, --images are used,
    evenly spaced in the order of names. Writes OUT/best.json for evaluate --crf-config,
    OUT/grid.json, and OUT/report.html with heat maps.

    Exit status: 0 done, 2 a file cannot be read or used.
    """
    from caffe_port.evaluation.crf_grid import AXES, Grid, mean_ious, search, write_report
    from caffe_port.evaluation.scheduler import cores
    from caffe_port.files import expect_writable

    for name in ("best.json", "grid.json", "report.html"):
        expect_writable(out / name)
    which, chosen = _chosen(photos, features, kind, images)
    grid = Grid(**{name: others[name] for name in AXES}, iterations=iterations)
    workers = jobs or cores()
    total: Any = 0
    counts = search(
        chosen, labels, which, grid, colours=crf_colours, jobs=workers, rules=rules_of(others)
    )
    for done, found in enumerate(counts, 1):
        total = total + found
        echo(f"crf_grid: {done} of {len(chosen)} images", err=True)
    scores = mean_ious(total)
    write_report(out, grid, scores, len(chosen))
    _show_best(grid, scores)
    echo(f"best settings: {out / 'best.json'}; report: {out / 'report.html'}")


def _chosen(photos: Path, features: Path, kind: Kind | None, most: int) -> tuple[Kind, list[Item]]:
    """The kind of features, and at most ``most`` of the images that have them, evenly spaced."""
    from caffe_port.crf.programs import find_items, find_kind
    from caffe_port.errors import UsageError

    which = kind or find_kind(features)
    items = find_items(photos, features, which)
    if not items:
        raise UsageError(f"{features} has no features of kind {which}")
    count = min(most, len(items))
    return which, [items[i * len(items) // count] for i in range(count)]


def _show_best(grid: Any, scores: Any) -> None:
    from rich.table import Table

    from caffe_port.errors import console
    from caffe_port.evaluation.crf_grid import AXES, best_first

    table = Table(*AXES, "mean IoU, %", title="best settings")
    for setting, score in best_first(grid, scores)[:10]:
        table.add_row(*(f"{setting[name]:g}" for name in AXES), f"{100 * score:.3f}")
    console().print(table)
