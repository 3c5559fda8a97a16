"""`caffe-port finetune` and `reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click

from caffe_port.cli.options import import_option, named_value, set_option
from caffe_port.errors import echo

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from caffe_port.finetuning.reproduce import Means, Outcome, Plan
    from caffe_port.finetuning.results import Results
    from caffe_port.finetuning.scoring import Trial


# ``caffe-port finetune``: recipes over several seeds, scored and set beside one another.

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


class Options(TypedDict):
    """The command's arguments."""

    recipe: str | None
    data: Path | None
    init: Path | None
    seeds: int
    variants: tuple[str, ...]
    steps: int | None
    no_dropout: bool
    train_list: str | None
    val_list: str | None
    labels: Path | None
    crf: str | None
    names: Path | None
    variables: dict[str, str]
    device: str
    jobs: int
    threads: int | None
    save_every: int | None
    report: Path | None
    document: Path | None
    out: Path


@click.command(name="finetune")
@click.argument("recipe", required=False)
@click.option("--data", type=FOLDER, help="VOC folder to learn from and to be judged on.")
@click.option("--init", type=FILE, help="Weights that every run starts from.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--variant", "variants", multiple=True, help="Recipe to run; repeat for more.  [default: all]"
)
@click.option("--steps", type=click.IntRange(min=1), help="Updates, instead of the solver's.")
@click.option("--no-dropout", is_flag=True, help="Leave the Dropout layers out.")
@click.option("--train-list", help="List, or its name.  [default: train_aug, else train]")
@click.option("--val-list", help="List, or its name.  [default: val]")
@click.option("--labels", type=FOLDER, help="Label maps, if not where list or VOC have them.")
@click.option("--crf", help="Preset or settings as for evaluate, or none.  [default: the net's]")
@click.option("--names", type=FILE, help="Class names, one a line.  [default: VOC's for 21]")
@set_option
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:1.")
@click.option(
    "-j", "--jobs", type=click.IntRange(min=1), default=1, show_default=True,
    help="Runs at a time, each in a process.",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(min=1), help="Of each process.  [default: cores / jobs]"
)
@click.option(
    "--save-every", type=click.IntRange(min=1),
    help="Updates between snapshots.  [default: the solver's, at most 500]",
)  # fmt: skip
@click.option("--report", type=FILE, help="Only write the report of a results.json again.")
@click.option("--into", "document", type=FILE, help="Fill the marked tables of this document too.")
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("finetune"),
    show_default=True, help="Folder of runs and report.",
)  # fmt: skip
@import_option
def finetune_command(**options: Unpack[Options]) -> None:
    """Train RECIPE and its variants under several seeds, and compare them.

    RECIPE is a recipe (NET/RECIPE in prototxt/, or a folder), trained beside the softmax loss
    alone, or a net, trained by all its recipes. Every run is scored on the validation images,
    before and after the dense CRF. Means, spreads, paired differences to the baseline and
    published figures go to OUT/report.html, results.json and tables.md.

    Finished runs are kept, and one that was interrupted goes on from its last snapshot, with the
    same result. More seeds or variants can be asked for later.

    Exit status: 0 done, 2 something cannot be read or used, 130 interrupted.
    """
    from caffe_port.files import expect_writable
    from caffe_port.finetuning.results import Results

    if options["report"] is not None:
        _report(Results.read(options["report"]), options)
        return
    for name in ("report.html", "results.json", "tables.md"):
        expect_writable(options["out"] / name)
    work = _work(options)
    try:
        _run_finetune(work, options["jobs"])
    except KeyboardInterrupt as error:
        _write(work, options)
        raise KeyboardInterrupt(
            f"interrupted: what was done is kept in {options['out']}; run the same command again "
            "to go on"
        ) from error
    _write(work, options)


def _work(options: Options) -> list[Trial]:
    """All runs."""
    from caffe_port.finetuning.composed import Changes, find_images
    from caffe_port.finetuning.experiment import make_trials
    from caffe_port.finetuning.prepare import make_setting
    from caffe_port.finetuning.variants import find_variants

    recipe, data, init = options["recipe"], options["data"], options["init"]
    if recipe is None or data is None or init is None:
        raise click.UsageError("RECIPE, --data and --init are needed")
    variants = find_variants(recipe, options["variants"])
    images = find_images(data, options["train_list"], options["val_list"], options["labels"])
    changes = Changes(
        options["variables"], options["steps"], not options["no_dropout"], options["save_every"]
    )
    setting = make_setting(
        variants[0], images, init, changes, options["crf"], options["device"],
        options["threads"], options["jobs"],
    )  # fmt: skip
    seeds = range(1, options["seeds"] + 1)
    return make_trials(setting, variants, seeds, options["out"].resolve())


