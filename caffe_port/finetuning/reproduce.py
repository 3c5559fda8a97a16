"""Reproduces published rows: what each needs, and running it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from caffe_port.datasets.description import dataset
from caffe_port.errors import UsageError
from caffe_port.evaluation.example import find_example
from caffe_port.files import write_text
from caffe_port.finetuning.experiment import make_setting, make_trials
from caffe_port.finetuning.inputs import Images, Options, find_images
from caffe_port.finetuning.published import (
    BUNDLED,
    DATA,
    INITS,
    NAMES,
    ROWS,
    Published,
    find_published,
)
from caffe_port.finetuning.results import Results, gather
from caffe_port.finetuning.running import finished
from caffe_port.finetuning.scoring import Trial
from caffe_port.finetuning.tables import estimate
from caffe_port.finetuning.variants import Variant, find_variants
from caffe_port.reports import html

HEADERS = ("row", "what", "published", "needs", "GPU hours", "here and now", "ours", "of")
NOTES = (
    *(f"{name}: {what}." for name, what in {**DATA, **INITS}.items()),
    "'Our choice' is what no public source says of a row; the recipe has it from another row.",
    "GPU hours are for the arithmetic of the training alone, at 10 tera-operations per second; "
    "scoring weights takes minutes.",
    "--weights ROW=FILE scores trained weights, such as the published ones, and needs no --init.",
    "Figures are mean IoU in % before and after the CRF; they can be compared with the published "
    "ones if they are of the same images.",
)
_EXAMPLE_VARIANT = "poly_softmax"  # the recipe most similar to Caffe's there


@dataclass(frozen=True)
class Resources:
    """The data and weights that a user has, and the options of trainings.

    Attributes:
        data: folders by the names of ``published.NAMES``; '' is a VOC folder.
        inits: weights to start from, by the names of ``published.INITS``.
        weights: trained weights, by row.
        rows: rows that the user named; all rows where empty.
        seeds: of a training.
        options: of all runs; a row decides about CRF and Dropout.
    """

    data: Mapping[str, Path] = field(default_factory=dict)
    inits: Mapping[str, Path] = field(default_factory=dict)
    weights: Mapping[str, Path] = field(default_factory=dict)
    rows: tuple[str, ...] = ()
    seeds: int = 1
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        keys = [row.key for row in ROWS]
        for what, names, known in (
            ("row", self.rows, keys), ("--weights", self.weights, keys),
            ("--init", self.inits, list(INITS)), ("--data", self.data, ["", *NAMES.values()]),
        ):  # fmt: skip
            for name in names:
                if name not in known:
                    listed = ", ".join(word for word in known if word)
                    raise UsageError(f"{what}: no '{name}'; there are {listed}")


@dataclass(frozen=True)
class Plan:
    """What can be done for a row.

    Attributes:
        row: the row.
        kind: 'score' for given weights, 'train', or '' for nothing.
        why: what is missing, or what will be done.
    """

    row: Published
    kind: Literal["score", "train", ""]
    why: str


@dataclass(frozen=True)
class Outcome:
    """Our figures of a row in per cent, and the images they are of."""

    before: str
    after: str
    of: str


def plans(resources: Resources) -> list[Plan]:
    """The plans of the requested rows."""
    wanted = resources.rows or tuple(row.key for row in ROWS)
    return [_plan(row, resources) for key in wanted if (row := find_published(key)) is not None]


def _plan(row: Published, resources: Resources) -> Plan:
    if row.init == BUNDLED:
        return Plan(row, "score", "yes: scores Caffe's weights")
    if not row.recipe:
        return Plan(row, "", f"no: {row.note}")
    name = NAMES.get(row.data, "")
    wanted = f"--data {name}=FOLDER" if name else "--data"
    missing = [] if name in resources.data else [wanted]
    if row.key in resources.weights:
        return Plan(row, "" if missing else "score", _words(missing, "scores the given weights"))
    if row.init not in resources.inits:
        missing.append(f"--init {row.init}=FILE")
    if missing:
        return Plan(row, "", _words(missing, ""))
    options = resources.options
    if options.device == "cpu" and row.key not in resources.rows and options.steps is None:
        return Plan(row, "", "only by name: days on a CPU; or give --device cuda")
    return Plan(row, "train", "yes: trains")


def _images(row: Published, resources: Resources) -> Images:
    """The images of a row's data set."""
    name = NAMES.get(row.data, "")
    return find_images(resources.data[name], data=dataset(name) if name else None)


