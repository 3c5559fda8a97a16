"""`caffe-port finetune`: recipes over several seeds; `reproduce`: the published figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffe_port.cli.options import (
    Arguments,
    Function,
    chosen,
    import_option,
    named_value,
    set_option,
    with_options,
)
from caffe_port.errors import echo

if TYPE_CHECKING:
    from caffe_port.finetuning.halving import SearchResults
    from caffe_port.finetuning.reproduce import Outcome, Plan, Resources
    from caffe_port.finetuning.results import Results
    from caffe_port.finetuning.scoring import Setting, Trial
    from caffe_port.finetuning.variants import Variant

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_PROCESS_OPTIONS = (
    click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:1."),
    click.option(
        "-j", "--jobs", type=click.IntRange(min=1), default=1, show_default=True,
        help="Runs at a time, each in a process.",
    ),
    click.option(
        "--threads", type=click.IntRange(min=1), help="Of each process.  [default: cores / jobs]"
    ),
)  # fmt: skip


def _process_options(function: Function) -> Function:
    """Adds the options for devices and processes."""
    return with_options(_PROCESS_OPTIONS, function)


@click.command(name="finetune")
@click.argument("recipe", required=False)
@click.option("--data", type=FOLDER, help="Folder of the data set to train and evaluate on.")
@click.option(
    "--dataset", metavar="NAME",
    help="Data set of --data: see 'labels datasets', or a .json file.  [default: VOC's layout]",
)  # fmt: skip
@click.option("--init", type=FILE, help="Weights that every run starts from.")
@click.option(
    "--seeds", type=click.IntRange(min=1), help="How many.  [default: 3; 5 with --search]"
)
@click.option(
    "--search", is_flag=False, flag_value="default", metavar="[FILE]",
    help="Search a setting of the feedback losses: by the built-in grid, or a .json file.",
)  # fmt: skip
@click.option(
    "--variant", "variants", multiple=True, help="Recipe to run; repeat for more.  [default: all]"
)
@click.option("--steps", type=click.IntRange(min=1), help="Updates, instead of the solver's.")
@click.option(
    "--no-dropout",
    "dropout",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Remove the Dropout layers.",
)
@click.option(
    "--no-rescaling", "rescaling", is_flag=True, flag_value=False, default=True,
    help="Do not rescale training images at random.",
)  # fmt: skip
@click.option(
    "--overlap", type=click.FloatRange(0, 1, max_open=True),
    help="Evaluate larger images by windows; the share that each repeats of the one before it.",
)  # fmt: skip
@click.option("--train-list", help="List, or its name.  [default: train_aug, else train]")
@click.option("--val-list", help="List, or its name.  [default: val]")
@click.option("--labels", type=FOLDER, help="Label maps, if not where the list or VOC has them.")
@click.option("--crf", help="Preset or settings as for evaluate, or 'none'.  [default: the net's]")
@click.option(
    "--names", type=FILE, help="Class names, one a line.  [default: the data set's, VOC's for 21]"
)
@set_option
@_process_options
@click.option(
    "--save-every", type=click.IntRange(min=1),
    help="Updates between snapshots.  [default: the solver's, at most 500]",
)  # fmt: skip
@click.option(
    "--report", type=FILE, help="Only write the report of this results.json or search.json."
)
@click.option("--into", "document", type=FILE, help="Also fill the marked tables of this document.")
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("finetune"),
    show_default=True, help="Folder of runs and report.",
)  # fmt: skip
@import_option
def finetune_command(**arguments: Any) -> None:
    """Train RECIPE and its variants under several seeds, and compare them.

    RECIPE is a recipe (NET/RECIPE in prototxt/, or a folder), compared with the softmax loss
    alone, or a net, trained by all its recipes. Every run is scored on the validation images,
    before and after the dense CRF. Means, spreads, paired differences to the baseline and
    published figures go to OUT/report.html, results.json and tables.md.

    With --search, settings of the feedback losses are compared on a part of the training images by
    successive halving, and the best with the softmax loss alone on the validation images, over
    several seeds: OUT/report.html, search.json, tables.md, chosen/feedback.prototxt.

    Finished runs are kept; an interrupted run resumes from its last snapshot, with the same
    result. Seeds and variants can be added later.

    Exit status: 0 done, 2 something cannot be read or used, 130 interrupted.
    """
    from caffe_port.files import expect_writable

    if arguments["report"] is not None:
        _report_again(arguments)
        return
    is_search = arguments["search"] is not None
    for name in ("report.html", "search.json" if is_search else "results.json", "tables.md"):
        expect_writable(arguments["out"] / name)
    if is_search:
        _search(arguments)
        return
    setting, variants = _experiment(arguments)
    work = _work(setting, variants, arguments)
    with _resumable(arguments, lambda: _write(work, arguments)):
        _run_finetune(work, arguments["jobs"])
    _write(work, arguments)


@contextmanager
def _resumable(arguments: Arguments, write: Callable[[], None]) -> Iterator[None]:
    """Writes the report of what is finished when the runs are interrupted."""
    try:
        yield
    except KeyboardInterrupt as error:
        write()
        raise KeyboardInterrupt(
            f"interrupted: completed results are kept in {arguments['out']}; run the same command "
            "again to resume"
        ) from error


def _report_again(arguments: Arguments) -> None:
    from caffe_port.finetuning.curve import read_json
    from caffe_port.finetuning.halving import FORMAT, SearchResults
    from caffe_port.finetuning.results import Results

    path = arguments["report"]
    if read_json(path).get("format") == FORMAT:
        _report_search(SearchResults.read(path), arguments)
    else:
        _report(Results.read(path), arguments)


def _search(arguments: Arguments) -> None:
    """Runs a search and writes its report."""
    from caffe_port.finetuning.experiment import class_names_of
    from caffe_port.finetuning.halving import Halving
    from caffe_port.finetuning.search import read_search
    from caffe_port.finetuning.variants import single_variant
    from caffe_port.reports.progress import shown_runs

    if arguments["recipe"] is None and arguments["search"] != "default":
        raise click.UsageError(
            "RECIPE is missing: give it before --search, or write '--search default'"
        )
    search = read_search(arguments["search"])
    setting, variants = _experiment(arguments)
    halving = Halving(
        setting, single_variant(variants, arguments["recipe"]), search, arguments["seeds"] or 5,
        arguments["out"].resolve(), class_names_of(setting.images, arguments["names"]),
    )  # fmt: skip

    def write() -> None:
        found = halving.results()
        _report_search(found, arguments)
        chosen = halving.write_chosen(found)
        if chosen is not None:
            echo(f"layers of the chosen setting: {chosen}")

    with _resumable(arguments, write), shown_runs(halving.runs) as progress:
        halving.run(progress, arguments["jobs"])
    write()


def _report_search(found: SearchResults, arguments: Arguments) -> None:
    from caffe_port.errors import console
    from caffe_port.finetuning.search_report import (
        conclusion,
        fill_search,
        search_terminal,
        write_search,
    )

    page = write_search(found, arguments["out"])
    if arguments["document"] is not None:
        fill_search(arguments["document"], found)
    shown = console()
    for table in search_terminal(found):
        shown.print(table)
    for remark in [conclusion(found), *found.remarks]:
        shown.print(remark)
    echo(f"report: {page}")


def _experiment(arguments: Arguments) -> tuple[Setting, list[Variant]]:
    """The setting of all runs, and the recipes."""
    from caffe_port.cli.labels import dataset_of
    from caffe_port.finetuning.experiment import make_setting
    from caffe_port.finetuning.inputs import Options, find_images
    from caffe_port.finetuning.variants import find_variants

    recipe, data, init = arguments["recipe"], arguments["data"], arguments["init"]
    if recipe is None or data is None or init is None:
        raise click.UsageError("RECIPE, --data and --init are needed")
    variants = find_variants(recipe, arguments["variants"])
    images = find_images(
        data,
        arguments["train_list"],
        arguments["val_list"],
        arguments["labels"],
        dataset_of(arguments),
    )
    return make_setting(variants[0], images, init, chosen(Options, arguments)), variants


def _work(setting: Setting, variants: list[Variant], arguments: Arguments) -> list[Trial]:
    """All runs."""
    from caffe_port.finetuning.experiment import make_trials

    seeds = range(1, (arguments["seeds"] or 3) + 1)
    return make_trials(setting, variants, seeds, arguments["out"].resolve())


def _run_finetune(work: list[Trial], jobs: int) -> None:
    from caffe_port.finetuning.experiment import run_all
    from caffe_port.reports.progress import shown_runs

    with shown_runs(len(work)) as progress:
        run_all(work, progress, jobs)


def _write(work: list[Trial], arguments: Arguments) -> None:
    from caffe_port.finetuning.experiment import class_names_of
    from caffe_port.finetuning.results import gather

    names = class_names_of(work[0].setting.images, arguments["names"])
    _report(gather(work, names), arguments)


def _report(results: Results, arguments: Arguments) -> None:
    from caffe_port.errors import console
    from caffe_port.finetuning.report import fill_document, remarks, terminal_tables, write_report
    from caffe_port.finetuning.tables import all_tables

    page = write_report(results, arguments["out"])
    if arguments["document"] is not None:
        fill_document(arguments["document"], all_tables(results))
    shown = console()
    for table in terminal_tables(results):
        shown.print(table)
    for remark in remarks(results):
        shown.print(remark)
    echo(f"report: {page}")


def _files(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Any:
    result = {}
    for value in values:
        name, path = named_value(value, "NAME=FILE")
        if not Path(path).is_file():
            raise click.BadParameter(f"'{path}': no such file")
        result[name] = Path(path)
    return result


def _folders(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Any:
    result = {}
    for value in values:
        name, _, folder = ("", "", value) if Path(value).is_dir() else value.partition("=")
        if not Path(folder).is_dir():
            raise click.BadParameter(f"'{folder}': no such folder")
        result[name] = Path(folder)
    return result


@click.command(name="reproduce")
@click.argument("rows", nargs=-1, metavar="[ROW]...")
@click.option(
    "--data", multiple=True, metavar="[NAME=]FOLDER", callback=_folders,
    help="VOC folder, or that of another data set: cityscapes=FOLDER; repeat for each.",
)  # fmt: skip
@click.option(
    "--init", "inits", multiple=True, metavar="NAME=FILE", callback=_files,
    help="Weights to train from: vgg16=FILE, resnet101=FILE, ...; the list names them.",
)  # fmt: skip
@click.option(
    "--weights", multiple=True, metavar="ROW=FILE", callback=_files,
    help="Trained weights of a row, such as the published ones, to be scored.",
)  # fmt: skip
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="For each training.",
)
@click.option("--steps", type=click.IntRange(min=1), help="Updates, instead of the published.")
@set_option
@_process_options
@click.option("--list", "list_only", is_flag=True, help="Only list the rows.")
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("reproduce"),
    show_default=True, help="Folder of runs and report.",
)  # fmt: skip
def reproduce_command(**arguments: Any) -> None:
    """List the published figures and what each needs, and reproduce those that are possible.

    Without ROW all rows; one of them is bundled and needs nothing. On a CPU a row is trained only
    if it is named. Figures go to OUT/report.html and rows.json. After an interruption, the same
    command resumes.

    Exit status: 0 done, 2 something cannot be read or used, 130 interrupted.
    """
    from caffe_port.finetuning.inputs import Options
    from caffe_port.finetuning.reproduce import Resources, plans

    options = chosen(Options, arguments)
    resources = chosen(Resources, {**arguments, "options": options})
    found: list[tuple[Plan, Outcome | None]] = [(plan, None) for plan in plans(resources)]
    try:
        for i, (plan, _) in enumerate(found):
            if plan.kind and not arguments["list_only"]:
                found[i] = plan, _run_reproduce(plan, resources, arguments["out"])
    except KeyboardInterrupt as error:
        _show(found, None)
        raise KeyboardInterrupt("interrupted: run the same command again to resume") from error
    _show(found, None if arguments["list_only"] else arguments["out"])


def _run_reproduce(plan: Plan, resources: Resources, out: Path) -> Outcome | None:
    from caffe_port.finetuning.experiment import run_all
    from caffe_port.finetuning.reproduce import outcome_of, trials_of
    from caffe_port.reports.progress import shown_runs

    echo(f"{plan.row.key}: {plan.why.removeprefix('yes: ')}", err=True)
    work = trials_of(plan, resources, out)
    with shown_runs(len(work)) as progress:
        run_all(work, progress, resources.options.jobs)
    return outcome_of(work)


def _show(found: list[tuple[Plan, Outcome | None]], out: Path | None) -> None:
    from rich.table import Table

    from caffe_port.errors import console
    from caffe_port.finetuning.reproduce import HEADERS, NOTES, cells, write_report

    table = Table(title="Published and reproduced", title_justify="left")
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
