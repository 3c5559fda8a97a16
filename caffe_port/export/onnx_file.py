"""Writing a net as an ONNX file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

from caffe_port.errors import UsageError
from caffe_port.export.graph import ExportWarning, Graph, make_graph
from caffe_port.export.onnx_code import ONNX_RULES, OnnxCode
from caffe_port.files import write_bytes
from caffe_port.spec.ops import Shape

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

    from caffe_port.net import Net

OPSET = 18  # the first whose Resize takes the sizes of some axes only
IR_VERSION = 8
_LARGEST = 2**31 - 2**20  # a protobuf message ends at 2 GiB; a little is for the graph


def write_onnx(net: Net, path: str | os.PathLike[str]) -> None:
    """Writes a net as an ONNX file of opset 18, float32.

    Inputs and outputs have the names of their blobs, parameters are initializers
    `<layer>.<parameter>`. The batch may have any size where every layer keeps it as the first axis;
    all other sizes are those of the net's input.

    Args:
        net: of phase TEST.
        path: the file to make.
    Raises:
        UnsupportedLayerError: a type without a rule; nothing is written.
        LayerError: a layer whose options ONNX cannot express.
        UsageError: onnx is not installed, the net is of phase TRAIN, or it exceeds 2 GiB.
        OSError: the file cannot be written.
    Warns:
        ExportWarning: once for each layer that is left out, such as a loss.
    Examples:
        >>> import caffe_port as cp
        >>> net = cp.load("examples/shapes_voc/caffe_run/recording/net.prototxt")
        >>> cp.export.write_onnx(net, "largefov.onnx")
    """
    graph = make_graph(net.spec)
    model = onnx_model(graph, net)
    write_bytes(path, model.SerializeToString(deterministic=True))
    for message in graph.left_out:
        warnings.warn(message, ExportWarning, stacklevel=2)


def onnx_model(graph: Graph, net: Net) -> ModelProto:
    """The model of a graph, checked. Raises: see ``write_onnx``."""
    try:
        from onnx import checker, helper, numpy_helper
    except ImportError as error:
        raise UsageError("ONNX files need the package onnx: pip install onnx") from error
    from caffe_port import __version__

    code = _write_nodes(graph, net)
    total = sum(array.nbytes for array in code.initializers.values())
    if total > _LARGEST:
        raise UsageError(f"parameters of {total:,} bytes; an ONNX file holds less than 2 GiB")
    model = helper.make_model(
        helper.make_graph(
            code.nodes,
            graph.name or "net",
            _values(graph, graph.inputs, code.dynamic),
            _values(graph, graph.outputs.items(), code.dynamic),
            [numpy_helper.from_array(array, name) for name, array in code.initializers.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="caffe_port",
        producer_version=__version__,
    )
    checker.check_model(model)
    return model


def keeps_batch(graph: Graph) -> bool:
    """Whether another batch size changes the first axis of every blob and nothing else."""
    batches = {graph.shapes[blob][:1] for blob in graph.inputs}
    if len(batches) != 1 or batches == {()}:
        return False
    shapes = {blob: _one_more(graph.shapes[blob]) for blob in graph.inputs}
    for node in graph.nodes:
        op, bottoms = node.layer.op, [shapes[value] for value in node.bottoms]
        try:
            tops = op.top_shapes(bottoms)[: len(node.tops)]
            params = [param.shape for param in op.params(bottoms)]
        except ValueError:
            return False
        if params != [param.shape for param in node.layer.params]:
            return False
        for value, shape in zip(node.tops, tops, strict=True):
            if not shape or shape != _one_more(graph.shapes[value]):
                return False
            shapes[value] = shape
    return True


def _one_more(shape: Shape) -> Shape:
    return (shape[0] + 1, *shape[1:]) if shape else ()


def onnx_types() -> list[str]:
    """The layer types that can be written as ONNX, sorted."""
    return ONNX_RULES.types()


def _write_nodes(graph: Graph, net: Net) -> OnnxCode:
    ONNX_RULES.check(graph)
    code = OnnxCode(graph, net, keeps_batch(graph))
    for node in graph.nodes:
        code.start(node)
        code.finish(ONNX_RULES.apply(node, code))
    _name_outputs(graph, code)
    return code


def _name_outputs(graph: Graph, code: OnnxCode) -> None:
    """Gives outputs that are another value, such as a Dropout's, their own name."""
    from onnx import helper

    for blob, value in graph.outputs.items():
        name = code.name_of(value)
        if name != blob:
            code.nodes.append(helper.make_node("Identity", [name], [blob], name=f"output {blob}"))


def _values(
    graph: Graph, blobs: Iterable[str] | Iterable[tuple[str, str]], dynamic: bool
) -> list[ValueInfoProto]:
    from onnx import TensorProto, helper

    found = []
    for entry in blobs:
        blob, value = (entry, entry) if isinstance(entry, str) else entry
        shape: list[int | str] = list(graph.shapes[value])
        if dynamic:
            shape[0] = "batch"
        found.append(helper.make_tensor_value_info(blob, TensorProto.FLOAT, shape))
    return found
