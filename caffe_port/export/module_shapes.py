"""Emitted modules: layers that join, cut, rearrange and choose."""

from __future__ import annotations

from caffe_port.export.graph import Node
from caffe_port.export.module_code import MODULE_RULES, ModuleCode, decimal, exact, number, tuple_of
from caffe_port.spec.ops._base import axis_index
from caffe_port.spec.ops.arithmetic import Reduction
from caffe_port.spec.ops.detection import PriorBox
from caffe_port.spec.ops.filters import Embed
from caffe_port.spec.ops.losses import Softmax
from caffe_port.spec.ops.metrics import ArgMax
from caffe_port.spec.ops.segmentation_losses import BiasChannel
from caffe_port.spec.ops.shapes import (
    Concat,
    Flatten,
    Permute,
    Reshape,
    ShuffleChannel,
    Slice,
    Tile,
)


@MODULE_RULES.add("Concat")
def concat(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Concat)
    return f"torch.cat([{', '.join(code.bottoms)}], dim={op.axis})"


@MODULE_RULES.add("Slice")
def slice_(node: Node, code: ModuleCode) -> str:
    """Cut at points the last part takes the rest; without points all are equal."""
    op = node.layer.options(Slice)
    if op.count == 1:
        return code.x
    if op.points:
        return f"{code.x}.tensor_split({tuple_of(op.points)}, dim={op.axis})"
    return f"{code.x}.chunk({op.count}, dim={op.axis})"


@MODULE_RULES.add("Flatten")
def flatten(node: Node, code: ModuleCode) -> str:
    op, axes = node.layer.options(Flatten), len(node.layer.bottom_shapes[0])
    start, end = axis_index(op.axis, axes), axis_index(op.end_axis, axes)
    if end == start - 1:
        return f"{code.x}.unsqueeze({start})"
    return f"{code.x}.flatten({start})" if end == axes - 1 else f"{code.x}.flatten({start}, {end})"


@MODULE_RULES.add("Reshape")
def reshape(node: Node, code: ModuleCode) -> str:
    """The new axes as in the prototxt: 0 is the bottom's own, -1 what is left."""
    op, axes = node.layer.options(Reshape), len(node.layer.bottom_shapes[0])
    start = op.axis if op.axis >= 0 else axes + op.axis + 1
    end = axes if op.num_axes == -1 else start + op.num_axes
    kept = [f"{code.x}.shape[{i}]" for i in range(axes)]
    new = [kept[start + i] if dim == 0 else str(dim) for i, dim in enumerate(op.dims)]
    return f"{code.x}.reshape({tuple_of([*kept[:start], *new, *kept[end:]])})"


@MODULE_RULES.add("Tile")
def tile(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Tile)
    axes = len(node.layer.bottom_shapes[0])
    axis = axis_index(op.axis, axes)
    times = tuple(op.tiles if i == axis else 1 for i in range(axes))
    return f"{code.x}.repeat({tuple_of(times)})"


@MODULE_RULES.add("BatchReindex")
def batch_reindex(node: Node, code: ModuleCode) -> str:
    return f"{code.x}.index_select(0, {code.bottoms[1]}.long())"


@MODULE_RULES.add("Filter")
def filter_(node: Node, code: ModuleCode) -> str:
    *data, selector = code.bottoms
    name = code.helper("chosen")
    return ", ".join(f"{name}({x}, {selector})" for x in data)


@MODULE_RULES.add("PriorBox")
def prior_box(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(PriorBox)
    given = [[float(a) for a in pair] for pair in (op.image, op.step)]
    sides = [list(pair) for pair in op.sides]
    more = f"{sides}, {list(op.variance)}, {given}, {op.offset!r}, {op.clip}"
    return f"{code.helper('prior_boxes')}({', '.join(code.bottoms)}, {more})"


@MODULE_RULES.add("BiasChannel")
def bias_channel(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(BiasChannel)
    name = code.helper("image_bias" if op.label_type == "IMAGE" else "pixel_bias")
    biases = f"{decimal(number(op.bg_bias))}, {decimal(number(op.fg_bias))}"
    more = f", {op.background}" if op.label_type == "PIXEL" and op.background is not None else ""
    return f"{name}({', '.join(code.bottoms)}, {sorted(op.ignore_labels)}, {biases}{more})"


@MODULE_RULES.add("Embed")
def embed(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Embed)
    bias = "" if op.bias else ", bias=False"
    module = code.submodule(node, f"{code.helper('Embed')}({op.input_dim}, {op.num_output}{bias})")
    return f"{module}({code.x})"


@MODULE_RULES.add("Permute")
def permute(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Permute)
    order = op.full_order(len(node.layer.bottom_shapes[0]))
    return f"{code.x}.permute({tuple_of(order)}).contiguous()"


@MODULE_RULES.add("ShuffleChannel")
def shuffle_channel(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(ShuffleChannel)
    groups = f"{code.x}.unflatten(1, ({op.group}, -1))"
    return f"{groups}.transpose(1, 2).flatten(1, 2)"


@MODULE_RULES.add("Reduction")
def reduction(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Reduction)
    rows = f"{code.x}.flatten({op.axis})"
    rows += {"ASUM": ".abs()", "SUMSQ": ".square()"}.get(op.operation, "")
    if op.operation == "MEAN":
        axis = axis_index(op.axis, len(node.layer.bottom_shapes[0]))
        sides = " * ".join(
            f"{code.x}.shape[{i}]" for i in range(axis, len(node.layer.bottom_shapes[0]))
        )
        return f"{rows}.sum(-1) * ({exact(op.coeff)} / ({sides}))"
    return f"{rows}.sum(-1)" + ("" if op.coeff == 1 else f" * {number(op.coeff)}")


@MODULE_RULES.add("Softmax")
def softmax(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Softmax)
    return f"torch.softmax({code.x}, dim={op.axis})"


@MODULE_RULES.add("ArgMax")
def argmax(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(ArgMax)
    top_k = code.helper("top_k")
    if op.axis is not None:
        return f"{top_k}({code.x}, {op.top_k}, {op.axis})[{0 if op.out_max_val else 1}]"
    one_axis = len(node.layer.bottom_shapes[0]) == 1
    items = f"{code.x}[:, None]" if one_axis else f"{code.x}.flatten(1)"
    found = f"{top_k}({items}, {op.top_k}, 1)"
    # as Caffe's top has it: (N, 1 or 2, k, 1, ...); indices come before values
    shape = (-1, *node.layer.top_shapes[0][1:])
    picked = f"torch.stack({found}[::-1], 1)" if op.out_max_val else f"{found}[1]"
    return f"{picked}.reshape({tuple_of(shape)})"
