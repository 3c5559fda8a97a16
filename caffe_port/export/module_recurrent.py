"""Emitted modules: recurrent layers and the domain transform."""

from __future__ import annotations

import math

from caffe_port.export.graph import Node
from caffe_port.export.module_code import MODULE_RULES, ModuleCode, decimal, exact, number
from caffe_port.spec.ops import recurrent
from caffe_port.spec.ops.crf import DomainTransform


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
