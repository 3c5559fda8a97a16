"""ONNX: recurrent layers and the domain transform."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from caffe_port.export.graph import Node
from caffe_port.export.module_filters import scales_of
from caffe_port.export.onnx_code import ONNX_RULES, OnnxCode
from caffe_port.export.onnx_neurons import times
from caffe_port.export.onnx_sizes import reshape, vector
from caffe_port.spec.ops import recurrent
from caffe_port.spec.ops.crf import DomainTransform

_FLOAT = 1  # onnx.TensorProto.FLOAT


#: (states, share, cont of one step) -> the new states and the output; it adds nodes
Step = Callable[[list[str], str, str], tuple[list[str], str]]


def _recur(code: OnnxCode, op: recurrent.Recurrent, gates: int, step: Step) -> list[str]:
    """All steps: a Scan where their number is free, else unrolled, which more engines take."""
    shares, conts = _shares(code, op, gates)
    states = _states(code, op)
    if code.sizes()[0].is_free:
        *last, top = _scan(code, op, states, [shares, conts], step)
    else:
        last, top = _unroll(code, states, [shares, conts], step)
    exposed = last if op.expose_hidden else []
    return [top, *(code.op("Unsqueeze", state, code.integers([0])) for state in exposed)]


def _shares(code: OnnxCode, op: recurrent.Recurrent, gates: int) -> tuple[str, str]:
    """Each step's share of the inputs (T, N, gates) and cont (T, N, 1)."""
    steps, streams = code.sizes()[:2]
    size, _ = op.input_sizes(code.node.layer.bottom_shapes)
    rows = code.op("Gemm", code.reshape(code.x, [-1, size]), code.param(0), code.param(1), transB=1)
    shares = reshape(code, rows, [steps, streams, gates])
    if op.static:
        flat = code.op("Flatten", code.bottoms[2], axis=1)
        shares = code.op("Add", shares, code.op("Gemm", flat, code.param(2), transB=1))
    return shares, code.op("Unsqueeze", code.bottoms[1], code.integers([2]))


def _states(code: OnnxCode, op: recurrent.Recurrent) -> list[str]:
    """The state before the first step, (N, hidden) each."""
    if op.expose_hidden:
        exposed = code.bottoms[2 + op.static :]
        return [code.op("Squeeze", state, code.integers([0])) for state in exposed]
    code.remark(
        "every run starts from a state of zeros; Caffe continues from the previous run where the "
        "first cont is not 0. With expose_hidden the state is an input and an output"
    )
    return [code.op("ConstantOfShape", vector(code, [code.sizes()[1], op.hidden]))] * op.states


def _scan(
    code: OnnxCode, op: recurrent.Recurrent, states: list[str], steps: list[str], step: Step
) -> list[str]:
    before = [f"{code.node.layer.name}/{name}" for name in ("h", "c")[: op.states]]
    share, cont = (f"{code.node.layer.name}/{name}" for name in ("share", "cont"))

    def write() -> list[str]:
        after, output = step(before, share, cont)
        return [*after, code.op("Identity", output)]

    body = code.body("step", [*before, share, cont], write)
    return code.ops("Scan", *states, *steps, outputs=op.states + 1, body=body, num_scan_inputs=2)


def _unroll(
    code: OnnxCode, states: list[str], steps: list[str], step: Step
) -> tuple[list[str], str]:
    count, zero = code.shape[0], code.integers([0])
    ones = code.integers([1] * count)
    parts = [code.ops("Split", x, ones, outputs=count, axis=0) for x in steps]
    outputs = []
    for share, cont in zip(*parts, strict=True):
        now = [code.op("Squeeze", x, zero) for x in (share, cont)]
        states, output = step(states, *now)
        outputs.append(code.op("Unsqueeze", output, zero))
    return states, outputs[0] if count == 1 else code.op("Concat", *outputs, axis=0)


