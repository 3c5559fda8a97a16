"""The report of a tracing: figures, tables and HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from caffe_port.data.images import voc_palette
from caffe_port.files import atomic_path, write_text
from caffe_port.reports import html
from caffe_port.reports.chart import Axis, Chart, draw_chart, legend_colours
from caffe_port.reports.images import encoded, label_map, photograph
from caffe_port.spec import NetSpec
from caffe_port.unravel.animation import PLAYER_SCRIPT, frames, gif, player
from caffe_port.unravel.curves import FRACTIONS, ORDERS, Curves, mean_curves
from caffe_port.unravel.evidence import Evidence, Summary, summarize
from caffe_port.unravel.pictures import LARGEST, SMALLEST, Bytes, overlay, with_points
from caffe_port.unravel.study import Plan, Seen, heat_of

# One image's part of the report: points, heat maps and the animation of each label.


def image_section(
    each: Seen, spec: NetSpec, plan: Plan, names: Sequence[str], out: Path
) -> html.Html:
    """The image with its label maps, then every label with its shift types side by side.

    Args:
        each: an image whose traces were kept.
        spec: the net's.
        plan: what was done.
        names: of the labels.
        out: folder for the GIFs.
    """
    first = each.traces[plan.shifts[0]]
    parts = [_overview(each)]
    for label in first:
        if len(first[label][plan.top]):
            parts.append(_label(each, spec, plan, label, names[label], out))
    return html.section(each.name, *parts)


def _overview(each: Seen) -> html.Html:
    pictures = [html.figure(_photograph(each.picture), "image")]
    if each.truth is not None:
        pictures.append(html.figure(_colours(each.truth), "truth"))
    pictures.append(html.figure(_colours(each.predicted), "predicted"))
    return html.figure_grid(pictures, columns=5)


def _label(each: Seen, spec: NetSpec, plan: Plan, label: int, name: str, out: Path) -> html.Html:
    source, figures = spec.sources[0], []
    for shift, traces in each.traces.items():
        points = traces.arrived(label, source)
        dots = with_points(each.picture, points[:, 1:].astype(np.float64), radius=4)
        heat = overlay(each.picture, heat_of(traces, label, source, plan.settings.crop))
        figures.append(html.figure(encoded(dots), f"{name}, {shift}: {len(points)} points"))
        figures.append(html.figure(_photograph(heat), f"{name}, {shift}: heat map"))
    return html.Html(
        f"<h3>{html.text(name)}</h3>"
        + html.figure_grid(figures, columns=min(6, max(4, len(figures))))
        + html.details("Way through the layers", *_animation(each, spec, plan, label, name, out))
    )


def _animation(
    each: Seen, spec: NetSpec, plan: Plan, label: int, name: str, out: Path
) -> list[html.Html]:
    traces = each.traces[plan.shifts[0]]
    size = (each.picture.shape[0], each.picture.shape[1])
    sequence = frames(spec, traces, label, size)
    file = f"{each.name}_{label}.gif"
    with atomic_path(out / file) as temporary:
        temporary.write_bytes(gif(each.picture, sequence))
    link = f'<p><a href="{quote(file)}">{html.text(file)}</a>: the same as an animation.</p>'
    return [player(each.picture, sequence, f"{each.name}, {name}"), html.Html(link)]


def _photograph(picture: Bytes) -> bytes:
    return photograph(picture, smallest=SMALLEST, largest=LARGEST)


def _colours(labels: Bytes) -> bytes:
    return label_map(labels, voc_palette(), smallest=SMALLEST, largest=LARGEST)


# index.html: what was traced in each image, and whether it means anything.

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
            html.legend(legend_colours(ORDERS)),
            html.figure_grid(
                [
                    _chart("Deletion", mean, 0, "pixels removed"),
                    _chart("Insertion", mean, 1, "pixels revealed"),
                ],
                columns=2,
            ),
            _areas(mean, cases),
        )
    ]


def _chart(title: str, mean: Mapping[str, Curves], which: int, x_label: str) -> html.Html:
    lines = {name: curve.insertion if which else curve.deletion for name, curve in mean.items()}
    shares = (0, 0.25, 0.5, 0.75, 1)
    x, y = (Axis(label, (0, 1), shares, "{:.0%}".format) for label in (x_label, ""))
    curves = {name: list(zip(FRACTIONS, values, strict=True)) for name, values in lines.items()}
    return draw_chart(Chart(curves, x, y, title, (440, 280), legend=False))


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