def _run_finetune(work: list[Trial], jobs: int) -> None:
    from caffe_port.finetuning.experiment import run_all
    from caffe_port.reports.progress import shown_runs

    with shown_runs(len(work)) as progress:
        run_all(work, progress, jobs)


def _write(work: list[Trial], options: Options) -> None:
    from caffe_port.finetuning.prepare import class_names_of
    from caffe_port.finetuning.results import gather

    names = class_names_of(work[0].setting.images, options["names"])
    _report(gather(work, names), options)


def _report(results: Results, options: Options) -> None:
    from caffe_port.errors import console
    from caffe_port.finetuning.report import fill_document, remarks, terminal_tables, write_report
    from caffe_port.finetuning.tables import all_tables

    page = write_report(results, options["out"])
    if options["document"] is not None:
        fill_document(options["document"], all_tables(results))
    shown = console()
    for table in terminal_tables(results):
        shown.print(table)
    for remark in remarks(results):
        shown.print(remark)
    echo(f"report: {page}")


# ``caffe-port reproduce``: the published figures, what each needs, and those that can be had.


class ReproduceOptions(TypedDict):
    """The command's arguments."""

    rows: tuple[str, ...]
    data: Path | None
    inits: dict[str, Path]
    weights: dict[str, Path]
    seeds: int
    steps: int | None
    variables: dict[str, str]
    device: str
    jobs: int
    threads: int | None
    list_only: bool
    out: Path


def _files(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Any:
    result = {}
    for value in values:
        name, path = named_value(value, "NAME=FILE")
        if not Path(path).is_file():
            raise click.BadParameter(f"'{path}': no such file")
        result[name] = Path(path)
    return result


@click.command(name="reproduce")
@click.argument("rows", nargs=-1, metavar="[ROW]...")
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="VOC folder."
)
@click.option(
    "--init", "inits", multiple=True, metavar="NAME=FILE", callback=_files,
    help="Weights to train from: vgg16=FILE, resnet101=FILE.",
)  # fmt: skip
@click.option(
    "--weights", multiple=True, metavar="ROW=FILE", callback=_files,
    help="Trained weights of a row, such as the published ones: they are scored.",
)  # fmt: skip
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Of a training."
)
@click.option("--steps", type=click.IntRange(min=1), help="Updates, instead of the published.")
@set_option
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:1.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Of each process.")
@click.option("--list", "list_only", is_flag=True, help="Run nothing.")
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("reproduce"),
    show_default=True, help="Folder of runs and report.",
)  # fmt: skip
def reproduce_command(**options: Unpack[ReproduceOptions]) -> None:
    """List the published figures and what each needs, and get those again that can be had.

    Without ROW all rows; one of them is bundled and needs nothing. Trainings start by themselves
    only on a GPU; named, a row is trained anywhere. Figures go to OUT/report.html and rows.json.
    Interrupted, the same command goes on where it stopped.

    Exit status: 0 done, 2 something cannot be read or used, 130 interrupted.
    """
    from caffe_port.finetuning.reproduce import Means, plans

    means = Means(
        options["data"], options["inits"], options["weights"], options["rows"], options["seeds"],
        options["steps"], options["device"], options["threads"], options["jobs"],
        options["variables"],
    )  # fmt: skip
    found: list[tuple[Plan, Outcome | None]] = [(plan, None) for plan in plans(means)]
    try:
        for i, (plan, _) in enumerate(found):
            if plan.kind and not options["list_only"]:
                found[i] = plan, _run_reproduce(plan, means, options["out"])
    except KeyboardInterrupt as error:
        _show(found, None)
        raise KeyboardInterrupt("interrupted: run the same command again to go on") from error
    _show(found, None if options["list_only"] else options["out"])


def _run_reproduce(plan: Plan, means: Means, out: Path) -> Outcome | None:
    from caffe_port.finetuning.experiment import run_all
    from caffe_port.finetuning.reproduce import outcome_of, trials_of
    from caffe_port.reports.progress import shown_runs

    echo(f"{plan.row.key}: {plan.why.removeprefix('yes: ')}", err=True)
    work = trials_of(plan, means, out)
    with shown_runs(len(work)) as progress:
        run_all(work, progress, means.jobs)
    return outcome_of(work)


def _show(found: list[tuple[Plan, Outcome | None]], out: Path | None) -> None:
    from rich.table import Table

    from caffe_port.errors import console
    from caffe_port.finetuning.reproduce import HEADERS, NOTES, cells, write_report

    table = Table(title="Published, and here", title_justify="left")
    for header in HEADERS:
        table.add_column(header, overflow="fold", no_wrap=header in ("published", "ours"))
    for pair in found:
        table.add_row(*cells(*pair))
    shown = console()
    shown.print(table)
    for note in NOTES:
        shown.print(note)
    if out is not None:
        echo(f"report: {write_report(found, out)}")
