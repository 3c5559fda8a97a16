"""Tables with means, paired differences and intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from caffe_port.finetuning.published import PUBLISHED, Published
from caffe_port.finetuning.results import WHEN, Matrix, Results
from caffe_port.finetuning.variants import baseline_of

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: NaN without values.
        spread: the standard deviation, NaN for fewer than two.
        half: half of the interval of CONFIDENCE around the mean, by Student's t; NaN likewise.
        seeds: the number of values.
    """

    mean: float
    spread: float
    half: float
    seeds: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, spread and interval of values, one per seed."""
    count = len(values)
    if count < 2:
        return Estimate(values[0] if values else math.nan, math.nan, math.nan, count)
    from scipy.special import stdtrit  # faster to import than scipy.stats

    spread = stdev(values)
    quantile = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))
    return Estimate(fmean(values), spread, quantile * spread / math.sqrt(count), count)


def paired(values: Mapping[int, float], baseline: Mapping[int, float]) -> Estimate:
    """Estimates the differences to the baseline, seed by seed, where both are known.

    Pairing removes the effect of a seed on both: the same batches in the same order.
    """
    shared = sorted(values.keys() & baseline.keys())
    return estimate([values[seed] - baseline[seed] for seed in shared])


def averaged(many: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The mean over several variants for each seed that all have."""
    if not many:
        return {}
    shared = set(many[0]).intersection(*many[1:])
    return {seed: fmean(values[seed] for values in many) for seed in sorted(shared)}


