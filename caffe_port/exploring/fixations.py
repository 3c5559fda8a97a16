"""Answers to "why": Seg-Unravel's points for a pixel or a region of the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.data.images import Bytes
from caffe_port.errors import UsageError
from caffe_port.evaluation.test_time import window_starts
from caffe_port.exploring.jobs import Answer
from caffe_port.exploring.sessions import Photo, Session, Subject
from caffe_port.plan import runnable
from caffe_port.unravel.analysis import NOT_TRACED
from caffe_port.unravel.drawing import Frame, frames, heat_map
from caffe_port.unravel.measures import evidence
from caffe_port.unravel.points import Placement, placements
from caffe_port.unravel.trace import SHIFTS, Traces, trace_blobs

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]
REGIONS = ("pixel", "object", "class", "rectangle")


@dataclass(frozen=True)
class Window:
    """The part of an image that the network's input holds.

    Attributes:
        top, left: its first row and column.
        height, width: of the input; beyond the image is padding.
    """

    top: int
    left: int
    height: int
    width: int

    def part(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The part of (h, w, ...) values."""
        return values[self.top : self.top + self.height, self.left : self.left + self.width]


def window_at(subject: Subject, photo: Photo, y: int, x: int) -> Window:
    """The window of the segmenter, at scale 1, in which a pixel is nearest to the middle."""
    scores, options = subject.segmenter.scores, subject.segmenter.options
    height, width = scores.size_for(photo.size) if options.whole_image else scores.crop
    starts = [
        window_starts(side, window, options.overlap)
        for side, window in zip(photo.size, (height, width), strict=True)
    ]
    top = min(starts[0], key=lambda start: abs(start + height / 2 - y))
    left = min(starts[1], key=lambda start: abs(start + width / 2 - x))
    return Window(top, left, height, width)


def activations(subject: Subject, photo: Photo, window: Window) -> dict[str, Tensor]:
    """Every blob of the network that can be computed, of a window of the image.

    Those of the last window are kept.
    """
    key = (photo, window)
    if subject.activations is None or subject.activations[0] != key:
        subject.activations = None  # before the next ones, for memory
        net, data = subject.segmenter.scores.net, subject.segmenter.scores.data
        pixels = subject.segmenter.network_input(np.ascontiguousarray(window.part(photo.bgr)))
        beyond = (0, window.width - pixels.shape[2], 0, window.height - pixels.shape[1])
        batch = functional.pad(pixels, beyond)[None].to(subject.segmenter.scores.device)
        layers = runnable(net.spec.layers, {data})
        names = dict.fromkeys(
            top for layer in layers if layer.op.kind != "sink" for top in layer.tops
        )
        with torch.no_grad():
            subject.activations = key, dict(net({data: batch}, keep=[data, *names]))
    return subject.activations[1]


def trace_answer(subject: Subject, session: Session, asked: Mapping[str, Any]) -> Answer:
    """The points of every blob that caused the label of a pixel or of a region.

    Args:
        asked: "region", one of ``REGIONS``; "y" and "x" of the pixel; for a rectangle also "y1"
            and "x1"; "label" in place of the predicted one, or null; "shift"; "k"; "which", the
            label map of the "network" or of the "crf".
    Raises:
        UsageError: a value is wrong.
        UnsupportedLayerError: points cannot be traced through a layer.
    """
    photo = session.expect_photo()
    shown = session.segmentation(subject, str(asked.get("which"))).labels
    y, x = _place(asked, ("y", "x"), photo.size)
    label, region = _region(subject, asked, shown, y, x)
    shift, k = asked.get("shift", "full_shift"), asked.get("k", 1)
    if shift not in SHIFTS or not isinstance(k, int) or not 1 <= k <= 8:
        raise UsageError(f"shift {shift!r} and k {k!r}; expected {', '.join(SHIFTS)}, and 1 to 8")
    window = window_at(subject, photo, y, x)
    blobs = activations(subject, photo, window)
    scores = subject.segmenter.scores
    place = placements(scores.net.spec, {n: tuple(b.shape) for n, b in blobs.items()})[scores.blob]
    grid = (blobs[scores.blob].shape[2], blobs[scores.blob].shape[3])
    label_map = _on_grid(window.part(region), (y - window.top, x - window.left), place, grid, label)
    traces = trace_blobs(
        scores.net, blobs, scores.blob, {scores.data}, [label], shift, k, label_map
    )
    return _answer(subject, photo, window, traces, label, shown)


def _place(
    asked: Mapping[str, Any], names: tuple[str, str], size: tuple[int, ...]
) -> tuple[int, int]:
    found = []
    for name, side in zip(names, size, strict=True):
        value = asked.get(name)
        if not isinstance(value, int) or not 0 <= value < side:
            raise UsageError(f"{name} is {value!r}; expected 0 to {side - 1}")
        found.append(value)
    return found[0], found[1]


