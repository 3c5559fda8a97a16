"""A net as a stand-alone PyTorch module or as an ONNX file.

Layers do not know how they are exported: one table of rules per kind of output says how a type is
written.
"""

from __future__ import annotations

from collections.abc import Callable

from caffe_port.export.graph import ExportWarning, Node
from caffe_port.export.module import emit_module, module_keys
from caffe_port.export.module_code import MODULE_RULES, ModuleCode
from caffe_port.export.onnx_code import ONNX_RULES, OnnxCode
from caffe_port.export.onnx_file import write_onnx

ModuleRule = Callable[[Node, ModuleCode], str]
OnnxRule = Callable[[Node, OnnxCode], list[str]]

__all__ = [
    "ExportWarning",
    "ModuleCode",
    "Node",
    "OnnxCode",
    "emit_module",
    "module_keys",
    "register_module_rule",
    "register_onnx_rule",
    "write_onnx",
]


def register_module_rule(*types: str) -> Callable[[ModuleRule], ModuleRule]:
    """Function decorator: the function writes layers of these types into PyTorch modules.

    The function gets the layer (``node.layer`` is its LayerSpec) and a ``ModuleCode``. It returns
    the Python expression of the top, or of a tuple where there are several.

    Raises:
        ValueError: a type has such a rule already.
    Examples:
        >>> from caffe_port.export import register_module_rule
        >>> @register_module_rule("Half")
        ... def half(node, code):
        ...     return f"{code.x} / 2"
    """
    return MODULE_RULES.add(*types)


def register_onnx_rule(*types: str) -> Callable[[OnnxRule], OnnxRule]:
    """Function decorator: the function writes layers of these types into ONNX graphs.

    The function gets the layer (``node.layer`` is its LayerSpec) and an ``OnnxCode``, to which it
    adds nodes. It returns the names of the tops.

    Raises:
        ValueError: a type has such a rule already.
    Examples:
        >>> from caffe_port.export import register_onnx_rule
        >>> @register_onnx_rule("Half")
        ... def half(node, code):
        ...     return [code.op("Mul", code.x, code.constant(0.5))]
    """
    return ONNX_RULES.add(*types)
