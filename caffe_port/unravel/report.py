"""index.html: what was traced in each image, and whether it means anything."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from caffe_port import html
from caffe_port.files import write_text
from caffe_port.spec import NetSpec
from caffe_port.unravel.animation import PLAYER_SCRIPT
from caffe_port.unravel.curves import FRACTIONS, ORDERS, Curves, mean_curves
from caffe_port.unravel.evidence import Evidence, Summary, summarize
from caffe_port.unravel.gallery import image_section
from caffe_port.unravel.plot import charts, legend, line_chart
from caffe_port.unravel.study import Plan, Seen

_OTHERS = 4  # classes of context that the table names
_FIGURES: tuple[html.Align, ...] = ("right",) * 5


def write_report(
    seen: Sequence[Seen], spec: NetSpec, plan: Plan, names: Sequence[str], out: Path, title: str
) -> Path:
    """Writes the page, and beside it an animation per kept image and label.

    Args:
        seen: the images.
        spec: the net's.
        plan: what was done.
        names: of the labels.
        out: folder.
        title: the page's.
    Returns:
        The page, which holds everything but the GIFs it links to.
    """
    shift = plan.shifts[0]
    against = "the truth" if any(each.truth is not None for each in seen) else "the prediction"
    subtitle = (
        f"{_many(len(seen), 'image')}, traced from {plan.top}, {', '.join(plan.shifts)}, "
        f"{_many(plan.k, 'channel')} per window"
    )
    kept = [each for each in seen if each.traces]
    sections = [
        _headline(seen, shift),
        _pointing(seen, plan, names, against),
        _context(seen, plan, names, against),
        *_curves(seen),
        *(image_section(each, spec, plan, names, out) for each in kept),
        PLAYER_SCRIPT,
    ]
    path = out / "index.html"
    write_text(path, html.page(title, sections, subtitle=subtitle))
    return path


def _many(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def percent(value: float) -> str:
    """A share with one digit; a dash for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.1f} %"


def _headline(seen: Sequence[Seen], shift: str) -> html.Html:
    total = summarize(_cases(seen, shift))
    mean = mean_curves([c for each in seen for c in each.curves.values()])
    figures = {
        "labels traced": total.cases,
        "of the points lie in the label's own region": percent(total.inside),
        "would, were they strewn at random": percent(total.chance),
        "of the heat maps peak in it": percent(total.hits),
    }
    for i, kind in enumerate(("deletion", "insertion") if mean else ()):
        chance = percent(mean["random"].areas[i])
        words = f"area under {kind} (random order: {chance})"
        figures[words] = percent(mean["traced points"].areas[i])
    return html.cards(figures)


def _cases(seen: Sequence[Seen], shift: str) -> list[Evidence]:
    return [case for each in seen for name, cases in each.evidence.items() if name == shift
            for case in cases]  # fmt: skip


def _pointing(seen: Sequence[Seen], plan: Plan, names: Sequence[str], against: str) -> html.Html:
    rows, classes = [], []
    for shift in plan.shifts:
        cases = _cases(seen, shift)
        for label in sorted({case.label for case in cases}):
            own = summarize([case for case in cases if case.label == label])
            rows.append([shift, names[label], *_pointing_cells(own)])
            classes.append("")
        rows.append([shift, "all", *_pointing_cells(summarize(cases))])
        classes.append("total")
    headers = ["shift type", "label", "cases", "points inside", "by chance", "peak inside",
               "median distance outside"]  # fmt: skip
    return html.section(
        "Do the points lie in the object?",
        html.paragraph(
            f"Each image's traced points, held against {against}: the share of a label's points "
            "that lie in its own region, beside the region's share of the picture, and the "
            "pointing game, the share of heat maps whose peak lies in it. Distances are of the "
            "points outside, in pixels, to the region."
        ),
        html.table(headers, rows, align=("left", "left", *_FIGURES), row_classes=classes),
    )


def _pointing_cells(own: Summary) -> list[object]:
    distance = "-" if math.isnan(own.distance) else f"{own.distance:.1f}"
    return [own.cases, percent(own.inside), percent(own.chance), percent(own.hits), distance]


def _context(seen: Sequence[Seen], plan: Plan, names: Sequence[str], against: str) -> html.Html:
    cases = _cases(seen, plan.shifts[0])
    labels = sorted({case.label for case in cases})
    summaries = {label: summarize([c for c in cases if c.label == label]) for label in labels}
    rows = []
    for label in labels:
        own = summaries[label]
        if not own.cases:
            continue
        others = sorted(own.context.items(), key=lambda pair: -pair[1])[:_OTHERS]
        where = ", ".join(f"{_name(names, c)} {percent(share)}" for c, share in others)
        outside = percent(1 - own.inside)
        rows.append([names[label], percent(own.inside), outside, where or "-",
                     percent(own.padding)])  # fmt: skip
    headers = ["label", "own region", "outside it", "most of it on (shares of all points)",
               "beside the picture"]  # fmt: skip
    return html.section(
        "How much of a label's evidence is context?",
        html.paragraph(
            f"Where the points of {plan.shifts[0]} lie, by the classes of {against}. What lies "
            "outside of a label's own region is context: the network looked there to decide."
        ),
        html.table(headers, rows, align=["left", "right", "right", "left", "right"]),
    )


def _name(names: Sequence[str], label: int) -> str:
    return names[label] if label < len(names) else str(label)


def _curves(seen: Sequence[Seen]) -> list[html.Html]:
    measured = [each for each in seen if each.curves]
    cases = [curve for each in measured for curve in each.curves.values()]
    if not cases:
        return []
    mean = mean_curves(cases)
    return [
        html.section(
            "Does the score hang on these pixels?",
            html.paragraph(
                f"{_many(len(cases), 'label')} of {_many(len(measured), 'image')}. Pixels are "
                "removed (set to the mean colour), or revealed on an empty picture, the hottest "
                "first; the curves are the mean probability of the label on the places that had "
                "it. A map that found the evidence falls early and rises early. All four maps are "
                "smoothed alike. The own region is the label map itself: where it does better, the "
                "traced points say less about the score than the label map does."
            ),
            legend(ORDERS),
            charts(
                _chart("Deletion", mean, 0, "pixels removed"),
                _chart("Insertion", mean, 1, "pixels revealed"),
            ),
            _areas(mean, cases),
        )
    ]


def _chart(title: str, mean: Mapping[str, Curves], which: int, x_label: str) -> html.Html:
    lines = {name: curve.insertion if which else curve.deletion for name, curve in mean.items()}
    return line_chart(title, FRACTIONS, lines, x_label)


def _areas(mean: Mapping[str, Curves], cases: Sequence[Mapping[str, Curves]]) -> html.Html:
    rows = []
    for name in ORDERS:
        better = [
            sum(sign * (case["traced points"].areas[i] - case[name].areas[i]) > 0 for case in cases)
            for i, sign in ((0, -1), (1, 1))
        ]
        share = ["" if name == "traced points" else percent(n / len(cases)) for n in better]
        deletion, insertion = mean[name].areas
        rows.append([name, percent(deletion), share[0], percent(insertion), share[1]])
    headers = ["order", "area under deletion (small is good)", "tracing is better in",
               "area under insertion (large is good)", "tracing is better in"]  # fmt: skip
    return html.table(headers, rows)
