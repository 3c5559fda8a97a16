"""`caffe-port evaluate`: label maps, scores and a report; `score`: scores a folder of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffe_port.cli.labels import (
    dataset_of,
    decoded_as,
    image_options,
    item_options,
    items_of,
    label_options,
    names_of,
    rules_of,
)
from caffe_port.cli.options import (
    MODEL,
    Arguments,
    chosen,
    crf_factory,
    crf_options,
    crop_option,
    device_option,
    engine_options,
    inference_options,
    mean_option,
    net_factory,
    net_options,
)
from caffe_port.errors import echo

if TYPE_CHECKING:
    from caffe_port.evaluation.figures import Reference
    from caffe_port.evaluation.folder_scoring import Scored
    from caffe_port.evaluation.network import NetFactory, Options
    from caffe_port.evaluation.pipeline import Result
    from caffe_port.model_info import ModelInfo
    from caffe_port.ranks import ImageRanks
    from caffe_port.reports.html import Html

boundary_option = click.option(
    "--boundary", is_flag=True, help="Also score boundaries: boundary IoU and F."
)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
SOME_FAILED = 1  # exit status of score


@click.command(name="evaluate")
@click.argument("net", type=MODEL)
@click.argument("weights", type=FILE, required=False)
@item_options
@click.option("--no-labels", is_flag=True, help="Predict only, as for a test list.")
@crf_options
@inference_options
@crop_option
@mean_option
@click.option("--blob", help="Score blob at full resolution.  [default: found in the net]")
@device_option
@engine_options
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    help="Images in the network at a time.  [default: one for each core, at most 4; not on the "
    "CPU: 1]",
)
@click.option(
    "--crf-threads",
    "refiner_threads",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Cores for the CRF alone.  [0: all cores do everything]",
)
@click.option(
    "--score-cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that keeps the scores: other CRF settings then need no network.",
)
@click.option("--names", type=FILE, help="Class names, one a line.  [default: VOC's for 21]")
@click.option("--reference", type=FILE, help="JSON with figures to compare with.")
@label_options
@image_options
@click.option(
    "--pictures", type=click.IntRange(min=0), default=6, show_default=True,
    help="Images shown in the report.",
)  # fmt: skip
@click.option("--trimap", is_flag=True, help="Also score bands of 1 to 40 pixels at boundaries.")
@boundary_option
@click.option("--comp6", is_flag=True, help="Also write label maps as the VOC server takes them.")
@click.option("--fresh", is_flag=True, help="Delete the label maps of a previous run first.")
@click.option("--skip-bad", is_flag=True, help="Skip images that cannot be used.")
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder."
)
@net_options
def evaluate_command(**arguments: Any) -> None:
    """Run NET over images and score it: mean IoU before and after the dense CRF.

    NET is a prototxt with WEIGHTS, a converted model or a model folder. Label maps go to OUT/before
    and OUT/after as PNGs with the data set's palette, figures and images to OUT/report.html and
    report.json. After an interruption, the same command resumes. On several processes or machines:

    torchrun --nproc-per-node N --no-python caffe-port evaluate ...

    Exit status: 0 done, 2 something cannot be read or used, 130 interrupted.
    """
    from caffe_port.files import expect_writable

    out: Path = arguments["out"]
    expect_writable(out / "report.html")
    from caffe_port.ranks import evaluation_ranks

    try:
        with decoded_as(arguments), evaluation_ranks() as ranks:
            _evaluate(arguments, ranks)
    except KeyboardInterrupt as error:
        finished = len(list((out / "before").glob("[!.]*.png")))
        raise KeyboardInterrupt(
            f"interrupted: {finished} finished label maps are kept in {out}; "
            "run the same command again to resume"
        ) from error


def _evaluate(arguments: Arguments, ranks: ImageRanks) -> None:
    from caffe_port.evaluation.pipeline import evaluate
    from caffe_port.evaluation.store import locked
    from caffe_port.reports.progress import shown_images
    from caffe_port.stalls import Waiting

    network = net_factory(arguments)
    info = network.info
    options = _options(arguments, network)
    for name in ("trimap", "boundary"):
        if arguments[name] and arguments["no_labels"]:
            raise click.UsageError(f"--{name} needs label maps; it cannot be used with --no-labels")
    with Waiting(arguments["images"]):
        items = items_of(arguments, with_labels=not arguments["no_labels"])
    reference = _reference(arguments["reference"])
    first = ranks.number == 0
    with shown_images("evaluate", quiet=not first) as show:
        result = evaluate(
            items,
            network,
            arguments["out"],
            options,
            make_refiner=crf_factory(arguments, options.mean, info),
            progress=lambda done, total, outcome: show(done, total, outcome.lines),
            ranks=ranks,
        )
    if first:
        with locked(arguments["out"]):
            _report(arguments, result, reference, info)


def _report(
    arguments: Arguments, result: Result, reference: Reference | None, info: ModelInfo
) -> None:
    from caffe_port.evaluation.report import write_report

    names = names_of(arguments, result.classes, info)
    sections, more = _trimap(result) if arguments["trimap"] else ([], {})
    if arguments["boundary"]:
        from caffe_port.evaluation.boundary import boundaries, boundaries_json, boundaries_section

        found = boundaries(result)
        sections.append(boundaries_section(found, names))
        more["boundary"] = boundaries_json(before=found.before, after=found.after)
    page, _ = write_report(
        result,
        names,
        title=f"Evaluation of {arguments['net'].name}",
        subtitle=f"{len(result.items)} images of {arguments['images']}",
        reference=reference,
        images=arguments["pictures"],
        more=more,
        sections=sections,
    )
    _show_evaluate(result, names, reference)
    echo(f"report: {page}")


def _trimap(result: Result) -> tuple[list[Html], dict[str, object]]:
    """The section of report.html and the entry of report.json."""
    from caffe_port.evaluation.boundary import trimap_curves, trimap_json, trimap_section

    curves = trimap_curves(result)
    return [trimap_section(curves)], {"trimap": trimap_json(curves)}


def _options(arguments: Arguments, network: NetFactory) -> Options:
    from caffe_port.evaluation.network import Options, image_size
    from caffe_port.evaluation.score_net import preprocessing_of
    from caffe_port.evaluation.test_time import InferenceOptions

    info = network.info
    mean, scale = preprocessing_of(network.spec, info, arguments["mean"])
    crop = arguments["crop"] or image_size(network.spec)
    given = {name: value for name, value in arguments.items() if value is not None}
    inference: InferenceOptions | None = chosen(InferenceOptions, given)
    if arguments["overlap"] is None and inference == InferenceOptions():
        inference = None  # as DeepLab evaluates: an image larger than the crop is an error
    data = dataset_of(arguments)
    colours = info.colours() if info.palette else None
    changed = {
        "crop": crop,
        "mean": mean,
        "scale": scale,
        "inference": inference,
        "labels": rules_of(arguments),
        "colours": colours if data is None else data.colours,
    }
    return chosen(Options, {**arguments, **changed})


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


@click.command(name="score")
@click.argument("results", type=FOLDER)
@item_options
@click.option(
    "--classes", type=click.IntRange(1, 255), help="How many.  [default: the data set's, or 21]"
)
@click.option("--names", type=FILE, help="Class names, one a line.  [default: VOC's for 21]")
@label_options
@image_options
@click.option(
    "--kind",
    type=click.Choice(["png", "bin", "mat", "npy", "npz", "h5"]),
    help="Which files, if there are several kinds.",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    help="Threads.  [default: OMP_NUM_THREADS or all]",
)
@click.option(
    "--background", type=float, metavar="T",
    help="Score of class 0 for activation maps of the other classes (.npy of IRN or SEAM).",
)  # fmt: skip
@boundary_option
@click.option(
    "--per-image", type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the figures of every image, as CSV.",
)  # fmt: skip
@click.option("--json", "report", type=click.Path(dir_okay=False, path_type=Path), help="Report.")
def score_command(**arguments: Any) -> None:
    """Score RESULTS, a folder of NAME.png or NAME.bin label maps, or of raw features.

    NAME_blob_0.mat scores are cropped to the image's size, which NAME.bin probabilities already
    have; arrays (.npy, .npz, .h5) are either or label maps. The label is the class of the largest
    value. There is one confusion matrix over all
    images; pixels whose truth is 255 do not count.

    Exit status: 0 done, 1 some images could not be scored (they are named), 2 none could.
    """
    from caffe_port.files import expect_writable

    for option in ("report", "per_image"):
        if arguments[option] is not None:
            expect_writable(arguments[option])
    with decoded_as(arguments):
        scored, names = _score(arguments)
    _show_score(scored, names)
    _write(arguments, scored, names)
    if scored.failed:
        raise click.exceptions.Exit(SOME_FAILED)


def _score(arguments: Arguments) -> tuple[Scored, list[str]]:
    """The result, and the names of the classes."""
    from caffe_port.data.voc import VOC_CLASSES
    from caffe_port.evaluation.folder_scoring import find_kind, score
    from caffe_port.evaluation.scheduler import cores

    data, folder = dataset_of(arguments), arguments["results"]
    classes = arguments["classes"] or len(VOC_CLASSES if data is None else data.classes)
    names = names_of(arguments, classes)
    items = items_of(arguments)
    kind = arguments["kind"] or find_kind(folder, items)
    scored = score(
        folder,
        items,
        kind,
        classes,
        rules=rules_of(arguments),
        colours=None if data is None else data.colours[: len(data.classes)],
        background=arguments["background"],
        boundary=arguments["boundary"],
        jobs=arguments["jobs"] or cores(),
    )
    return scored, names


def _show_score(scored: Scored, names: list[str]) -> None:
    from rich.table import Table

    from caffe_port.errors import console

    matrix, edges, shown = scored.matrix, scored.boundary, console(soft_wrap=True)
    columns = {"IoU": [*matrix.iou(), matrix.mean_iou()]}
    if edges is not None:
        columns["boundary IoU"] = [*edges.iou(), edges.mean_iou()]
        columns["boundary F"] = [*edges.f(), edges.mean_f()]
    table = Table("class", title="IoU, %" if edges is None else "%", title_justify="left")
    for head in columns:
        table.add_column(head, justify="right")
    for i, name in enumerate([*names, "mean IoU" if edges is None else "mean"]):
        mean = i == len(names)
        cells = [f"{100 * column[i]:.3f}" for column in columns.values()]
        table.add_row(name, *cells, style="bold" if mean else None, end_section=i == len(names) - 1)
    table.add_row("pixel accuracy", f"{100 * matrix.pixel_accuracy():.3f}")
    table.add_row("mean accuracy", f"{100 * matrix.mean_recall():.3f}")
    table.add_row("frequency-weighted IoU", f"{100 * matrix.frequency_weighted_iou():.3f}")
    shown.print(table)
    if scored.unknown:
        from caffe_port.datasets.rules import listed

        words = f"ignored, not classes: {listed(scored.unknown)}. The score does not cover them."
        shown.print(words, style="yellow")
    for message in scored.failed:
        shown.print(f"not scored: {message}", style="red")


def _write(arguments: Arguments, scored: Scored, names: list[str]) -> None:
    """The files of ``--json`` and ``--per-image``."""
    from caffe_port.evaluation.boundary import boundaries_json
    from caffe_port.evaluation.figures import image_table, matrix_json
    from caffe_port.files import write_text

    if arguments["per_image"] is not None:
        write_text(arguments["per_image"], image_table(scored.rows, names, stages=[""]))
    if arguments["report"] is None:
        return
    values = {"classes": names, "after": matrix_json(scored.matrix), "not_scored": scored.failed}
    if scored.boundary is not None:
        values["boundary"] = boundaries_json(after=scored.boundary)
    write_text(arguments["report"], json.dumps(values, indent=1, allow_nan=False) + "\n")