def _region(
    subject: Subject, asked: Mapping[str, Any], shown: Bytes, y: int, x: int
) -> tuple[int, Mask]:
    """The label to trace, and the pixels that it is traced from."""
    kind, label = asked.get("region"), asked.get("label")
    if kind not in REGIONS:
        raise UsageError(f"region is {kind!r}; expected one of {', '.join(REGIONS)}")
    if label is not None and not (isinstance(label, int) and 0 <= label < subject.classes):
        raise UsageError(f"class {label!r}; expected 0 to {subject.classes - 1}")
    mask = np.zeros(shown.shape, np.bool_)
    if kind == "rectangle":
        corner = _place({"y": asked.get("y1"), "x": asked.get("x1")}, ("y", "x"), shown.shape)
        (y, y1), (x, x1) = sorted((y, corner[0])), sorted((x, corner[1]))
        mask[y : y1 + 1, x : x1 + 1] = True
        own = int(np.bincount(shown[mask]).argmax())
        return (own, mask & (shown == own)) if label is None else (label, mask)
    own = int(shown[y, x])
    if kind == "pixel":
        mask[y, x] = True
    else:
        mask = shown == own if kind == "class" else connected(shown, y, x)
    return own if label is None else label, mask


def connected(labels: Bytes, y: int, x: int) -> Mask:
    """The pixels of a place's label that are connected with it, by their sides."""
    from scipy.ndimage import label

    parts, _ = label(labels == labels[y, x])
    found: Mask = parts == parts[y, x]
    return found


def _on_grid(
    region: Mask, pixel: tuple[int, int], place: Placement, grid: tuple[int, int], label: int
) -> Labels:
    """The places of the score blob that belong to a region: a label map for ``trace``.

    Args:
        region: of the window's part of the image.
        pixel: the one that was chosen, in the window; its nearest place is taken where the scores
            are so coarse that none is in the region.
        place, grid: where the scores are, and their height and width.
    """
    centres, inside = [], []
    for i in (0, 1):
        centre = np.rint(np.arange(grid[i]) * place.scale[i] + place.shift[i]).astype(int)
        inside.append((centre >= 0) & (centre < region.shape[i]))
        centres.append(np.clip(centre, 0, region.shape[i] - 1))
    found: Labels = np.full(grid, NOT_TRACED, np.int64)
    found[region[centres[0]][:, centres[1]] & inside[0][:, None] & inside[1]] = label
    if not (found == label).any():
        back = [(pixel[i] - place.shift[i]) / place.scale[i] for i in (0, 1)]
        nearest = [int(np.clip(round(back[i]), 0, grid[i] - 1)) for i in (0, 1)]
        found[nearest[0], nearest[1]] = label
    return found


def _answer(
    subject: Subject, photo: Photo, window: Window, traces: Traces, label: int, shown: Bytes
) -> Answer:
    spec, source = subject.segmenter.scores.net.spec, subject.segmenter.scores.data
    part = np.ascontiguousarray(window.part(shown if photo.truth is None else photo.truth))
    size = (part.shape[0], part.shape[1])
    points = traces.arrived(label, source)
    heat = heat_map(points, (window.height, window.width))
    found = evidence(points, heat, label, part)
    whole = np.zeros(photo.size, np.uint8)
    window.part(whole)[...] = np.rint(255 * heat[: size[0], : size[1]]).astype(np.uint8)
    listed, places = _frames(frames(spec, traces, label, size), window)
    own = (points[:, 1] < size[0]) & (points[:, 2] < size[1])
    total = sum(found.on.values()) + found.padding
    head = {
        "label": label,
        "frames": listed,
        "points": len(points),
        "window": [window.top, window.left, *size],
        "evidence": {
            "of_truth": photo.truth is not None,
            "inside": found.inside,
            "chance": found.chance,
            "on": [[one, count / total] for one, count in found.on.most_common()] if total else [],
            "padding": found.padding / total if total else None,
            "distance": found.distance,
            "hit": found.hit,
        },
    }
    ends = points[own] + np.array([0, window.top, window.left], np.int32)
    return Answer(head, {"places": places, "ends": ends.astype(np.int32), "heat": whole})


def _frames(
    sequence: list[Frame], window: Window
) -> tuple[list[list[dict[str, Any]]], npt.NDArray[np.float32]]:
    """The frames for JSON, and the y, x of all their points in the image."""
    listed, places, start = [], [np.empty((0, 2))], 0
    for frame in sequence:
        panels = []
        for panel in frame:
            count = len(panel.places)
            panels.append(
                {"blob": panel.blob, "points": panel.number, "start": start, "count": count}
            )
            places.append(panel.places + np.array([window.top, window.left]))
            start += count
        listed.append(panels)
    return listed, np.concatenate(places).astype(np.float32)
