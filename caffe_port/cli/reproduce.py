"""``caffe-port reproduce``: the published figures, what each needs, and those that can be had."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click

from caffe_port.cli.options import named_value, set_option
from caffe_port.printing import echo

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from caffe_port.finetuning.reproduce import Means, Outcome, Plan


class Options(TypedDict):
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
def command(**options: Unpack[Options]) -> None:
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
                found[i] = plan, _run(plan, means, options["out"])
    except KeyboardInterrupt as error:
        _show(found, None)
        raise KeyboardInterrupt("interrupted: run the same command again to go on") from error
    _show(found, None if options["list_only"] else options["out"])


def _run(plan: Plan, means: Means, out: Path) -> Outcome | None:
    from caffe_port.finetuning.experiment import run_all
    from caffe_port.finetuning.progress import shown
    from caffe_port.finetuning.reproduce import outcome_of, trials_of

    echo(f"{plan.row.key}: {plan.why.removeprefix('yes: ')}", err=True)
    work = trials_of(plan, means, out)
    with shown(len(work)) as progress:
        run_all(work, progress, means.jobs)
    return outcome_of(work)


def _show(found: list[tuple[Plan, Outcome | None]], out: Path | None) -> None:
    from rich.table import Table

    from caffe_port.finetuning.reproduce import HEADERS, NOTES, cells, write_report
    from caffe_port.printing import console

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
