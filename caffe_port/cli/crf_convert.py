"""``caffe-port crf_convert``: between the files of DeepLab's CRF programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from caffe_port.printing import echo


@click.command(name="crf_convert")
@click.argument(
    "sources", type=click.Path(exists=True, dir_okay=False, path_type=Path), nargs=-1, required=True
)
@click.option("--to", type=click.Choice(["bin", "mat", "png"]), required=True, help="What to make.")
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder.",
)
@click.option(
    "-id",
    "pictures",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Pictures: cut scores to the size of NAME.ppm, .jpg or .png.",
)
@click.option("--raw", is_flag=True, help="Copy values: no softmax or logarithm between kinds.")
def command(
    sources: tuple[Path, ...],
    to: Literal["bin", "mat", "png"],
    out: Path,
    pictures: Path | None,
    raw: bool,
) -> None:
    """Convert NAME.bin, NAME_blob_0.mat and NAME.png files.

    Scores (.mat) become probabilities (.bin) by the softmax, probabilities become scores by the
    logarithm (of at least the smallest normal float32). Label maps go between .bin and .png.

    Exit status: 0 done, 2 a file cannot be read or converted.
    """
    for source in sources:
        echo(str(_convert(source, to, out, pictures, raw)))


def _convert(source: Path, to: str, out: Path, pictures: Path | None, raw: bool) -> Path:
    import numpy as np

    from caffe_port.crf.files import MAT_SUFFIX, write_bin, write_scores
    from caffe_port.data.pictures import write_labels
    from caffe_port.errors import DataError

    values = _read(source, raw, to)
    name = source.name.removesuffix(MAT_SUFFIX).removesuffix(source.suffix)
    if pictures is not None and values.ndim == 3:
        values = _cut(values, source, name, pictures)
    target = out / (name + (MAT_SUFFIX if to == "mat" else f".{to}"))
    is_labels = values.ndim == 2
    if to == "bin":
        write_bin(target, values)
    elif to == "mat" and not is_labels:
        write_scores(target, values)
    elif to == "png" and is_labels and values.min() >= 0 and values.max() < 256:
        write_labels(target, values.astype(np.uint8))
    else:
        raise DataError(
            f"{source}: holds {'labels' if is_labels else 'probabilities or scores'} "
            f"{values.shape}, which no .{to} file holds"
        )
    return target


def _cut(values: Any, source: Path, name: str, pictures: Path) -> Any:
    """Drops the padding right of the picture and below it."""
    from caffe_port.crf.programs import PICTURES, Item, read_picture
    from caffe_port.errors import DataError

    paths = (pictures / f"{name}{suffix}" for suffix in PICTURES)
    picture = next((path for path in paths if path.is_file()), None)
    height, width, _ = read_picture(Item(name, source, picture)).shape
    if values.shape[1] < height or values.shape[2] < width:
        raise DataError(f"{source}: {values.shape} does not cover {height} x {width} pixels")
    return values[:, :height, :width]


def _read(source: Path, raw: bool, to: str) -> Any:
    import numpy as np

    from caffe_port.crf.files import read_bin, read_scores
    from caffe_port.data.pictures import read_labels

    if source.suffix == ".png":
        return read_labels(source)
    if source.suffix == ".mat":
        scores = read_scores(source)
        if raw or to != "bin":
            return scores
        p = np.exp(scores - scores.max(0))
        return p / p.sum(0)
    values = read_bin(source)
    if raw or to != "mat" or values.ndim == 2:
        return values
    return np.log(np.maximum(values, np.finfo(np.float32).tiny))
