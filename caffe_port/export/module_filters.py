"""Emitted modules: convolutions, fully connected and recurrent layers, pooling and resizing."""

from __future__ import annotations

import math

from caffe_port.export.graph import Node
from caffe_port.export.module_code import MODULE_RULES, ModuleCode, decimal, exact, number, sizes
from caffe_port.layers.resizing import taps
from caffe_port.spec.ops import recurrent
from caffe_port.spec.ops._base import axis_index
from caffe_port.spec.ops.crf import DomainTransform
from caffe_port.spec.ops.filters import Convolution, Filtered, Im2col, InnerProduct
from caffe_port.spec.ops.pooling import SPP, Pooling
from caffe_port.spec.ops.resampling import Crop, Interp, Padding, Unpooling, Upsample
from caffe_port.spec.ops.resizing import Reorg, Resized


@MODULE_RULES.add("Convolution", "ConvolutionDepthwise", "Deconvolution", "DepthwiseConvolution")
def filtered(node: Node, code: ModuleCode) -> str:
    """nn.Conv1d to 3d and nn.ConvTranspose1d to 3d, each bottom through the same module."""
    op, shape = node.layer.options(Filtered), node.layer.bottom_shapes[0]
    window, axis = op.window(shape), op.channel_axis(shape)
    axes = len(window.kernel)
    if axes == 0:
        raise ValueError("no spatial axes; an InnerProduct computes the same")
    arguments = [str(shape[axis]), str(op.num_output), f"kernel_size={sizes(window.kernel)}"]
    for name, values, usual in (
        ("stride", window.stride, 1), ("padding", window.pad, 0), ("dilation", window.dilation, 1),
    ):  # fmt: skip
        if set(values) != {usual}:
            arguments.append(f"{name}={sizes(values)}")
    if op.group != 1:
        arguments.append(f"groups={op.group}")
    if not op.bias:
        arguments.append("bias=False")
    kind = "Conv" if isinstance(op, Convolution) else "ConvTranspose"
    module = code.submodule(node, f"nn.{kind}{axes}d({', '.join(arguments)})")
    bottoms = code.bottoms
    over = any(window.overhang(size, i) for i, size in enumerate(shape[axis + 1 :]))
    if over and kind == "Conv":
        numbers = ", ".join(str(list(n)) for n in (window.kernel, window.pad, window.dilation))
        bottoms = [f"{code.helper('cover')}({bottom}, {numbers})" for bottom in bottoms]
    return ", ".join(_run(module, bottom, axis) for bottom in bottoms)


def _run(module: str, x: str, axis: int) -> str:
    """A call with the axes before the channel axis as one batch axis."""
    if axis == 1:
        return f"{module}({x})"
    if axis == 0:
        return f"{module}({x}.unsqueeze(0)).squeeze(0)"
    return f"{module}({x}.flatten(0, {axis - 1})).unflatten(0, {x}.shape[:{axis}])"


@MODULE_RULES.add("InnerProduct")
def inner_product(node: Node, code: ModuleCode) -> str:
    op, shape = node.layer.options(InnerProduct), node.layer.bottom_shapes[0]
    axis = axis_index(op.axis, len(shape))
    length = node.layer.params[0].shape[0 if op.transpose else 1]
    name = code.helper("InnerProduct") if op.transpose else "nn.Linear"
    bias = "" if op.bias else ", bias=False"
    module = code.submodule(node, f"{name}({length}, {op.num_output}{bias})")
    flat = code.x if axis == len(shape) - 1 else f"{code.x}.flatten({axis})"
    return f"{module}({flat})"


@MODULE_RULES.add("Pooling")
def pooling(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Pooling)
    masked = len(node.tops) == 2
    if op.kernel is None and not masked:
        if op.method == "MAX":
            return f"{code.x}.amax((2, 3), keepdim=True)"
        return f"F.avg_pool2d({code.x}, {code.x}.shape[2:])"
    kernel = op.kernel or node.layer.bottom_shapes[0][2:]
    pairs = list(zip(kernel, op.stride, op.pad, strict=True))
    # else torch refuses the padding, or drops windows that Caffe keeps
    if not masked and all(2 * pad <= k and stride <= k for k, stride, pad in pairs):
        name = "F.max_pool2d" if op.method == "MAX" else "F.avg_pool2d"
        padding = f", padding={sizes(op.pad)}" if max(op.pad) else ""
        ceil = ", ceil_mode=True" if op.ceil else ""
        return f"{name}({code.x}, {sizes(kernel)}, stride={sizes(op.stride)}{padding}{ceil})"
    name = code.helper("max_pool" if op.method == "MAX" else "ave_pool")
    numbers = ", ".join(str(list(values)) for values in (kernel, op.stride, op.pad))
    call = f"{name}({code.x}, {numbers}{'' if op.ceil else ', ceil=False'})"
    return call if masked or op.method == "AVE" else f"{call}[0]"


