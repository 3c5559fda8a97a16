"""Published rows that can be had again: what each needs, and running it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from caffe_port.errors import UsageError
from caffe_port.evaluation.example import find_example
from caffe_port.files import write_text
from caffe_port.finetuning.composed import Changes, Images, find_images
from caffe_port.finetuning.experiment import make_trials
from caffe_port.finetuning.prepare import (
    BUNDLED,
    INITS,
    PUBLISHED,
    VOC,
    VOC_DATA,
    Published,
    find_published,
    make_setting,
)
from caffe_port.finetuning.results import Results, gather
from caffe_port.finetuning.running import finished
from caffe_port.finetuning.scoring import Trial
from caffe_port.finetuning.tables import estimate
from caffe_port.finetuning.variants import Variant, find_variants
from caffe_port.reports import html

HEADERS = ("row", "what", "published", "needs", "GPU hours", "here and now", "ours", "of")
NOTES = (
    f"{VOC}: {VOC_DATA}.",
    *(f"{name}: {what}." for name, what in INITS.items()),
    "GPU hours are those of a training's arithmetic alone, at 10 tera-operations a second; to "
    "score weights takes minutes.",
    "--weights ROW=FILE scores trained weights, such as the published ones, and needs no --init.",
    "Figures are mean IoU in % before and after the CRF; where ours are of the same images they "
    "can be set against the published ones.",
)
_EXAMPLE_VARIANT = "poly_softmax"  # the recipe nearest to what Caffe ran there


@dataclass(frozen=True)
class Means:
    """What a user has.

    Attributes:
        data: a VOC folder.
        inits: weights to start from, by the names of ``published.INITS``.
        weights: trained weights, by row.
        named: rows that were asked for by name; all where empty.
        seeds, steps: of a training.
        device, threads, jobs: see ``Setting``.
        variables: values of ``${NAME}``.
    """

    data: Path | None = None
    inits: Mapping[str, Path] = field(default_factory=dict)
    weights: Mapping[str, Path] = field(default_factory=dict)
    named: tuple[str, ...] = ()
    seeds: int = 1
    steps: int | None = None
    device: str = "cpu"
    threads: int | None = None
    jobs: int = 1
    variables: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = [row.key for row in PUBLISHED]
        for what, names, known in (
            ("row", self.named, rows), ("--weights", self.weights, rows), ("--init", self.inits,
            list(INITS)),
        ):  # fmt: skip
            for name in names:
                if name not in known:
                    raise UsageError(f"{what}: no '{name}'; there are {', '.join(known)}")


@dataclass(frozen=True)
class Plan:
    """What can be done for a row.

    Attributes:
        row: which.
        kind: 'score' given weights, 'train', or nothing.
        why: what is missing, or what will be done.
    """

    row: Published
    kind: Literal["score", "train", ""]
    why: str


@dataclass(frozen=True)
class Outcome:
    """Our figures of a row in per cent, and what they are of."""

    before: str
    after: str
    of: str


def plans(means: Means) -> list[Plan]:
    """One for every row that is asked for."""
    wanted = means.named or tuple(row.key for row in PUBLISHED)
    return [_plan(row, means) for key in wanted if (row := find_published(key)) is not None]


def _plan(row: Published, means: Means) -> Plan:
    if row.init == BUNDLED:
        return Plan(row, "score", "yes: scores Caffe's weights")
    if not row.recipe:
        return Plan(row, "", f"no: {row.note}")
    missing = [] if means.data is not None else ["--data"]
    if row.key in means.weights:
        return Plan(row, "" if missing else "score", _words(missing, "scores the given weights"))
    if row.init not in means.inits:
        missing.append(f"--init {row.init}=FILE")
    if missing:
        return Plan(row, "", _words(missing, ""))
    if means.device == "cpu" and row.key not in means.named and means.steps is None:
        return Plan(row, "", "only by name: days on a CPU; or give --device cuda")
    return Plan(row, "train", "yes: trains")


def _words(missing: Sequence[str], done: str) -> str:
    return f"no: needs {', '.join(missing)}" if missing else f"yes: {done}"


def trials_of(plan: Plan, means: Means, out: Path) -> list[Trial]:
    """The runs of a plan; the first scores the weights as they are.

    Raises:
        CaffePortError: data or weights are not what the row needs.
    """
    row, folder = plan.row, out.resolve() / plan.row.key
    if row.init == BUNDLED:
        root = find_example()
        return _scoring(
            find_variants(root / "caffe_run", [_EXAMPLE_VARIANT])[0], find_images(root),
            root / "caffe_run" / "model" / "train_iter_2400.caffemodel", "", means, folder,
        )  # fmt: skip
    assert means.data is not None
    variant = _variant(row)
    images = find_images(means.data)
    if plan.kind == "score":
        return _scoring(variant, images, means.weights[row.key], row.crf, means, folder)
    changes = Changes(means.variables, means.steps, row.dropout)
    setting = make_setting(
        variant, images, means.inits[row.init], changes, row.crf or None, means.device,
        means.threads, means.jobs,
    )  # fmt: skip
    # not the weights themselves: those of ImageNet have no scores
    return make_trials(setting, [variant], range(1, means.seeds + 1), folder)[1:]


def _variant(row: Published) -> Variant:
    name = row.recipe.partition("/")[2]
    return find_variants(row.recipe, [name] if name else [])[0]


def _scoring(
    variant: Variant, images: Images, weights: Path, crf: str, means: Means, folder: Path
) -> list[Trial]:
    setting = make_setting(
        variant, images, weights, Changes(means.variables), crf or None, means.device,
        means.threads, 1,
    )  # fmt: skip
    return make_trials(setting, [variant], (), folder)


def outcome_of(work: Sequence[Trial]) -> Outcome | None:
    """The figures of the finished runs of a plan; None where none is.

    Raises:
        UsageError: the weights that were to be scored are not the net's.
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
    digits = 3 if row.init == BUNDLED else 2
    theirs = ["-" if x is None else f"{x:.{digits}f}" for x in (row.before, row.after)]
    needs = "" if row.note or row.init == BUNDLED else f"{VOC}, {row.init}"
    hours = f"{row.hours:.1f}" if row.operations else "-"
    ours = ["-", "-"] if outcome is None else [f"{outcome.before} / {outcome.after}", outcome.of]
    what = f"{row.what} ({row.source})"
    return [row.key, what, " / ".join(theirs), needs, hours, plan.why, *ours]


def write_report(found: Sequence[tuple[Plan, Outcome | None]], out: Path) -> Path:
    """Writes report.html and rows.json.

    Returns:
        the path of report.html.
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
