"""``caffe-port unravel``: which points of images caused their labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffe_port.cli.labels import dataset_of, dataset_option, names_of
from caffe_port.cli.options import MODEL, crop_option, device_option, mean_option, net_options
from caffe_port.errors import echo

if TYPE_CHECKING:
    from caffe_port.net import Net
    from caffe_port.unravel.analysis import AnalysisOptions


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_SHIFTS = ("full_shift", "no_shift", "partial_shift")


def _integers(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise click.BadParameter(f"'{text}': expected numbers such as 15,7") from None


@click.command(name="unravel")
@click.argument("files", type=MODEL, nargs=-1, required=True, metavar="NET [WEIGHTS] IMAGE...")
@click.option(
    "--labels",
    callback=_integers,
    metavar="15,7",
    help="Labels to trace.  [default: all labels found except the background]",
)
@click.option(
    "--shift",
    "shifts",
    type=click.Choice(_SHIFTS),
    multiple=True,
    help="Where a convolution's point goes; repeat to compare.  [default: full_shift]",
)
@click.option(
    "-k",
    "k",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Channels followed per window.",
)
@click.option("--top", help="Score blob.  [default: found in the net]")
@click.option("--truth", type=_FOLDER, help="True label maps, to compare the points with.")
@dataset_option
@crop_option
@mean_option
@click.option(
    "--names", type=_FILE, help="Class names, one a line.  [default: the data set's, VOC's for 21]"
)
@click.option(
    "--curves",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="Images whose deletion and insertion curves are measured: 89 forward passes per label.",
)
@click.option(
    "--pictures",
    type=click.IntRange(min=0),
    default=6,
    show_default=True,
    help="Images shown in the report.",
)
@device_option
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder."
)
@net_options
def unravel_command(
    files: tuple[Path, ...], truth: Path | None, dataset: str | None, names: Path | None,
    device: str, out: Path,
    labels: tuple[int, ...] | None, shifts: tuple[Any, ...], k: int, top: str | None,
    crop: tuple[int, int] | None, mean: Any, curves: int, pictures: int,
    **options: Any,
) -> None:  # fmt: skip
    """Show which points of images caused each of their labels.

    NET is a prototxt, and WEIGHTS a file in any format; or NET alone is a .pt or .safetensors that
    contains its prototxt, or a model folder. Writes OUT/index.html and an animation per image and
    label.

    Exit status: 0 done, 2 a file cannot be read or used.
    """
    from caffe_port.files import expect_writable

    expect_writable(out / "index.html")
    from caffe_port.evaluation.network import Settings, image_size, score_blob
    from caffe_port.evaluation.score_net import preprocessing
    from caffe_port.unravel.analysis import AnalysisOptions, analyse
    from caffe_port.unravel.report import write_report

    data = dataset_of({"dataset": dataset})
    net, images = _split(files, options)
    net = net.to(device)
    info = net.info
    own_mean, scale = preprocessing(net, mean)
    settings = Settings(
        crop or image_size(net.spec), own_mean, scale=scale,
        labels=None if data is None else data.rules,
    )  # fmt: skip
    first = (info.classes if data is None else data.classes)[:1]
    own_colours = info.colours() if info.palette else None
    analysis = AnalysisOptions(
        top or info.blob or score_blob(net.spec), labels,
        shifts=tuple(dict.fromkeys(shifts)) or ("full_shift",),
        k=k, curves=curves, kept=pictures, settings=settings,
        leave_out=(0,) if first in ((), ("background",)) else (),
        colours=own_colours if data is None else data.colours,
    )  # fmt: skip
    classes = _classes(net, analysis)
    if data is not None:
        data.rules.expect_classes(classes)
    pairs = [(image, _label_map(image, truth)) for image in images]
    shown = names_of({"dataset": dataset, "names": names}, classes, info)
    with click.progressbar(length=len(pairs), label="unravel") as bar:
        analysed = analyse(net, pairs, analysis, progress=lambda name: bar.update(1))
    title = f"What caused the labels: {files[0].name}"
    echo(f"report: {write_report(analysed, net.spec, analysis, shown, out, title)}")


def _split(files: tuple[Path, ...], options: dict[str, Any]) -> tuple[Net, tuple[Path, ...]]:
    """The net of the first one or two files, and the images."""
    from caffe_port.data.voc import is_image_name
    from caffe_port.loading import load

    has_weights = len(files) > 1 and not is_image_name(files[1].name)
    images = files[2:] if has_weights else files[1:]
    if not images:
        raise click.UsageError("no image: expected NET [WEIGHTS] IMAGE...")
    return load(files[0], files[1] if has_weights else None, **options), images


def _label_map(image: Path, truth: Path | None) -> Path | None:
    from caffe_port.data.voc import LABEL_SUFFIXES, file_named

    if truth is None:
        return None
    return file_named(truth, image.stem, LABEL_SUFFIXES) or truth / f"{image.stem}.png"


def _classes(net: Net, analysis: AnalysisOptions) -> int:
    from caffe_port.errors import UsageError

    shape = net.spec.shapes.get(analysis.top, ())
    if len(shape) != 4:
        raise UsageError(f"--top {analysis.top}: its shape is {shape}; expected (N, labels, H, W)")
    return shape[1]