_CI = "difference [95 % CI]"
_VAL = (1449, "2007_000033")  # images of VOC 2012 val, and the first


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title, note: above it.
        headers, rows: its cells.
    """

    title: str
    headers: list[str]
    rows: list[list[str]]
    note: str = ""

    def markdown(self) -> str:
        """For a document."""
        sides = ["---", *["---:"] * (len(self.headers) - 1)]
        lines = [self.headers, sides, *self.rows]
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def all_tables(results: Results) -> dict[str, Table]:
    """Every table by a short name, without those that have no row."""
    tables = {
        "variants": variants(results),
        "contrasts": contrasts(results),
        "published": published(results),
        "similarities": similarities(results),
        "lost": lost(results),
        **{f"classes_{when}": classes(results, when) for when in WHEN},
    }
    return {name: table for name, table in tables.items() if table.rows}


def variants(results: Results) -> Table:
    """Mean and spread of every variant, and its paired difference to its baseline."""
    rows = []
    if results.start is not None and results.start.before is not None:
        figures = [results.start.before, results.start.after]
        shown = ["-" if x is None else f"{100 * x:.2f}" for x in figures]
        rows.append([f"start: {results.init}", "", shown[0], "", "", shown[1], ""])
    for name in results.variants:
        baseline = baseline_of(name, results.variants)
        by_when = {when: results.mean_ious(name, when) for when in WHEN}
        row = [name, str(len(results.scores[name]))]
        for when in WHEN:
            row.append(_mean(estimate(list(by_when[when].values()))))
            if when == "before":
                row.append(baseline or "-")
            against = None if baseline is None else results.mean_ious(baseline, when)
            row.append("-" if against is None else _difference(paired(by_when[when], against)))
        rows.append(row)
    headers = ["variant", "seeds", "before CRF", "against", _CI, "after CRF", _CI]
    note = (
        f"Mean IoU in % over {results.data['val']} images of {results.data['folder']}, mean and "
        "standard deviation over the seeds; differences are paired by seed, their intervals are "
        "Student's."
    )
    return Table("Mean IoU", headers, rows, note)


def contrasts(results: Results) -> Table:
    """Each choice alone, averaged over its combinations."""
    rows = []
    for title, pairs in _pairs(results.variants).items():
        row = [title, str(len(pairs))]
        for when in WHEN:
            many = [
                _minus(results.mean_ious(a, when), results.mean_ious(b, when)) for a, b in pairs
            ]
            row.append(_difference(estimate(list(averaged(many).values()))))
        if pairs:
            rows.append(row)
    note = "Differences in points, averaged over the pairs within each seed, then over the seeds."
    headers = ["choice", "pairs", f"before CRF, {_CI}", f"after CRF, {_CI}"]
    return Table("One choice at a time", headers, rows, note)


def _pairs(names: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """(with, without) for each choice in the names of the recipes."""
    every: list[tuple[str, str, str]] = []
    for name in names:
        policy, _, rest = name.partition("_")
        terms, _, similarity = rest.rpartition("_")
        if terms in ("pull", "pull_push"):
            every.append((policy, terms, similarity))
    joined = {parts: "_".join(parts) for parts in every}
    swaps = (
        ("correlation instead of cosine", 2, "correlation", "cosine"),
        ("push with pull", 1, "pull_push", "pull"),
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for terms in ("pull", "pull_push"):
        found[f"{terms.replace('_', ' + ')} instead of softmax alone"] = [
            (joined[parts], f"{parts[0]}_softmax")
            for parts in every
            if parts[1] == terms and f"{parts[0]}_softmax" in names
        ]
    for title, place, new, old in swaps:
        others = [(parts, (*parts[:place], old, *parts[place + 1 :])) for parts in every]
        found[title] = [
            (joined[a], "_".join(b)) for a, b in others if a[place] == new and "_".join(b) in names
        ]
    found["poly instead of step"] = [
        (name, "step" + name[4:])
        for name in names
        if name.startswith("poly_") and "step" + name[4:] in names
    ]
    return found


def published(results: Results) -> Table:
    """Published figures next to ours, with the images of ours."""
    rows, used = [], set()
    for row in PUBLISHED:
        name, where = _counterpart(results, row)
        used.add(name)
        theirs = " / ".join("-" if x is None else f"{x:.2f}" for x in (row.before, row.after))
        ours = "-" if name is None else _both(results, name)
        rows.append([row.what, row.source, theirs, ours, name or "-", where])
    for name in results.variants:
        if name not in used and results.scores[name]:
            rows.append(["no figure public", "-", "-", _both(results, name), name, _ran(results)])
    note = (
        "Mean IoU in % before / after the CRF. The published figures are of VOC 2012 val; ours can "
        "be compared with them only where the last column has the same net and images."
    )
    headers = ["what", "source", "published", "ours", "variant", "run here"]
    return Table("Compared with published figures", headers, rows, note)


def _both(results: Results, name: str) -> str:
    found = (estimate(list(results.mean_ious(name, when).values())) for when in WHEN)
    return " / ".join(map(_mean, found))


def is_voc_val(results: Results) -> bool:
    """Whether the evaluated images are those of the published figures."""
    return (results.data["val"], results.data.get("first")) == _VAL


def _ran(results: Results) -> str:
    data = "VOC 2012 val" if is_voc_val(results) else results.data["folder"]
    return f"yes: {results.net_name}, {results.data['val']} images of {data}"


def _counterpart(results: Results, row: Published) -> tuple[str | None, str]:
    """The variant that corresponds to a published row, and a remark."""
    net, _, name = row.recipe.partition("/")
    name = name or net
    if not row.recipe or not results.scores.get(name) or row.dropout != results.dropout:
        return None, "no"
    if net == results.net:
        same_images = is_voc_val(results)
        return name, _ran(results) + ("" if same_images else " (other images)")
    # a LargeFOV of another size and other data: shown, but not comparable
    is_known = results.net in {other.recipe.partition("/")[0] for other in PUBLISHED}
    if is_known or "largefov" not in net or "largefov" not in results.net_name.lower():
        return None, "no"
    return name, _ran(results) + " (another net, other images)"


def similarities(results: Results) -> Table:
    """Similarities of pixels to the template of their own class and of others, by variant."""
    names = sorted({n for by in results.scores.values() for s in by.values() for n in s.templates})
    rows = []
    if results.start is not None and results.start.templates:
        row = [f"start: {results.init}"]
        for name in names:
            both = own_and_other(results.start.templates[name])
            row += ["-" if math.isnan(x) else f"{x:.3f}" for x in both]
        rows.append(row)
    for variant, scores in results.scores.items():
        row = [variant]
        for name in names:
            each = [own_and_other(s.templates[name]) for s in scores.values() if s.templates]
            for values in zip(*each, strict=True):
                row.append(_mean(estimate([x for x in values if not math.isnan(x)]), 3))
        if len(row) > 1:
            rows.append(row)
    headers = ["variant"]
    for name in names:
        headers += [f"{name}: own class", "other classes"]
    note = (
        "Similarity of pixels to the best template of their own class and of the other classes in "
        "the image, over the validation images: what pull raises and push lowers."
    )
    return Table("Similarities to class templates", headers, rows, note)


def own_and_other(matrix: Matrix) -> tuple[float, float]:
    """Means of the diagonal and of the rest."""
    pairs = [(i == j, x) for i, row in enumerate(matrix) for j, x in enumerate(row)]
    means = []
    for own in (True, False):
        known = [x for is_own, x in pairs if is_own == own and x is not None]
        means.append(fmean(known) if known else math.nan)
    return means[0], means[1]


def classes(results: Results, when: str) -> Table:
    """The paired difference of each class to the variant's baseline."""
    rows = []
    for name in results.variants:
        baseline = baseline_of(name, results.variants)
        known = any(score.iou(when) for score in results.scores[name].values())
        if baseline is None or not known:
            continue
        cells = [
            _difference(
                paired(
                    results.class_ious(name, when, label),
                    results.class_ious(baseline, when, label),
                )
            )
            for label in range(len(results.names))
        ]
        rows.append([name, baseline, *cells])
    title = f"IoU of each class {when} the CRF, difference to the baseline in points"
    return Table(title, ["variant", "against", *results.names], rows)