@MODULE_RULES.add("SPP")
def spp(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(SPP)
    return f"{code.helper('spp')}({code.x}, {op.pyramid_height}, {op.method == 'AVE'})"


@MODULE_RULES.add("Upsample")
def upsample(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Upsample)
    if len(code.bottoms) == 1:
        repeated = "".join(f".repeat_interleave({op.scale[i]}, {2 + i})" for i in (0, 1))
        ends = ", ".join(f": -{less}" if less else ":" for less in op.less)
        return f"{code.x}{repeated}" + (f"[:, :, {ends}]" if any(op.less) else "")
    sides = [str(side) for side in op.size or ()]
    for i, (scale, less) in enumerate(zip(op.scale, op.less, strict=True)):
        if op.size is None:
            sides.append(f"{code.x}.shape[{2 + i}] * {scale}" + (f" - {less}" if less else ""))
    return f"{code.helper('unpool')}({', '.join([*code.bottoms, *sides])})"


@MODULE_RULES.add("Im2col")
def im2col(node: Node, code: ModuleCode) -> str:
    op, shape = node.layer.options(Im2col), node.layer.bottom_shapes[0]
    w, axis = op.window(shape), op.channel_axis(shape)
    numbers = [str(list(values)) for values in (w.kernel, w.stride, w.pad, w.dilation)]
    more = "" if axis == 1 else f", {axis}"
    return f"{code.helper('im2col')}({code.x}, {', '.join(numbers)}{more})"


@MODULE_RULES.add("Interp")
def interp(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Interp)
    arguments = [code.x]
    if op.nearest:
        raise ValueError("type: NearestNeighbor, whose positions are OpenCV's")
    if len(code.bottoms) == 2:
        arguments += [
            f"{name}={code.bottoms[1]}.shape[{i}]" for i, name in ((2, "height"), (3, "width"))
        ]
    elif (op.zoom_factor is None) == (op.shrink_factor is None) and None not in (
        op.height,
        op.width,
    ):
        arguments += [f"height={op.height}", f"width={op.width}"]
    else:
        if op.shrink_factor is not None:
            arguments.append(f"shrink={op.shrink_factor}")
        if op.zoom_factor is not None:
            arguments.append(f"zoom={op.zoom_factor}")
    if op.pad_beg or op.pad_end:
        arguments.append(f"crop=({-op.pad_beg}, {-op.pad_end})")
    return f"{code.helper('interp')}({', '.join(arguments)})"


@MODULE_RULES.add("ResizeBilinear", "ResizeNearestNeighbor")
def resized(node: Node, code: ModuleCode) -> str:
    op, top = node.layer.options(Resized), code.x
    bottom, wanted = node.layer.bottom_shapes[0], node.layer.top_shapes[0]
    for axis in (op.first + 1, op.first):
        first, second, share = taps(op, bottom[axis], wanted[axis])
        top = f"{code.helper('tapped')}({top}, {axis}, {first}, {second}, {share})"
    return top


@MODULE_RULES.add("Reorg")
def reorg(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Reorg)
    return f"{code.helper('reorg')}({code.x}, {op.stride}{', reverse=True' if op.reverse else ''})"


@MODULE_RULES.add("Padding")
def padding(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(Padding)
    return f"F.pad({code.x}, {[op.before, op.after] * 2})"


@MODULE_RULES.add("Unpooling")
def unpooling(node: Node, code: ModuleCode) -> str:
    op = check_unpooling(node)
    return f"{code.helper('unpool')}({', '.join(code.bottoms)}, {op.size[0]}, {op.size[1]})"


def check_unpooling(node: Node) -> Unpooling:
    """The options of an Unpooling. Raises ValueError for one that has no mask."""
    op = node.layer.options(Unpooling)
    if op.method != "MAX" or len(node.bottoms) < 2:
        raise ValueError(f"unpool: {op.method} without a mask; MAX with a mask can be written")
    return op


@MODULE_RULES.add("AutoCrop", "Crop")
def crop(node: Node, code: ModuleCode) -> str:
    op, shapes = node.layer.options(Crop), node.layer.bottom_shapes
    x, reference = code.bottoms
    start = axis_index(op.axis, len(shapes[0]))
    ranges = [":"] * start
    for axis, (offset, _) in list(enumerate(op.ranges(*shapes)))[start:]:
        size = f"{reference}.shape[{axis}]"
        ranges.append(f"{offset} : {offset} + {size}" if offset else f": {size}")
    return f"{x}[{', '.join(ranges)}]"


@MODULE_RULES.add("LSTM", "RNN")
def recurrent_layer(node: Node, code: ModuleCode) -> str:
    """Exposed states are bottoms and tops; others the module keeps."""
    op = node.layer.options(recurrent.Recurrent)
    size, static_size = op.input_sizes(node.layer.bottom_shapes)
    static = f", static={static_size}" if op.static else ""
    code.keeps_state = not op.expose_hidden
    name = code.helper(node.layer.type)
    module = code.submodule(node, f"{name}({size}, {op.hidden}{static})")
    if not op.expose_hidden:
        return f"{module}({', '.join(code.bottoms)})"
    inputs = [*code.bottoms[:2], code.bottoms[2] if op.static else "None"]
    return f"{module}.run({', '.join([*inputs, *code.bottoms[2 + op.static :]])})"


@MODULE_RULES.add("LSTMUnit")
def lstm_unit(node: Node, code: ModuleCode) -> str:
    return f"{code.helper('lstm_unit')}({', '.join(code.bottoms)})"


def scales_of(op: DomainTransform) -> list[float]:
    """Of each iteration the factor of a weight's exponent."""
    return [-math.sqrt(2) / op.sigma(iteration) for iteration in range(op.num_iter)]


@MODULE_RULES.add("DomainTransform")
def domain_transform(node: Node, code: ModuleCode) -> str:
    op = node.layer.options(DomainTransform)
    scales = f"[{', '.join(decimal(exact(scale)) for scale in scales_of(op))}]"
    ratio = decimal(exact(op.spatial_sigma / op.range_sigma))
    options = f"{scales}, {ratio}, {decimal(number(op.min_weight))}"
    return f"{code.helper('domain_transform')}({', '.join(code.bottoms)}, {options})"
