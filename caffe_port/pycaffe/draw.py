"""Images of nets: ``caffe.draw``, by pydot and Graphviz or, without them, in a plain layout."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffe_port.errors import UsageError
from caffe_port.files import write_bytes
from caffe_port.proto import caffe_pb2

if TYPE_CHECKING:
    from PIL import ImageDraw


_MARGIN, _GAP, _SPREAD, _FONT = 8, 40, 14, 12
MAX_PIXELS = 2**28
MAX_BOXES = 4000  # layers and blobs; DeepLab's ResNet-101 on three scales has some 2,500


@dataclass(frozen=True)
class _Box:
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


def _render(
    boxes: Mapping[str, _Box], edges: Sequence[tuple[str, str, str]], rankdir: str, ext: str
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


def _size(box: _Box, font: Any) -> tuple[int, int]:
    widest = max(font.getlength(line) for line in box.lines)
    return int(widest) + 2 * _MARGIN, (_FONT + 3) * len(box.lines) + 2 * _MARGIN


def _layout(
    boxes: Mapping[str, _Box], sizes: Mapping[str, tuple[int, int]], rankdir: str
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


def _box(draw: ImageDraw.ImageDraw, at: _Place, box: _Box, font: Any) -> None:
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


# Images of nets: ``caffe.draw``.
#
# By pydot and Graphviz if they are installed, otherwise by the plain layout of ``draw_plain``.
#
# Source: BVLC/caffe python/caffe/draw.py.

_COLOURS = {"Convolution": "#FF5050", "Deconvolution": "#FF5050", "Pooling": "#FF9900",
            "InnerProduct": "#CC33FF"}  # fmt: skip
_LAYER, _IN_PLACE, _BLOB = "#6495ED", "#90EE90", "#E0E0E0"
_LEARNING = ("Convolution", "Deconvolution", "InnerProduct")


def get_pooling_types_dict() -> dict[int, str]:
    """Number -> name of the pooling methods."""
    return {v: k for k, v in caffe_pb2.PoolingParameter.PoolMethod.items()}


def get_edge_label(layer: caffe_pb2.LayerParameter) -> str:
    """The label of the edge to a layer's tops: its channels, or the batch size."""
    if layer.type == "Data":
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    if layer.type == "InnerProduct":
        return str(layer.inner_product_param.num_output)
    return ""


def get_layer_lr_mult(layer: caffe_pb2.LayerParameter) -> tuple[float, float]:
    """lr_mult of weights and biases.

    Raises:
        ValueError: the layer's type has none, or more than two.
    """
    if layer.type not in _LEARNING or len(layer.param) > 2:
        raise ValueError(f"layer '{layer.name}' ({layer.type}) has no lr_mult of weight and bias")
    first, second = [*(param.lr_mult for param in layer.param), 1.0, 1.0][:2]
    return first, second


def get_layer_label(
    layer: caffe_pb2.LayerParameter, rankdir: str, display_lrm: bool = False
) -> str:
    """A layer's label in DOT, Graphviz's language: name, type, window and, on request, lr_mult.

    Args:
        layer: the layer.
        rankdir: see ``get_pydot_graph``; LR and RL break lines, TB and BT do not.
        display_lrm: whether lr_mult is shown.
    """
    return f'"{_separator(rankdir).join(_lines(layer, display_lrm))}"'


def _separator(rankdir: str) -> str:
    return " " if rankdir in ("TB", "BT") else r"\n"


def _lines(layer: caffe_pb2.LayerParameter, display_lrm: bool) -> list[str]:
    kind = layer.type
    if kind == "Pooling":
        kind += f" {get_pooling_types_dict()[layer.pooling_param.pool]}"
    lines = [layer.name, f"({kind})"]
    if layer.type in ("Convolution", "Deconvolution", "Pooling"):
        lines += _window(layer)
    if display_lrm and layer.type in _LEARNING:
        lines.append("lr mult: {:.1f}, {:.1f}".format(*get_layer_lr_mult(layer)))
    return lines


def _window(layer: caffe_pb2.LayerParameter) -> list[str]:
    if layer.type == "Pooling":
        pool = layer.pooling_param
        values = [pool.kernel_size, pool.stride, pool.pad]
    else:
        conv = layer.convolution_param
        given = ((conv.kernel_size, 1), (conv.stride, 1), (conv.pad, 0))
        values = [sizes[0] if sizes else default for sizes, default in given]
    return [f"{n}: {v}" for n, v in zip(("kernel size", "stride", "pad"), values, strict=True)]


def choose_color_by_layertype(layertype: str) -> str:
    """The fill colour of a layer's node."""
    return _COLOURS.get(layertype, _LAYER)


