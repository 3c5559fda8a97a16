"""The HTML report of traced images: figures, tables and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from caffe_port.data.images import voc_palette
from caffe_port.files import write_bytes, write_text
from caffe_port.reports import html
from caffe_port.reports.chart import Axis, Chart, draw_chart, legend_colours
from caffe_port.reports.html import encoded, label_map, photograph
from caffe_port.spec import NetSpec
from caffe_port.unravel.analysis import AnalysedImage, AnalysisOptions, heat_of
from caffe_port.unravel.drawing import (
    LARGEST,
    PLAYER_SCRIPT,
    SMALLEST,
    Bytes,
    frames,
    gif,
    overlay,
    player,
    with_points,
)
from caffe_port.unravel.measures import (
    FRACTIONS,
    ORDERS,
    Curves,
    Evidence,
    Summary,
    mean_curves,
    summarize,
)


def image_section(
    each: AnalysedImage, spec: NetSpec, options: AnalysisOptions, names: Sequence[str], out: Path
) -> html.Html:
    """The section of one image: its label maps, then each label with its shift types side by side.

    Args:
        each: an image whose traces were kept.
        spec: of the net.
        options: of the analysis.
        names: of the labels.
        out: folder for the GIFs.
    """
    first = each.traces[options.shifts[0]]
    parts = [_overview(each, options.colours)]
    for label in first:
        if len(first[label][options.top]):
            parts.append(_label(each, spec, options, label, names[label], out))
    return html.section(each.name, *parts)


def _overview(each: AnalysedImage, colours: Bytes | None) -> html.Html:
    figures = [html.figure(_photograph(each.image), "image")]
    if each.truth is not None:
        figures.append(html.figure(_colours(each.truth, colours), "truth"))
    figures.append(html.figure(_colours(each.predicted, colours), "predicted"))
    return html.figure_grid(figures, columns=5)


def _label(
    each: AnalysedImage, spec: NetSpec, options: AnalysisOptions, label: int, name: str, out: Path
) -> html.Html:
    source, figures = spec.sources[0], []
    for shift, traces in each.traces.items():
        points = traces.arrived(label, source)
        dots = with_points(each.image, points[:, 1:].astype(np.float64), radius=4)
        heat = overlay(each.image, heat_of(traces, label, source, options.settings.crop))
        figures.append(html.figure(encoded(dots), f"{name}, {shift}: {len(points)} points"))
        figures.append(html.figure(_photograph(heat), f"{name}, {shift}: heat map"))
    return html.Html(
        f"<h3>{html.text(name)}</h3>"
        + html.figure_grid(figures, columns=min(6, max(4, len(figures))))
        + html.details("Points in each layer", *_animation(each, spec, options, label, name, out))
    )


def _animation(
    each: AnalysedImage, spec: NetSpec, options: AnalysisOptions, label: int, name: str, out: Path
) -> list[html.Html]:
    traces = each.traces[options.shifts[0]]
    size = (each.image.shape[0], each.image.shape[1])
    sequence = frames(spec, traces, label, size)
    file = f"{each.name}_{label}.gif"
    write_bytes(out / file, gif(each.image, sequence))
    link = f'<p><a href="{quote(file)}">{html.text(file)}</a>: the same as an animation.</p>'
    return [player(each.image, sequence, f"{each.name}, {name}"), html.Html(link)]


def _photograph(image: Bytes) -> bytes:
    return photograph(image, smallest=SMALLEST, largest=LARGEST)


def _colours(labels: Bytes, colours: Bytes | None) -> bytes:
    palette = voc_palette() if colours is None else colours
    return label_map(labels, palette, smallest=SMALLEST, largest=LARGEST)


_OTHERS = 4  # classes of context that the table names
_FIGURES: tuple[html.Align, ...] = ("right",) * 5


def write_report(
    analysed: Sequence[AnalysedImage],
    spec: NetSpec,
    options: AnalysisOptions,
    names: Sequence[str],
    out: Path,
    title: str,
) -> Path:
    """Writes index.html, and next to it an animation per kept image and label.

    Args:
        analysed: the images.
        spec: of the net.
        options: of the analysis.
        names: of the labels.
        out: folder.
        title: of the page.
    Returns:
        The page, which contains everything but the GIFs it links to.
    """
    shift = options.shifts[0]
    against = "the truth" if any(each.truth is not None for each in analysed) else "the prediction"
    subtitle = (
        f"{_many(len(analysed), 'image')}, traced from {options.top}, {', '.join(options.shifts)}, "
        f"{_many(options.k, 'channel')} per window"
    )
    kept = [each for each in analysed if each.traces]
    shown = [image_section(each, spec, options, names, out) for each in kept]
    # what one came to see first, then the figures over all images, then the other images
    sections = [
        *shown[:1],
        _headline(analysed, shift),
        _pointing(analysed, options, names, against),
        _context(analysed, options, names, against),
        *_curves(analysed),
        *shown[1:],
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


def _headline(analysed: Sequence[AnalysedImage], shift: str) -> html.Html:
    total = summarize(_cases(analysed, shift))
    mean = mean_curves([c for each in analysed for c in each.curves.values()])
    figures = {
        "labels traced": total.cases,
        "of the points are in the label's own region": percent(total.inside),
        "would be, if scattered at random": percent(total.chance),
        "of the heat maps have their peak in it": percent(total.hits),
    }
    for i, kind in enumerate(("deletion", "insertion") if mean else ()):
        chance = percent(mean["random"].areas[i])
        words = f"area under {kind} (random order: {chance})"
        figures[words] = percent(mean["traced points"].areas[i])
    return html.section("All images", html.cards(figures))


def _cases(analysed: Sequence[AnalysedImage], shift: str) -> list[Evidence]:
    return [case for each in analysed for name, cases in each.evidence.items() if name == shift
            for case in cases]  # fmt: skip


def _pointing(
    analysed: Sequence[AnalysedImage], options: AnalysisOptions, names: Sequence[str], against: str
) -> html.Html:
    rows, classes = [], []
    for shift in options.shifts:
        cases = _cases(analysed, shift)
        for label in sorted({case.label for case in cases}):
            own = summarize([case for case in cases if case.label == label])
            rows.append([shift, names[label], *_pointing_cells(own)])
            classes.append("")
        rows.append([shift, "all", *_pointing_cells(summarize(cases))])
        classes.append("total")
    headers = ["shift type", "label", "cases", "points inside", "by chance", "peak inside",
               "median distance outside"]  # fmt: skip
    return html.section(
        "Are the points in the object?",
        html.paragraph(
            f"Each image's traced points, compared with {against}: the share of a label's points "
            "in its own region, the region's share of the image, and the pointing game, the share "
            "of heat maps whose peak is in the region. Distances are of the points outside, in "
            "pixels, to the region."
        ),
        html.table(headers, rows, align=("left", "left", *_FIGURES), row_classes=classes),
    )


def _pointing_cells(own: Summary) -> list[object]:
    distance = "-" if math.isnan(own.distance) else f"{own.distance:.1f}"
    return [own.cases, percent(own.inside), percent(own.chance), percent(own.hits), distance]


def _context(
    analysed: Sequence[AnalysedImage], options: AnalysisOptions, names: Sequence[str], against: str
) -> html.Html:
    cases = _cases(analysed, options.shifts[0])
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
               "in the padding"]  # fmt: skip
    return html.section(
        "How much of a label's evidence is context?",
        html.paragraph(
            f"The points of {options.shifts[0]} by the classes of {against}. Points outside of a "
            "label's own region are context that the network used for its decision."
        ),
        html.table(headers, rows, align=["left", "right", "right", "left", "right"]),
    )


def _name(names: Sequence[str], label: int) -> str:
    return names[label] if label < len(names) else str(label)


def _curves(analysed: Sequence[AnalysedImage]) -> list[html.Html]:
    measured = [each for each in analysed if each.curves]
    cases = [curve for each in measured for curve in each.curves.values()]
    if not cases:
        return []
    mean = mean_curves(cases)
    return [
        html.section(
            "Does the score depend on these pixels?",
            html.paragraph(
                f"{_many(len(cases), 'label')} of {_many(len(measured), 'image')}. Pixels are "
                "removed (set to the mean colour), or revealed on an empty image, the hottest "
                "first; the curves are the mean probability of the label on the places that had "
                "it. With a map of the evidence, deletion falls early and insertion rises early. "
                "All four maps are smoothed in the same way. The own region is the label map "
                "itself: where it does better, the traced points say less about the score than "
                "the label map does."
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