@ONNX_RULES.add("LSTM")
def lstm(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(recurrent.LSTM)
    weight = code.param(2 + op.static)

    def step(states: list[str], share: str, cont: str) -> tuple[list[str], str]:
        h, c = states
        hidden = code.op("Gemm", code.op("Mul", h, cont), weight, transB=1)
        c, h = _unit(code, c, code.op("Add", hidden, share), cont, op.hidden, 1)
        return [h, c], h

    return _recur(code, op, 4 * op.hidden, step)


@ONNX_RULES.add("RNN")
def rnn(node: Node, code: OnnxCode) -> list[str]:
    op = node.layer.options(recurrent.RNN)
    of_h, of_output, bias = (code.param(i + op.static) for i in (2, 3, 4))

    def step(states: list[str], share: str, cont: str) -> tuple[list[str], str]:
        hidden = code.op("Gemm", code.op("Mul", states[0], cont), of_h, transB=1)
        h = code.op("Tanh", code.op("Add", hidden, share))
        return [h], code.op("Tanh", code.op("Gemm", h, of_output, bias, transB=1))

    return _recur(code, op, op.hidden, step)


@ONNX_RULES.add("LSTMUnit")
def lstm_unit(node: Node, code: OnnxCode) -> list[str]:
    cell, gates, cont = code.bottoms
    cont = code.op("Unsqueeze", cont, code.integers([2]))
    return [*_unit(code, cell, gates, cont, code.shape[2], 2)]


def _unit(
    code: OnnxCode, cell: str, gates: str, cont: str, hidden: int, axis: int
) -> tuple[str, str]:
    """One step: the cell and the output."""
    quarters = code.ops("Split", gates, code.integers([hidden] * 4), outputs=4, axis=axis)
    i, f, o = (code.op("Sigmoid", quarter) for quarter in quarters[:3])
    kept = code.op("Mul", code.op("Mul", cont, f), cell)
    c = code.op("Add", kept, code.op("Mul", i, code.op("Tanh", quarters[3])))
    return c, code.op("Mul", o, code.op("Tanh", c))


@ONNX_RULES.add("DomainTransform")
def domain_transform(node: Node, code: OnnxCode) -> list[str]:
    """Two Scans per axis and iteration.

    A weight of 0 leaves a value as it is: it starts a line and is all that there is outside of an
    item's real area.
    """
    op, x = node.layer.options(DomainTransform), code.x
    inside = _inside(code)
    ratio = op.spatial_sigma / op.range_sigma
    distance = code.op("Add", times(code, code.bottoms[1], ratio), code.constant(1.0))
    for scale in scales_of(op):
        weight = code.op("Exp", times(code, distance, scale))
        weight = code.op("Max", weight, code.constant(op.min_weight))
        weight = code.op("Mul", code.op("Min", weight, code.constant(1.0)), inside)
        for axis in (3, 2):
            x = _sweep(code, x, weight, axis)
    return [x]


def _inside(code: OnnxCode) -> str:
    """1 in the real area of each item, else 0: (N, 1, H, W)."""
    sizes = code.op("Flatten", code.bottoms[2], axis=1)
    sides = []
    for i, size in enumerate(code.sizes()[2:]):
        side = code.op("Slice", sizes, *(code.integers([n]) for n in (i, i + 1, 1)))
        first, step = (code.constant(n, np.int64) for n in (0, 1))
        stop = code.op("Squeeze", size.vector, code.integers([0]))
        place = code.op("Cast", code.op("Range", first, stop, step), to=_FLOAT)
        below = code.op("Less", place, code.op("Floor", side))  # Caffe cuts fractions off too
        spread = code.op("Unsqueeze", below, code.integers([1, 3 - i]))
        sides.append(code.op("Cast", spread, to=_FLOAT))
    return code.op("Mul", *sides)


def _sweep(code: OnnxCode, x: str, weight: str, axis: int) -> str:
    """Along an axis, then back with each weight at the place before its own."""
    line = [size for i, size in enumerate(code.sizes()) if i != axis]
    start = code.op("ConstantOfShape", vector(code, line))
    later = code.op("Slice", weight, *(code.integers([n]) for n in (1, 2**31 - 1, axis)))
    names = [f"{code.node.layer.name}/{name}" for name in ("before", "line", "weight")]
    for back in (0, 1):
        pads = [0] * 8
        pads[4 * back + axis] = 1
        weights = code.op("Pad", later, code.integers(pads), code.constant(0.0), mode="constant")
        _, x = code.ops(
            "Scan", start, x, weights, outputs=2, num_scan_inputs=2,
            body=code.body("mixing", names, lambda: _mixing(code, *names)),
            scan_input_axes=[axis, axis], scan_output_axes=[axis],
            scan_input_directions=[back, back], scan_output_directions=[back],
        )  # fmt: skip
    return x


def _mixing(code: OnnxCode, before: str, line: str, weight: str) -> list[str]:
    """A line is mixed with the one before."""
    share = code.op("Mul", weight, code.op("Sub", before, line))
    mixed = code.op("Add", line, share)
    return [mixed, code.op("Identity", mixed)]