def _included(layer: caffe_pb2.LayerParameter, phase: int | None) -> bool:
    """Whether a layer is drawn: only the phases of its rules count, as in Caffe."""
    if phase is None:
        return True
    if layer.include and layer.exclude:
        raise ValueError(f"layer '{layer.name}' has both include and exclude rules")
    if layer.include:
        return any(rule.phase == phase for rule in layer.include)
    return all(rule.phase != phase for rule in layer.exclude)


def _graph(
    net: caffe_pb2.NetParameter, label_edges: bool, phase: int | None, display_lrm: bool
) -> tuple[dict[str, _Box], list[tuple[str, str, str]]]:
    """The boxes by name, and the edges (from, to, label)."""
    boxes: dict[str, _Box] = {}
    edges = []
    deepest: dict[str, int] = {}  # of a blob: the depth of itself or its last writer in place
    for layer in net.layer:
        if not _included(layer, phase):
            continue
        name = f"{layer.name}_{layer.type}"
        depth = 1 + max((deepest.get(blob, 0) for blob in layer.bottom), default=-1)
        in_place = len(layer.bottom) == len(layer.top) == 1 and layer.bottom[0] == layer.top[0]
        fill = _IN_PLACE if in_place else choose_color_by_layertype(layer.type)
        boxes[name] = _Box(tuple(_lines(layer, display_lrm)), fill, depth, blob=False)
        for blob in (*layer.bottom, *layer.top):
            new = depth + 1 if blob in layer.top else 0
            if f"{blob}_blob" not in boxes:
                boxes[f"{blob}_blob"] = _Box((blob,), _BLOB, new, blob=True)
            if blob in layer.top:
                deepest[blob] = depth if blob in layer.bottom else new
        edges += [(f"{blob}_blob", name, "") for blob in layer.bottom]
        label = get_edge_label(layer) if label_edges else ""
        edges += [(name, f"{blob}_blob", label) for blob in layer.top]
    return boxes, edges


def get_pydot_graph(
    caffe_net: caffe_pb2.NetParameter,
    rankdir: str,
    label_edges: bool = True,
    phase: int | None = None,
    display_lrm: bool = False,
) -> Any:
    """Makes a pydot graph of a net.

    Args:
        caffe_net: the net; its ``layer`` entries are drawn.
        rankdir: direction of the graph, 'LR', 'RL', 'TB' or 'BT'.
        label_edges: whether edges to tops are labelled with the number of channels.
        phase: caffe.TRAIN or caffe.TEST, or None for all layers.
        display_lrm: whether lr_mult is shown.
    Raises:
        UsageError: pydot is not installed.
    """
    try:
        import pydot
    except ImportError:
        raise UsageError("a pydot graph needs pydot: pip install pydot") from None
    boxes, edges = _graph(caffe_net, label_edges, phase, display_lrm)
    graph = pydot.Dot(caffe_net.name or "Net", graph_type="digraph", rankdir=rankdir)
    separator = _separator(rankdir)
    for name, box in boxes.items():
        shape = "octagon" if box.blob else "record"
        label = f'"{separator.join(box.lines)}"'
        graph.add_node(
            pydot.Node(f'"{name}"', label=label, shape=shape, style="filled", fillcolor=box.fill)
        )
    for source, target, label in edges:
        graph.add_edge(pydot.Edge(f'"{source}"', f'"{target}"', label=f'"{label}"'))
    return graph


def _graphviz() -> bool:
    return importlib.util.find_spec("pydot") is not None and shutil.which("dot") is not None


def draw_net(
    caffe_net: caffe_pb2.NetParameter,
    rankdir: str,
    ext: str = "png",
    phase: int | None = None,
    display_lrm: bool = False,
) -> bytes:
    """Draws a net.

    Args:
        caffe_net, rankdir, phase, display_lrm: see ``get_pydot_graph``.
        ext: with pydot and Graphviz any format of Graphviz, 'raw' being its own language; without
            them any format that Pillow writes.
    Returns:
        The file's content.
    Raises:
        UsageError: a format that only Graphviz writes, without it; or too large an image.
    """
    if _graphviz():
        graph = get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm)
        content: bytes = graph.create(format=ext)
        return content
    boxes, edges = _graph(caffe_net, True, phase, display_lrm)
    return _render(boxes, edges, rankdir, ext)


def draw_net_to_file(
    caffe_net: caffe_pb2.NetParameter,
    filename: str | os.PathLike[str],
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
) -> None:
    """Draws a net into a file, whose suffix names the format; see ``draw_net``."""
    content = draw_net(caffe_net, rankdir, Path(filename).suffix[1:], phase, display_lrm)
    write_bytes(filename, content)
