"""`caffe-port evaluate` and `score`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from caffe_port.cli.options import NetOptions, crop_option, mean_option, net_options, of_net
from caffe_port.errors import echo

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from caffe_port.evaluation.figures import Reference
    from caffe_port.evaluation.network import NetFactory, Settings
    from caffe_port.evaluation.pipeline import Result
    from caffe_port.evaluation.refinement import CRFFactory
    from caffe_port.evaluation.scoring import Scored
    from caffe_port.ranks import ImageRanks
    from caffe_port.reports.html import Html


# ``caffe-port evaluate``: label maps, scores and a report for a list of images.

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


class Options(NetOptions):
    """The command's arguments."""

    net: Path
    weights: Path | None
    images: Path
    image_list: str | None
    labels: Path | None
    no_labels: bool
    crf: str | None
    crf_config: Path | None
    crf_colours: Literal["layer", "rgb"] | None
    crop: tuple[int, int] | None
    mean: tuple[float, float, float]
    blob: str | None
    device: str
    optimized: bool
    jobs: int | None
    crf_threads: int
    score_cache: Path | None
    names: Path | None
    reference: Path | None
    unknown_labels: Literal["error", "ignore"]
    pictures: int
    trimap: bool
    comp6: bool
    fresh: bool
    skip_bad: bool
    out: Path


@click.command(name="evaluate")
@click.argument("net", type=FILE)
@click.argument("weights", type=FILE, required=False)
@click.option("--images", type=FOLDER, required=True, help="VOC folder, or folder of images.")
@click.option(
    "--list", "image_list", help="List file, or a name in ImageSets/Segmentation.  [default: val]"
)
@click.option("--labels", type=FOLDER, help="Label maps, if not where the list or VOC has them.")
@click.option("--no-labels", is_flag=True, help="Only predict, as for a test list.")
@click.option("--crf", help="Dense CRF: preset, bi_w=4,bi_xy_std=49,..., or a JSON object.")
@click.option("--crf-config", type=FILE, help="Dense CRF: JSON file, such as crf_grid's best.json.")
@click.option(
    "--crf-colours",
    type=click.Choice(["layer", "rgb"]),
    help="As Caffe's DenseCRF layer sees them (BGR minus mean) or DeepLab's programs (RGB).  "
    "[default: what --crf-config says, else layer]",
)
@crop_option
@mean_option
@click.option("--blob", help="Score blob at full resolution.  [default: found in the net]")
@click.option("--device", default="cpu", show_default=True, help="As torch names it.")
@click.option("--optimized", is_flag=True, help="Run the network by an inference plan: faster.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    help="Images in the network at a time.  [default: one for each core, at most 4; not on the "
    "CPU: 1]",
)
@click.option(
    "--crf-threads",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Cores for the CRF alone.  [0: all cores do what is nearest its end]",
)
@click.option(
    "--score-cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of scores: kept there, so that other CRF settings need no network.",
)
@click.option("--names", type=FILE, help="Class names, one a line.  [default: VOC's for 21]")
@click.option("--reference", type=FILE, help="JSON with figures to set beside these.")
@click.option(
    "--unknown-labels",
    type=click.Choice(["error", "ignore"]),
    default="error",
    show_default=True,
    help="Truth labels beyond the network's classes.",
)
@click.option("--pictures", type=click.IntRange(min=0), default=6, show_default=True)
@click.option("--trimap", is_flag=True, help="Also score bands of 1 to 40 pixels at boundaries.")
@click.option("--comp6", is_flag=True, help="Also write what the VOC server takes.")
@click.option("--fresh", is_flag=True, help="Drop label maps of an earlier run.")
@click.option("--skip-bad", is_flag=True, help="Go on after an image that cannot be used.")
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder."
)
@net_options
def evaluate_command(**options: Unpack[Options]) -> None:
    """Run NET over images and score it: mean IoU before and after the dense CRF.

    NET is a prototxt with WEIGHTS, or a converted model. Label maps go to OUT/before and
    OUT/after as VOC-palette PNGs, figures and pictures to OUT/report.html and report.json.
    Interrupted, the same command goes on where it stopped. Over processes and machines:

    torchrun --nproc-per-node N --no-python caffe-port evaluate ...

    Exit status: 0 done, 2 something cannot be read or used, 130 interrupted.
    """
    from caffe_port.files import expect_writable

    expect_writable(options["out"] / "report.html")
    from caffe_port.ranks import evaluation_ranks

    try:
        with evaluation_ranks() as ranks:
            _evaluate(options, ranks)
    except KeyboardInterrupt as error:
        finished = len(list((options["out"] / "before").glob("[!.]*.png")))
        raise KeyboardInterrupt(
            f"interrupted: {finished} finished label maps are kept in {options['out']}; "
            "run the same command again to go on"
        ) from error


