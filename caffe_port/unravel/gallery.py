"""One image's part of the report: points, heat maps and the animation of each label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from caffe_port import html
from caffe_port.data.pictures import voc_palette
from caffe_port.files import atomic_path
from caffe_port.spec import NetSpec
from caffe_port.unravel.animation import frames, gif, player
from caffe_port.unravel.heatmap import Bytes, overlay
from caffe_port.unravel.pictures import encoded, enlargement, resized, with_points
from caffe_port.unravel.study import Plan, Seen, heat_of


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
    factor = enlargement((picture.shape[0], picture.shape[1]))
    return encoded(resized(picture, factor))


def _colours(labels: Bytes) -> bytes:
    from PIL import Image

    factor = enlargement((labels.shape[0], labels.shape[1]))
    image = Image.fromarray(voc_palette()[labels])
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return encoded(image.resize(size, Image.Resampling.NEAREST), "PNG")
