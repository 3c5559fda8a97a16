"""What the rules of ONNX files write into."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from caffe_port.export.graph import FAMILIES, Graph, Node, Rules
from caffe_port.export.onnx_sizes import FreeAxes, Size
from caffe_port.spec.ops import Shape

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

    from caffe_port.net import Net

Array = npt.NDArray[Any]


class OnnxCode:
    """What the rules of layers write into: an ONNX graph.

    Args:
        graph: what is written.
        net: whose parameters.
        free: which axes may have any size.
        opset: version of the operators.
    Attributes:
        nodes: in order.
        initializers: by name.
        node: the layer that is written.
        remarks: for the user.
    """

    node: Node

    def __init__(self, graph: Graph, net: Net, free: FreeAxes, opset: int) -> None:
        self.free, self.opset = free, opset
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, Array] = {}
        self.remarks: list[str] = []
        self._net = net
        self._graph = graph
        self._names = {blob: blob for blob in graph.inputs}
        self._taken = set(graph.shapes)
        self._params: dict[tuple[tuple[str, int], Shape], str] = {}
        self._sizes: dict[str, list[Size]] = {}
        self._shape_nodes: dict[str, str] = {}

    def start(self, node: Node) -> None:
        """Begins the next layer."""
        self.node, self._first = node, len(self.nodes)
        self._sizes, self._shape_nodes = {}, {}

    def finish(self, results: Sequence[str]) -> None:
        """Names the results of a layer by its tops, except a result that an earlier layer made."""
        made = {name for node in self.nodes[self._first :] for name in node.output}
        renamed = {}
        for top, result in zip(self.node.tops, results, strict=True):
            if result in made and result not in renamed:
                renamed[result] = top
            self._names[top] = renamed.get(result, result)
        for written in self.nodes[self._first :]:
            written.output[:] = [renamed.get(name, name) for name in written.output]
            written.input[:] = [renamed.get(name, name) for name in written.input]

    def remark(self, text: str) -> None:
        """Adds a remark about the layer, of which the user is warned."""
        self.remarks.append(f"layer '{self.node.layer.name}' ({self.node.layer.type}): {text}")

    def name_of(self, value: str) -> str:
        """The ONNX name of a value that has been written."""
        return self._names[value]

    @property
    def bottoms(self) -> list[str]:
        """Names of the layer's bottoms."""
        return [self._names[value] for value in self.node.bottoms]

    @property
    def x(self) -> str:
        """Name of the layer's first bottom."""
        return self.bottoms[0]

    @property
    def shape(self) -> Shape:
        """Shape of the layer's first bottom, for the net's own input."""
        return self.node.layer.bottom_shapes[0]

    def sizes(self, bottom: int = 0) -> list[Size]:
        """The sizes of a bottom, of which some may be free."""
        value = self.node.bottoms[bottom]
        if value not in self._sizes:
            self._sizes[value] = self.sizes_of(
                self._names[value], self._graph.shapes[value], self.free[value]
            )
        return self._sizes[value]

    def sizes_of(self, name: str, shape: Shape, free: Collection[int]) -> list[Size]:
        """The sizes of what a node made.

        Args:
            name: of the node's output.
            shape: for the net's own inputs.
            free: axes whose size other inputs change.
        """
        return [
            Size(self, size, functools.partial(self._size, name, i) if i in free else None)
            for i, size in enumerate(shape)
        ]

    def _size(self, name: str, axis: int) -> str:
        if name not in self._shape_nodes:
            self._shape_nodes[name] = self.op("Shape", name)
        ends = [self.integers([n]) for n in (axis, axis + 1)]
        return self.op("Slice", self._shape_nodes[name], *ends)

    def op(self, type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Adds a node; the name of its first output."""
        return self.ops(type, *inputs, outputs=outputs, **attributes)[0]

    def ops(self, type: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Adds a node; the names of its outputs."""
        from onnx import helper

        layer = self.node.layer.name
        names = [self._unique(f"{layer}/{type}") for _ in range(outputs)]
        node = helper.make_node(type, inputs, names, name=names[0], **attributes)
        self.nodes.append(node)
        return names

    def body(
        self, name: str, inputs: Sequence[str], write: Callable[[], Sequence[str]]
    ) -> GraphProto:
        """The body of a Scan: float tensors, and what of the main graph is read.

        Args:
            name: of the graph.
            inputs: names for the body's inputs.
            write: adds the body's nodes, and gives the names of its outputs, all made by nodes.
        """
        from onnx import TensorProto, helper

        outer, self.nodes = self.nodes, []
        outputs = write()
        nodes, self.nodes = self.nodes, outer
        ins, outs = (
            [helper.make_tensor_value_info(value, TensorProto.FLOAT, None) for value in values]
            for values in (inputs, outputs)
        )
        return helper.make_graph(nodes, name, ins, outs)

    def constant(self, values: object, dtype: type = np.float32, name: str = "") -> str:
        """Adds an initializer, named `<layer>.<name>` if it is computed from parameters."""
        layer = self.node.layer.name
        name = self._unique(f"{layer}.{name}" if name else f"{layer}/constant")
        self.initializers[name] = np.asarray(values, dtype)
        return name

    def integers(self, values: Sequence[int]) -> str:
        """Adds an initializer of sizes or axes."""
        return self.constant(list(values), np.int64)

    def param(self, index: int, shape: Shape | None = None) -> str:
        """The initializer `<layer>.<parameter>`; a shared one is that of its owner.

        Args:
            index: Caffe's ``params[layer][index]``.
            shape: of the initializer; the parameter's own unless given.
        """
        layer = self.node.layer
        param = layer.params[index]
        wanted = param.shape if shape is None else shape
        key = (param.owner or (layer.name, index), wanted)
        if key not in self._params:
            name = self._unique(f"{layer.name}.{param.name}")
            self.initializers[name] = self.param_values(index).reshape(wanted)
            self._params[key] = name
        return self._params[key]

    def param_values(self, index: int) -> Array:
        """A parameter as float32; a view of it where it has that type."""
        layer = self.node.layer
        blob = self._net.layer_params(layer.name)[index].detach().cpu().contiguous()
        values: Array = blob.view(layer.params[index].shape).numpy().astype(np.float32, copy=False)
        return values

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """Reshapes; -1 is what is left."""
        return self.op("Reshape", x, self.integers(shape))

    def reduce(self, how: str, x: str, axes: Sequence[int], keepdims: bool = True) -> str:
        """Adds ReduceMean, ReduceSumSquare and the like, whose axes were an attribute once."""
        if self.opset < 18 and how != "Sum":
            return self.op(f"Reduce{how}", x, axes=list(axes), keepdims=int(keepdims))
        return self.op(f"Reduce{how}", x, self.integers(axes), keepdims=int(keepdims))

    def _unique(self, name: str) -> str:
        count, text = 1, name
        while text in self._taken:
            count += 1
            text = f"{name}_{count}"
        self._taken.add(text)
        return text


#: type -> (node, code) -> names of the tops
ONNX_RULES: Rules[OnnxCode, list[str]] = Rules(
    "ONNX",
    "Cut the layer out of the prototxt, write a PyTorch module (--emit-module, emit_module) where "
    "that can be done, or write a rule for it (caffe_port.export.register_onnx_rule).",
    [f"caffe_port.export.onnx_{family}" for family in (*FAMILIES, "recurrent")],
)
