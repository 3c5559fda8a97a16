"""Analysis of a list of images: points, evidence and curves of each, for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from caffe_port.data.images import read_labels, read_rgb
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.network import Settings
from caffe_port.evaluation.score_net import network_input
from caffe_port.unravel.drawing import Bytes, Floats, Size, heat_map
from caffe_port.unravel.measures import Curves, Evidence, curves, evidence
from caffe_port.unravel.points import placements
from caffe_port.unravel.rules import Shift
from caffe_port.unravel.trace import Traces, trace

if TYPE_CHECKING:
    from caffe_port.net import Net

MAX_LABELS = 255
NOT_TRACED = -1  # in the label map


@dataclass(frozen=True)
class AnalysisOptions:
    """The options of the analysis of images.

    Attributes:
        top: the score blob.
        labels: those to trace; None for all that are found, without those in ``leave_out``.
        leave_out: labels that are traced only if ``labels`` names them.
        shifts: shift types; the first is the one that curves and animations show.
        k: channels followed per window.
        settings: crop and mean, and what the labels of the truth mean, if ``labels`` says it.
        curves: number of images whose deletion and insertion are measured.
        kept: number of images whose traces are kept, to be drawn.
        colours: (256, 3) uint8 red, green, blue by label; VOC's by default.
    """

    top: str
    labels: tuple[int, ...] | None = None
    leave_out: tuple[int, ...] = (0,)
    shifts: tuple[Shift, ...] = ("full_shift",)
    k: int = 1
    settings: Settings = field(default_factory=Settings)
    curves: int = 3
    kept: int = 6
    colours: Bytes | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class AnalysedImage:
    """The results of one image.

    Attributes:
        name: its file's, without suffix; numbered where another image has the same.
        image: (h, w, 3) uint8 RGB.
        predicted: (h, w) uint8, a label per pixel of the image; where the scores are coarser, the
            nearest.
        truth: (h, w) uint8, or None.
        traces: shift -> its points; empty where they are not kept.
        evidence: shift -> one per label.
        curves: label -> order -> curves.
    """

    name: str
    image: Bytes
    predicted: Bytes
    truth: Bytes | None
    traces: dict[Shift, Traces]
    evidence: dict[Shift, list[Evidence]]
    curves: dict[int, dict[str, Curves]]


def analyse(
    net: Net,
    images: Sequence[tuple[Path, Path | None]],
    options: AnalysisOptions,
    *,
    progress: Callable[[str], None] = lambda name: None,
) -> list[AnalysedImage]:
    """Analyses images one by one.

    Args:
        net: the net.
        images: files, each with its label map or None.
        options: what is computed.
        progress: called with each image's name when it is finished.
    Raises:
        DataError: an image or a label map cannot be read or is of the wrong size.
        CaffePortError: the net cannot be run or traced.
    """
    result = []
    names: Counter[str] = Counter()  # images of two folders may have the same name
    for number, (path, truth) in enumerate(images):
        names[path.stem] += 1
        again = names[path.stem]
        name = path.stem if again == 1 else f"{path.stem} ({again})"
        result.append(_analyse_one(net, path, truth, options, number, name))
        progress(path.stem)
    return result


def _analyse_one(
    net: Net, path: Path, truth: Path | None, options: AnalysisOptions, number: int, name: str
) -> AnalysedImage:
    image = read_rgb(path)
    size = (image.shape[0], image.shape[1])
    classes = net.spec.shapes[options.top][1]
    regions = None if truth is None else _truth(truth, size, options.settings, classes)
    try:
        data = network_input(np.ascontiguousarray(image[:, :, ::-1]), options.settings)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    like = next(net.parameters(), torch.empty(0))
    x = torch.from_numpy(data).to(like.device)
    own, predicted = _label_maps(net, x, options.top, size)
    found = {shift: _traced(net, x, own, options, shift) for shift in options.shifts}
    compared = predicted if regions is None else regions
    first = found[options.shifts[0]]
    return AnalysedImage(
        name, image, predicted, regions,
        found if number < options.kept else {},
        {shift: _evidence(net, traces, compared, options) for shift, traces in found.items()},
        {label: curves(net, x, first, label, size) for label in first if (own == label).any()}
        if number < options.curves else {},
    )  # fmt: skip


def _truth(path: Path, size: Size, settings: Settings, classes: int) -> Bytes:
    rules = settings.labels
    truth = read_labels(path) if rules is None else rules.read(path, classes).labels
    if truth.shape != size:
        raise DataError(f"{path}: {truth.shape[::-1]} pixels for an image of {size[::-1]}")
    return truth


def _label_maps(
    net: Net, x: torch.Tensor, top: str, size: Size
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int64]], Bytes]:
    """The scores' label map without the padding, and the label of each pixel of the image."""
    with torch.no_grad():
        scores = net({net.spec.sources[0]: x}, keep=[top])[top]
    if scores.dim() != 4 or scores.shape[1] > MAX_LABELS:
        raise UsageError(
            f"'{top}' has shape {tuple(scores.shape)}; expected (1, labels, H, W), of at most "
            f"{MAX_LABELS} labels: a label map has 8 bits, and 255 is no label"
        )
    own = scores[0].argmax(0).cpu().numpy()
    place = placements(net.spec, {top: tuple(scores.shape)})[top]
    near, inside = [], []
    for i in (0, 1):
        back = (np.arange(size[i]) - place.shift[i]) / place.scale[i]
        near.append(np.clip(np.rint(back), 0, own.shape[i] - 1).astype(int))
        centre = np.arange(own.shape[i]) * place.scale[i] + place.shift[i]
        inside.append((centre > -0.5) & (centre < size[i] - 0.5))
    predicted = own[near[0]][:, near[1]].astype(np.uint8)
    return np.where(inside[0][:, None] & inside[1], own, NOT_TRACED), predicted


def _traced(
    net: Net,
    x: torch.Tensor,
    label_map: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    options: AnalysisOptions,
    shift: Shift,
) -> Traces:
    labels: Iterable[int] | None = options.labels
    if labels is None:
        labels = (int(n) for n in np.unique(label_map) if n not in (NOT_TRACED, *options.leave_out))
    source = net.spec.sources[0]
    return trace(net, {source: x}, options.top, labels, shift, options.k, label_map)


def heat_of(traces: Traces, label: int, source: str, canvas: Size) -> Floats:
    """The heat map of a label over the input; zeros where it has no points."""
    return heat_map(traces.arrived(label, source), canvas)


def _evidence(net: Net, traces: Traces, regions: Bytes, options: AnalysisOptions) -> list[Evidence]:
    source = net.spec.sources[0]
    return [
        evidence(
            traces.arrived(label, source),
            heat_of(traces, label, source, options.settings.crop),
            label,
            regions,
            ignore_label=options.settings.ignore_label,
        )
        for label in traces
        if len(traces.arrived(label, traces.top))
    ]