def _evaluate(options: Options, ranks: ImageRanks) -> None:
    from caffe_port.data.voc import voc_items
    from caffe_port.evaluation.pipeline import evaluate
    from caffe_port.evaluation.store import locked
    from caffe_port.reports.progress import shown_images
    from caffe_port.stalls import Waiting

    network = _network(options)
    settings = _settings(options, network)
    if options["trimap"] and options["no_labels"]:
        raise click.UsageError("--trimap scores label maps; it cannot go with --no-labels")
    with Waiting(options["images"]):
        items = voc_items(
            options["images"],
            options["image_list"],
            options["labels"],
            with_labels=not options["no_labels"],
        )
    reference = _reference(options["reference"])
    first = ranks.number == 0
    with shown_images("evaluate", quiet=not first) as show:
        result = evaluate(
            items,
            network,
            options["out"],
            settings,
            make_refiner=_refiner(options, settings),
            jobs=options["jobs"],
            refiner_threads=options["crf_threads"],
            score_cache=options["score_cache"],
            fresh=options["fresh"],
            skip_bad=options["skip_bad"],
            comp6=options["comp6"],
            progress=lambda done, total, outcome: show(done, total, outcome.lines),
            ranks=ranks,
        )
    if first:
        with locked(options["out"]):
            _report(options, result, settings, reference)


def _report(
    options: Options, result: Result, settings: Settings, reference: Reference | None
) -> None:
    from caffe_port.evaluation.figures import class_names
    from caffe_port.evaluation.report import write_report

    names = class_names(result.classes, options["names"])
    sections, more = _trimap(result, settings) if options["trimap"] else ([], {})
    page, _ = write_report(
        result,
        names,
        title=f"Evaluation of {options['net'].name}",
        subtitle=f"{len(result.items)} images of {options['images']}",
        reference=reference,
        images=options["pictures"],
        ignore_label=settings.ignore_label,
        more=more,
        sections=sections,
    )
    _show_evaluate(result, names, reference)
    echo(f"report: {page}")


def _trimap(result: Result, settings: Settings) -> tuple[list[Html], dict[str, object]]:
    """The section and the entry of the report's two files."""
    from caffe_port.evaluation.trimap import trimap_curves, trimap_json, trimap_section

    curves = trimap_curves(result, settings)
    return [trimap_section(curves)], {"trimap": trimap_json(curves)}


def _settings(options: Options, network: NetFactory) -> Settings:
    from caffe_port.evaluation.network import Settings, image_size

    crop = options["crop"] or image_size(network.spec)
    return Settings(crop, options["mean"], unknown_labels=options["unknown_labels"])


def _network(options: Options) -> NetFactory:
    from caffe_port.evaluation.network import NetFactory

    weights, chosen = options["weights"], of_net(options)
    return NetFactory(
        str(options["net"]),
        None if weights is None else str(weights),
        options["blob"],
        chosen.pop("variables", {}),
        options["device"],
        options["optimized"],
        chosen,
    )


def _refiner(options: Options, settings: Settings) -> CRFFactory | None:
    from caffe_port.crf import parse_parameters
    from caffe_port.evaluation.refinement import CRFFactory, read_crf_config

    text, config, colours = options["crf"], options["crf_config"], options["crf_colours"]
    if text is not None and config is not None:
        raise click.UsageError("--crf and --crf-config are two ways to say the same: give one")
    if config is not None:
        return read_crf_config(config, colours, settings.mean)
    if text is None:
        return None
    if text.endswith(".json"):
        raise click.BadParameter(f"a file is given as --crf-config {text}", param_hint="--crf")
    return CRFFactory(parse_parameters(text), colours or "layer", settings.mean)


def _reference(path: Path | None) -> Reference | None:
    from caffe_port.evaluation.figures import read_reference

    return None if path is None else read_reference(path, path.stem)


def _show_evaluate(result: Result, names: list[str], reference: Reference | None) -> None:
    from caffe_port.errors import console
    from caffe_port.evaluation.report import remarks, terminal_table

    shown = console()
    if result.before is not None:
        shown.print(terminal_table(result, names, reference))
    for remark in remarks(result, names):
        shown.print(remark)
    for outcome in result.skipped:
        shown.print(f"skipped: {outcome.error}", style="red")


# ``caffe-port score``: mean IoU of a folder of results, as DeepLab's EvalSegResults gives it.

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
def score_command(
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
    from caffe_port.evaluation.scheduler import cores
    from caffe_port.evaluation.scoring import find_kind, score
    from caffe_port.files import expect_writable

    if report is not None:
        expect_writable(report)
    known = class_names(classes, names)
    items = voc_items(images, image_list, labels)
    which = kind or find_kind(results, items)
    scored = score(results, items, which, classes, jobs=jobs or cores())
    _show_score(scored, known)
    if report is not None:
        _write(report, scored, known)
    if scored.failed:
        raise click.exceptions.Exit(FAULTY)


def _show_score(scored: Scored, names: list[str]) -> None:
    from rich.table import Table

    from caffe_port.errors import console

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
