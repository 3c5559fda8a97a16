"""``caffe-port crf``: DeepLab's separate CRF programs, with their own flags."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from caffe_port.printing import echo

if TYPE_CHECKING:
    from caffe_port.crf.programs import Item, Kernels, Kind

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
SOME_FAILED = 1  # exit status

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
@click.option("-id", "pictures", type=FOLDER, required=True, help="Pictures: .ppm, .jpg or .png.")
@click.option("-fd", "features", type=FOLDER, required=True, help="NAME.bin or NAME_blob_0.mat.")
@click.option(
    "-sd",
    "out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Where label maps go: NAME.bin, NAME.png.",
)
@click.option("-i", "iterations", type=click.IntRange(min=0), help="Iterations.  [default: 10]")
@_kernel_options
@click.option("--kind", type=click.Choice(["bin", "mat"]), help="Where -fd holds both.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    help="Threads.  [default: OMP_NUM_THREADS or all]",
)
@click.option("--png/--no-png", default=True, help="Label maps as pictures, too.  [default: png]")
@click.option("--fresh", is_flag=True, help="Also refine what is done already.")
def command(
    pictures: Path,
    features: Path,
    out: Path,
    kind: Literal["bin", "mat"] | None,
    jobs: int | None,
    png: bool,
    fresh: bool,
    **settings: float | None,
) -> None:
    """Refine a folder of probabilities or scores with the dense CRF.

    Does what DeepLab's prog_refine_pascal does with .bin probabilities (defaults: widths 60 and 20,
    weight 10) and prog_refine_pascal_v4 with .mat scores (70, 5 and 5), and writes the same files.
    Repeated, the command goes on with what is missing or older than its inputs.

    Exit status: 0 done, 1 some images could not be refined (they are named), 2 nothing could.
    """
    from caffe_port.crf.programs import DEFAULTS, find_items, find_kind, refine_items, unfinished
    from caffe_port.errors import UsageError
    from caffe_port.evaluation.workers import cores
    from caffe_port.locks import locked

    which: Kind = kind or find_kind(features)
    kernels = _kernels(DEFAULTS[which], settings)
    items = find_items(pictures, features, which)
    if not items:
        raise UsageError(f"{features} holds no features of kind {which}")
    with locked(out / ".crf.lock", str(out), "refining into this folder", "choose another folder"):
        left = unfinished(items, out, kernels, which, png=png)
        if fresh:
            left = items
        if len(left) < len(items):
            echo(f"{len(items) - len(left)} of {len(items)} images are done already", err=True)
        workers = jobs or cores()
        failed = _show(refine_items(left, out, which, kernels, jobs=workers, png=png), len(left))
    if failed:
        echo(f"{failed} of {len(left)} images could not be refined", err=True)
        raise click.exceptions.Exit(SOME_FAILED)


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


def _show(results: Any, total: int) -> int:
    """Tells how far it is and names what failed; returns how many did."""
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