def lost(results: Results) -> Table:
    """The pixels of each class that are labelled 0."""
    rows = []
    if results.start is not None and results.start.lost:
        shares = ["-" if x is None else f"{100 * x:.1f}" for x in results.start.lost[1:]]
        rows.append([f"start: {results.init}", *shares])
    for name, scores in results.scores.items():
        known = [score.lost[1:] for score in scores.values() if score.lost]
        if known:
            means = [
                _mean(estimate([100 * x for x in values if x is not None]), 1)
                for values in zip(*known, strict=True)
            ]
            rows.append([name, *means])
    title = f"Pixels of each class that are labelled {(results.names or ['class 0'])[0]}, in %"
    return Table(title, ["variant", *results.names[1:]], rows, "Before the CRF.")


def _minus(a: Mapping[int, float], b: Mapping[int, float]) -> dict[int, float]:
    return {seed: a[seed] - b[seed] for seed in a.keys() & b.keys()}


def _mean(found: Estimate, digits: int = 2) -> str:
    if found.seeds == 0:
        return "-"
    spread = "" if math.isnan(found.spread) else f" ± {found.spread:.{digits}f}"
    return f"{found.mean:.{digits}f}{spread}"


def _difference(found: Estimate) -> str:
    if found.seeds == 0:
        return "-"
    low, high = found.mean - found.half, found.mean + found.half
    interval = "" if math.isnan(found.half) else f" [{low:+.2f}, {high:+.2f}]"
    return f"{found.mean:+.2f}{interval}"


def joined(tables: Iterable[Table]) -> str:
    """Markdown of several tables under their titles."""
    parts = []
    for table in tables:
        note = f"{table.note}\n\n" if table.note else ""
        parts.append(f"## {table.title}\n\n{note}{table.markdown()}")
    return "\n".join(parts)