def _words(missing: Sequence[str], done: str) -> str:
    return f"no: needs {', '.join(missing)}" if missing else f"yes: {done}"


def trials_of(plan: Plan, resources: Resources, out: Path) -> list[Trial]:
    """The runs of a plan; the first one scores the given weights.

    Raises:
        CaffePortError: data or weights are not what the row needs.
    """
    row, folder = plan.row, out.resolve() / plan.row.key
    if row.init == BUNDLED:
        root = find_example()
        return _scoring(
            find_variants(root / "caffe_run", [_EXAMPLE_VARIANT])[0], find_images(root),
            root / "caffe_run" / "model" / "train_iter_2400.caffemodel", "", resources, folder,
        )  # fmt: skip
    variant, images = _variant(row), _images(row, resources)
    resources = replace(resources, options=replace(resources.options, overlap=row.overlap))
    if plan.kind == "score":
        return _scoring(variant, images, resources.weights[row.key], row.crf, resources, folder)
    options = replace(
        resources.options, dropout=row.dropout, rescaling=row.rescaling, crf=row.crf or None
    )
    setting = make_setting(variant, images, resources.inits[row.init], options)
    # without a run of the initial weights: those of ImageNet give no scores
    return make_trials(setting, [variant], range(1, resources.seeds + 1), folder)[1:]


def _variant(row: Published) -> Variant:
    name = row.recipe.partition("/")[2]
    return find_variants(row.recipe, [name] if name else [])[0]


def _scoring(
    variant: Variant, images: Images, weights: Path, crf: str, resources: Resources, folder: Path
) -> list[Trial]:
    options = replace(resources.options, steps=None, crf=crf or None, jobs=1)
    setting = make_setting(variant, images, weights, options)
    return make_trials(setting, [variant], (), folder)


def outcome_of(work: Sequence[Trial]) -> Outcome | None:
    """The figures of the finished runs of a plan; None where none is.

    Raises:
        UsageError: the given weights do not fit the net.
    """
    for trial in work:
        unfit = (finished(trial) or {}).get("unfit")
        if unfit:
            raise UsageError(
                f"{trial.setting.init}: not the weights of {trial.variant.net}: {'; '.join(unfit)}"
            )
    results = gather(work)
    figures = []
    for when in ("before", "after"):
        values = _figures(results, when)
        found = estimate(values)
        spread = f" ± {found.spread:.3f}" if found.seeds > 1 else ""
        figures.append(f"{found.mean:.3f}{spread}" if values else "-")
    if figures == ["-", "-"]:
        return None
    data = results.data
    return Outcome(figures[0], figures[1], f"{data['val']} images of {data['folder']}")


def _figures(results: Results, when: str) -> list[float]:
    if results.scores:
        return [x for name in results.scores for x in results.mean_ious(name, when).values()]
    found = None if results.start is None else results.start.mean_iou(when)
    return [] if found is None else [100 * found]


def cells(plan: Plan, outcome: Outcome | None) -> list[str]:
    """A row of the table under HEADERS."""
    row = plan.row
    theirs = ["-" if x is None else f"{x:.{row.digits}f}" for x in (row.before, row.after)]
    needs = "" if row.init == BUNDLED else f"{row.data}, {row.init}"
    hours = f"{row.hours:.1f}" if row.operations else "-"
    ours = ["-", "-"] if outcome is None else [f"{outcome.before} / {outcome.after}", outcome.of]
    what = f"{row.what} ({row.source})"
    if row.chosen:
        what += f". Our choice: {row.chosen}"
    return [row.key, what, " / ".join(theirs), needs, hours, plan.why, *ours]


def write_report(found: Sequence[tuple[Plan, Outcome | None]], out: Path) -> Path:
    """Writes report.html and rows.json.

    Returns:
        The path of report.html.
    """
    words = [html.paragraph(text, note=True) for text in NOTES]
    table = html.table(HEADERS, [cells(*pair) for pair in found])
    body = html.section("Published, and here", *words, table)
    values = [
        {
            **asdict(plan.row),
            "here": plan.why,
            "ours": None if outcome is None else asdict(outcome),
        }
        for plan, outcome in found
    ]
    for name, text in (
        ("report.html", html.page("Reproducing the published figures", [body])),
        ("rows.json", json.dumps(values, indent=1)),
    ):
        write_text(out / name, text + "\n")
    return out / "report.html"
