"""Writing a net as an ONNX file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from caffe_port.errors import LayerError, UsageError, option
from caffe_port.export.graph import ExportWarning, Graph, make_graph
from caffe_port.export.onnx_code import ONNX_RULES, OnnxCode
from caffe_port.export.onnx_sizes import KINDS, FixedSizeError, FreeAxes, free_axes
from caffe_port.files import write_bytes

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto, ValueInfoProto

    from caffe_port.net import Net

OPSET = 18
OPSETS = range(13, 23)  # 13 is the first with Split's and Unsqueeze's present inputs
#: which sizes of the inputs may be free, the first that all layers allow
_CHOICES = (KINDS, ("steps", "height", "width"), ("batch", "steps", "streams"), ())
_LARGEST = 2**31 - 2**20  # a protobuf message is at most 2 GiB; a little is for the graph


def write_onnx(
    net: Net,
    path: str | os.PathLike[str],
    *,
    dynamic: bool = True,
    opset: int = OPSET,
) -> None:
    """Writes a net as an ONNX file, float32.

    Inputs and outputs have the names of their blobs, parameters are initializers
    `<layer>.<parameter>`.

    Args:
        net: of phase TEST.
        path: the file to make.
        dynamic: whether batch, height and width of the inputs are free wherever the net takes
            other sizes; False fixes all sizes to those of the net's input.
        opset: version of ONNX's operators, 13 to 22.
    Raises:
        UnsupportedLayerError: a type without a rule; nothing is written.
        LayerError: a layer whose options ONNX cannot express.
        UsageError: onnx is not installed or too old for the opset, the net is of phase TRAIN, or
            it exceeds 2 GiB.
        OSError: the file cannot be written.
    Warns:
        ExportWarning: once for each layer that is left out, such as a loss, for sizes that a layer
            fixes, and for a recurrent layer that keeps its state between passes in Caffe.
    Examples:
        >>> import caffe_port as cp
        >>> net = cp.load("examples/shapes_voc/caffe_run/recording/net.prototxt")
        >>> cp.export.write_onnx(net, "largefov.onnx")
    """
    graph = make_graph(net.spec)
    model, remarks = onnx_model(graph, net, dynamic, opset)
    write_bytes(path, model.SerializeToString(deterministic=True))
    for message in (*graph.left_out, *remarks):
        warnings.warn(message, ExportWarning, stacklevel=2)


def onnx_model(
    graph: Graph, net: Net, dynamic: bool = True, opset: int = OPSET
) -> tuple[ModelProto, list[str]]:
    """The model of a graph, checked, and remarks for the user. Raises: see ``write_onnx``."""
    try:
        from onnx import checker, defs, numpy_helper
    except ImportError as error:
        raise UsageError("ONNX files need the package onnx: pip install onnx") from error
    from caffe_port import __version__

    last = min(OPSETS[-1], defs.onnx_opset_version())
    if opset not in range(OPSETS[0], last + 1):
        raise UsageError(
            f"{option('opset', opset)}: expected {OPSETS[0]} to {last} with the installed onnx"
        )
    code, remarks = write_nodes(graph, net, dynamic, opset)
    total = sum(array.nbytes for array in code.initializers.values())
    if total > _LARGEST:
        raise UsageError(f"parameters of {total:,} bytes; an ONNX file holds less than 2 GiB")
    arrays = [numpy_helper.from_array(array, name) for name, array in code.initializers.items()]
    model = model_of(graph, code, arrays)
    model.producer_name, model.producer_version = "caffe_port", __version__
    checker.check_model(model)
    return model, remarks


def model_of(
    graph: Graph, code: OnnxCode, arrays: Sequence[TensorProto], inputs: Sequence[str] = ()
) -> ModelProto:
    """The model of nodes that are written.

    Args:
        graph: what was written.
        code: the nodes.
        arrays: the initializers.
        inputs: names of initializers that are inputs instead.
    """
    from onnx import TensorProto, helper

    imports = [helper.make_opsetid("", code.opset)]
    given = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, code.initializers[name].shape)
        for name in inputs
    ]
    return helper.make_model(
        helper.make_graph(
            code.nodes,
            graph.name or "net",
            [*_values(graph, ((blob, blob) for blob in graph.inputs), code), *given],
            _values(graph, graph.outputs.items(), code),
            arrays,
        ),
        opset_imports=imports,
        ir_version=helper.find_min_ir_version_for(imports),
    )


def onnx_types() -> list[str]:
    """The layer types that can be written as ONNX, sorted."""
    return ONNX_RULES.types()


def write_nodes(
    graph: Graph, net: Net, dynamic: bool = True, opset: int = OPSET
) -> tuple[OnnxCode, list[str]]:
    """All nodes; with fewer free sizes where a layer needs known ones. The second result is remarks
    for the user."""
    ONNX_RULES.check(graph)
    possible = _kinds(graph, free_axes(graph))
    reason = ""
    for kinds in _CHOICES if dynamic else ((),):
        code = OnnxCode(graph, net, free_axes(graph, kinds), opset)
        try:
            for node in graph.nodes:
                code.start(node)
                code.finish(ONNX_RULES.apply(node, code))
        except LayerError as error:
            if not kinds or not isinstance(error.__cause__, FixedSizeError):
                raise
            reason = f"layer '{node.layer.name}' ({node.layer.type}): {error.__cause__}"
            continue
        _name_outputs(graph, code)
        lost = [kind for kind in possible if kind not in kinds]
        verb = "is" if lost in (["batch"], ["height"], ["width"]) else "are"
        fixed = f"the inputs' {' and '.join(lost)} {verb} fixed: {reason}"
        return code, [*([fixed] if lost and reason else []), *code.remarks]
    raise AssertionError("with all sizes fixed no rule asks for fixed sizes")


def _kinds(graph: Graph, free: FreeAxes) -> list[str]:
    """Which sizes are free in some input."""
    found = {kind for blob in graph.inputs for kind in free[blob].values()}
    return [kind for kind in KINDS if kind in found]


def _name_outputs(graph: Graph, code: OnnxCode) -> None:
    """Gives outputs that are another value, such as a Dropout's, their own name."""
    from onnx import helper

    for blob, value in graph.outputs.items():
        name = code.name_of(value)
        if name != blob:
            code.nodes.append(helper.make_node("Identity", [name], [blob], name=f"output {blob}"))


def _values(graph: Graph, blobs: Iterable[tuple[str, str]], code: OnnxCode) -> list[ValueInfoProto]:
    """Inputs or outputs: an input's free axes are named as in ``KINDS``."""
    from onnx import TensorProto, helper

    found = []
    for blob, value in blobs:
        shape: list[int | str] = list(graph.shapes[value])
        for axis, kind in code.free[value].items():
            own = value in graph.inputs or (kind == "batch" and axis == 0)
            shape[axis] = kind if own else f"{blob}_{kind}"
        found.append(helper.make_tensor_value_info(blob, TensorProto.FLOAT, shape))
    return found
