"""Images of nets without Graphviz: one column of boxes per depth, drawn with Pillow."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caffe_port.errors import UsageError

if TYPE_CHECKING:
    from PIL import ImageDraw

_MARGIN, _GAP, _SPREAD, _FONT = 8, 40, 14, 12
MAX_PIXELS = 2**28
MAX_BOXES = 4000  # layers and blobs; DeepLab's ResNet-101 on three scales has some 2,500


@dataclass(frozen=True)
class Box:
    """A layer or a blob.

    Attributes:
        lines: its text.
        fill: its colour, such as '#6495ED'.
        depth: its column, from 0 at the inputs.
        blob: whether it is a blob, which has cut corners.
    """

    lines: tuple[str, ...]
    fill: str
    depth: int
    blob: bool


@dataclass(frozen=True)
class _Place:
    left: float
    top: float
    right: float
    bottom: float

    def toward(self, other: _Place) -> tuple[float, float]:
        """The point on this box's border on the line between the centres of two boxes."""
        x, y = (self.left + self.right) / 2, (self.top + self.bottom) / 2
        dx = (other.left + other.right) / 2 - x
        dy = (other.top + other.bottom) / 2 - y
        if dx == dy == 0:
            return x, y
        reach = min(
            (self.right - x) / abs(dx) if dx else float("inf"),
            (self.bottom - y) / abs(dy) if dy else float("inf"),
        )
        return x + dx * reach, y + dy * reach


def render(
    boxes: Mapping[str, Box], edges: Sequence[tuple[str, str, str]], rankdir: str, ext: str
) -> bytes:
    """Draws boxes and the edges between them.

    Args:
        boxes: by name.
        edges: (from, to, label).
        rankdir: the direction of the data: 'LR' to the right, 'RL', 'TB' downwards or 'BT'.
        ext: an image format that Pillow writes, such as 'png'.
    Returns:
        The file's content.
    Raises:
        UsageError: Pillow has no such format, there is nothing to draw, or the image would be
            too large.
    """
    from PIL import Image, ImageDraw, ImageFont

    format = Image.registered_extensions().get(f".{ext}")
    if format is None or format not in Image.SAVE:
        raise UsageError(f"drawing as '{ext}' needs pydot and the Graphviz program 'dot'")
    if not boxes:
        raise UsageError("there is no layer to draw, at least none of this phase")
    if len(boxes) > MAX_BOXES:
        raise UsageError(f"{len(boxes)} boxes, too many for one image; Graphviz makes a PDF")
    font = ImageFont.load_default(_FONT)
    sizes = {name: _size(box, font) for name, box in boxes.items()}
    places, width, height = _layout(boxes, sizes, rankdir)
    if width * height > MAX_PIXELS:
        message = f"the image would have {width} x {height} pixels; pydot and Graphviz make a PDF"
        raise UsageError(message)
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for source, target, label in edges:
        _arrow(draw, places[source], places[target], label, font)
    for name, box in boxes.items():
        _box(draw, places[name], box, font)
    stream = io.BytesIO()
    image.save(stream, format=format)
    return stream.getvalue()


def _size(box: Box, font: Any) -> tuple[int, int]:
    widest = max(font.getlength(line) for line in box.lines)
    return int(widest) + 2 * _MARGIN, (_FONT + 3) * len(box.lines) + 2 * _MARGIN


def _layout(
    boxes: Mapping[str, Box], sizes: Mapping[str, tuple[int, int]], rankdir: str
) -> tuple[dict[str, _Place], int, int]:
    """Positions of the boxes: centred columns by depth (for TB and BT rows)."""
    along = 0 if rankdir in ("LR", "RL") else 1
    columns: defaultdict[int, list[str]] = defaultdict(list)
    for name, box in boxes.items():
        columns[box.depth].append(name)
    across = max(_extent(names, sizes, 1 - along) for names in columns.values()) + 2 * _GAP
    places, position = {}, _GAP
    for depth in sorted(columns, reverse=rankdir in ("BT", "RL")):
        names = columns[depth]
        thickness = max(sizes[name][along] for name in names)
        offset = (across - _extent(names, sizes, 1 - along)) / 2
        for name in names:
            start = [0.0, 0.0]
            start[along] = position + (thickness - sizes[name][along]) / 2
            start[1 - along] = offset
            offset += sizes[name][1 - along] + _SPREAD
            places[name] = _Place(
                start[0], start[1], start[0] + sizes[name][0], start[1] + sizes[name][1]
            )
        position += thickness + _GAP
    return (places, position, across) if along == 0 else (places, across, position)


def _extent(names: Sequence[str], sizes: Mapping[str, tuple[int, int]], side: int) -> int:
    return sum(sizes[name][side] + _SPREAD for name in names) - _SPREAD


def _arrow(draw: ImageDraw.ImageDraw, source: _Place, target: _Place, text: str, font: Any) -> None:
    start, end = source.toward(target), target.toward(source)
    draw.line([start, end], fill="black")
    length = ((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5 or 1.0
    x, y = (end[0] - start[0]) / length * 7, (end[1] - start[1]) / length * 7
    head = [end, (end[0] - x - y / 2, end[1] - y + x / 2), (end[0] - x + y / 2, end[1] - y - x / 2)]
    draw.polygon(head, fill="black")
    if text:
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - _FONT)
        draw.text(middle, text, fill="black", font=font, anchor="ma")


def _box(draw: ImageDraw.ImageDraw, at: _Place, box: Box, font: Any) -> None:
    cut = _MARGIN if box.blob else 0
    corners = [
        (at.left + cut, at.top), (at.right - cut, at.top), (at.right, at.top + cut),
        (at.right, at.bottom - cut), (at.right - cut, at.bottom), (at.left + cut, at.bottom),
        (at.left, at.bottom - cut), (at.left, at.top + cut),
    ]  # fmt: skip
    draw.polygon(corners, fill=box.fill, outline="black")
    centre = (at.left + at.right) / 2
    for i, line in enumerate(box.lines):
        top = at.top + _MARGIN + i * (_FONT + 3)
        draw.text((centre, top), line, fill="black", font=font, anchor="ma")
