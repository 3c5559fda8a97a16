"""``caffe-port demo``: the bundled Caffe-trained LargeFOV, converted, verified and evaluated."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from caffe_port.evaluation.example import Difference, Example
    from caffe_port.evaluation.pipeline import Result
    from caffe_port.parity.verify import VerifyResult
    from caffe_port.reports.html import Html


TITLE = "A Caffe-trained LargeFOV in PyTorch"


@click.command(name="demo")
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for the converted model, label maps and report.",
)
@click.option(
    "--example",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The example's folder.  [default: examples/shapes_voc of this checkout]",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    help="Images in the network at a time.  [default: one for each core, at most 4]",
)
def demo_command(out: Path, example: Path | None, jobs: int | None) -> None:
    """Convert, verify and evaluate the bundled model, and compare with real Caffe.

    Exit status: 0 everything equals Caffe, 1 something differs, 2 a file is missing or unusable,
    130 interrupted.
    """
    from caffe_port.evaluation.example import Example, find_example
    from caffe_port.evaluation.store import locked

    with locked(out):
        equal = _demo(Example(example or find_example()), out, jobs)
    raise click.exceptions.Exit(0 if equal else 1)


def _demo(example: Example, out: Path, jobs: int | None) -> bool:
    from caffe_port.errors import console as make_console

    console = make_console(soft_wrap=True)
    started = time.perf_counter()
    converted = _convert(example, out, console)
    parity = _verify(converted, example, console)
    result = _evaluate(converted, example, out, jobs)
    difference = example.difference(result)
    seconds = time.perf_counter() - started
    page = _report(example, result, parity, difference, seconds)
    _show(example, result, difference, console)
    console.print(f"{seconds:.0f} s; report: {page}")
    return parity.passed and difference.before == difference.after == 0


def _convert(example: Example, out: Path, console: Console) -> Path:
    from caffe_port.loading import load

    net = load(example.prototxt, example.weights, phase="TEST")
    converted = out / "largefov.pt"
    net.save(converted)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    console.print(f"converted  {example.weights.name}, {parameters:,} parameters, to {converted}")
    return converted


def _verify(converted: Path, example: Example, console: Console) -> VerifyResult:
    from caffe_port.loading import load
    from caffe_port.parity import read_recording
    from caffe_port.parity.report import headline
    from caffe_port.parity.verify import verify

    parity = verify(load(converted), read_recording(example.recording))
    style = "green" if parity.passed else "bold red"
    console.print(f"verified   {headline(parity)}", style=style)
    return parity


def _evaluate(converted: Path, example: Example, out: Path, jobs: int | None) -> Result:
    from caffe_port.data.voc import voc_items
    from caffe_port.evaluation.example import CROP
    from caffe_port.evaluation.network import NetFactory, Options
    from caffe_port.evaluation.pipeline import evaluate
    from caffe_port.evaluation.refinement import CRFFactory
    from caffe_port.reports.progress import shown_images

    with shown_images("evaluate") as show:
        return evaluate(
            voc_items(example.root, "val"),
            NetFactory(str(converted)),
            out,
            Options(crop=(CROP, CROP), jobs=jobs, fresh=True),
            make_refiner=CRFFactory(example.crf_parameters),
            progress=lambda done, total, outcome: show(done, total, outcome.lines),
        )


def _show(example: Example, result: Result, difference: Difference, console: Console) -> None:
    from rich.table import Table

    from caffe_port.evaluation.example import HEADERS
    from caffe_port.evaluation.report import terminal_table

    console.print(terminal_table(result, example.names(result.classes), example.caffe))
    table = Table(title=f"{len(result.items)} validation images", title_justify="left")
    for i, header in enumerate(HEADERS):
        table.add_column(header, justify="right" if i else "left")
    for row in difference.rows(result, example.caffe):
        table.add_row(*row, style="bold")
    console.print(table)


def _report(
    example: Example,
    result: Result,
    parity: VerifyResult,
    difference: Difference,
    seconds: float,
) -> Path:
    from dataclasses import asdict

    from caffe_port.evaluation.report import write_report
    from caffe_port.parity.report import as_dict

    page, _ = write_report(
        result,
        example.names(result.classes),
        title=TITLE,
        subtitle="The bundled example: converted, verified blob by blob, compared with Caffe",
        reference=example.caffe,
        more={
            "caffe_mean_iou": dict(zip(("before", "after"), example.caffe.mean_iou, strict=True)),
            "labels_unlike_caffe": asdict(difference),
            "parity": as_dict(parity),
            "seconds": round(seconds, 2),
        },
        sections=_sections(example, result, parity, difference),
    )
    return page


def _sections(
    example: Example, result: Result, parity: VerifyResult, difference: Difference
) -> list[Html]:
    from caffe_port.evaluation.example import HEADERS
    from caffe_port.parity.report import headline, parity_table
    from caffe_port.reports import html

    kinds = ["fail" if count else "pass" for count in (difference.before, difference.after)]
    comparison = html.table(HEADERS, difference.rows(result, example.caffe), row_classes=kinds)
    verdict = html.verdict("pass" if parity.passed else "fail")
    summary = html.paragraph(headline(parity))
    return [
        html.section("Compared with real Caffe", comparison),
        html.section("Parity with Caffe's recording", verdict, summary, parity_table(parity)),
    ]
