"""Nets as pictures, through pydot and Graphviz: ``caffe.draw``.

Source: BVLC/caffe python/caffe/draw.py.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from caffe_port.errors import UsageError
from caffe_port.files import atomic_path
from caffe_port.proto import caffe_pb2

_COLOURS = {"Convolution": "#FF5050", "Deconvolution": "#FF5050", "Pooling": "#FF9900",
            "InnerProduct": "#CC33FF"}  # fmt: skip
_LAYER = {"shape": "record", "style": "filled", "fillcolor": "#6495ED"}
_IN_PLACE = {**_LAYER, "fillcolor": "#90EE90"}
_BLOB = {"shape": "octagon", "style": "filled", "fillcolor": "#E0E0E0"}
_LEARNING = ("Convolution", "Deconvolution", "InnerProduct")


def _pydot() -> Any:
    try:
        import pydot
    except ImportError:
        message = "drawing needs pydot and the Graphviz program 'dot': pip install pydot"
        raise UsageError(message) from None
    return pydot


def get_pooling_types_dict() -> dict[int, str]:
    """Number -> name of the pooling methods."""
    return {v: k for k, v in caffe_pb2.PoolingParameter.PoolMethod.items()}


def get_edge_label(layer: caffe_pb2.LayerParameter) -> str:
    """What is written on the edge to a layer's tops: its channels, or the batch size."""
    if layer.type == "Data":
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    if layer.type == "InnerProduct":
        return str(layer.inner_product_param.num_output)
    return '""'


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
    """A layer's node: name, type, window and, if asked for, lr_mult.

    Args:
        layer: the layer.
        rankdir: 'LR', 'TB' or 'BT'; only LR breaks lines.
        display_lrm: whether lr_mult is shown.
    """
    kind = layer.type
    lines = [layer.name]
    if kind == "Pooling":
        kind += f" {get_pooling_types_dict()[layer.pooling_param.pool]}"
    lines.append(f"({kind})")
    if layer.type in ("Convolution", "Deconvolution", "Pooling"):
        lines += _window(layer)
    if display_lrm and layer.type in _LEARNING:
        lines.append("lr mult: {:.1f}, {:.1f}".format(*get_layer_lr_mult(layer)))
    separator = " " if rankdir in ("TB", "BT") else r"\n"
    return f'"{separator.join(lines)}"'


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
    return _COLOURS.get(layertype, _LAYER["fillcolor"])


def _included(layer: caffe_pb2.LayerParameter, phase: int | None) -> bool:
    """Whether a layer is drawn; unlike in ``Net`` only the rules' phases count."""
    if phase is None:
        return True
    if layer.include and layer.exclude:
        raise ValueError(f"layer '{layer.name}' has both include and exclude rules")
    if layer.include:
        return any(rule.phase == phase for rule in layer.include)
    return all(rule.phase != phase for rule in layer.exclude)


def get_pydot_graph(
    caffe_net: caffe_pb2.NetParameter,
    rankdir: str,
    label_edges: bool = True,
    phase: int | None = None,
    display_lrm: bool = False,
) -> Any:
    """The net as a pydot graph.

    Args:
        caffe_net: the net; its ``layer`` entries are drawn.
        rankdir: direction of the graph, 'LR', 'TB' or 'BT'.
        label_edges: whether edges to tops say how many channels they carry.
        phase: caffe.TRAIN or caffe.TEST, or None for all layers.
        display_lrm: whether lr_mult is shown.
    Raises:
        UsageError: pydot is not installed.
    """
    pydot = _pydot()
    graph = pydot.Dot(caffe_net.name or "Net", graph_type="digraph", rankdir=rankdir)
    nodes: dict[str, Any] = {}
    edges = []
    for layer in caffe_net.layer:
        if not _included(layer, phase):
            continue
        name = f"{layer.name}_{layer.type}"
        in_place = len(layer.bottom) == len(layer.top) == 1 and layer.bottom[0] == layer.top[0]
        style = _IN_PLACE if in_place else {
            **_LAYER, "fillcolor": choose_color_by_layertype(layer.type)
        }  # fmt: skip
        nodes[name] = pydot.Node(get_layer_label(layer, rankdir, display_lrm), **style)
        for blob in (*layer.bottom, *layer.top):
            nodes.setdefault(f"{blob}_blob", pydot.Node(f'"{blob}"', **_BLOB))
        edges += [(f"{blob}_blob", name, '""') for blob in layer.bottom]
        label = get_edge_label(layer) if label_edges else '""'
        edges += [(name, f"{blob}_blob", label) for blob in layer.top]
    for node in nodes.values():
        graph.add_node(node)
    for source, target, label in edges:
        graph.add_edge(pydot.Edge(nodes[source], nodes[target], label=label))
    return graph


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
        ext: any format of Graphviz; 'raw' is its own language.
    Returns:
        The file's content.
    Raises:
        UsageError: pydot or Graphviz is missing.
    """
    graph = get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm)
    try:
        content: bytes = graph.create(format=ext)
    except FileNotFoundError as error:
        message = f"drawing needs the program 'dot' of Graphviz, which is not installed: {error}"
        raise UsageError(message) from None
    return content


def draw_net_to_file(
    caffe_net: caffe_pb2.NetParameter,
    filename: str | os.PathLike[str],
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
) -> None:
    """Draws a net into a file, whose suffix names the format; see ``draw_net``."""
    content = draw_net(caffe_net, rankdir, Path(filename).suffix[1:], phase, display_lrm)
    with atomic_path(filename) as path:
        path.write_bytes(content)
