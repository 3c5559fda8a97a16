"""The plan of an optimized net: its options, its graph and the rules that make its steps."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from caffe_port.errors import UsageError
from caffe_port.inference.engines import Engine, expect_installed
from caffe_port.net import Net
from caffe_port.plan import Node, Numbering, Plan
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops.filters import Window

Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Options:
    """The options of ``Net.optimized``; the defaults satisfy the parity rule.

    Attributes:
        fold: whether BatchNorm, Scale and Bias after a convolution become part of its filters.
        precision: of convolutions. 'bfloat16' and 'float16' do not satisfy the parity rule.
        compile: a backend of ``torch.compile``, such as 'inductor', or None. Compiled plans do not
            use oneDNN's packed filters; the first run of each shape compiles.
        engine: 'torch', 'onnxruntime', 'openvino', or 'auto': the fastest of those installed,
            measured once for a net, a size, a number of threads and a machine.
    Raises:
        UsageError: an unknown precision or engine, an engine that is not installed, or one that
            does not have the other options.
    Examples:
        >>> from caffe_port.inference import Options
        >>> Options(precision="bfloat16").reduced is None
        False
    """

    fold: bool = True
    precision: Precision = "float32"
    compile: str | None = None
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        if self.precision not in _DTYPES:
            known = ", ".join(_DTYPES)
            raise UsageError(f"precision is {self.precision!r}; expected one of {known}")
        expect_installed(self.engine)
        if self.engine not in ("auto", "torch") and not self.are_default:
            raise UsageError(
                f"fold, precision and compile are options of the engine torch, not {self.engine}"
            )

    @property
    def are_default(self) -> bool:
        """Whether any engine may compute."""
        return self.fold and self.precision == "float32" and self.compile is None

    @property
    def reduced(self) -> torch.dtype | None:
        """The dtype of convolutions if it is not the net's, else None."""
        return None if self.precision == "float32" else _DTYPES[self.precision]

    def check_device(self, device: torch.device, dtype: torch.dtype) -> None:
        """Checks that a device supports the precision.

        Raises:
            UsageError: it does not, or the net is not in float32.
        """
        if self.reduced is None:
            return
        if dtype != torch.float32:
            raise UsageError(f"precision {self.precision} is for float32 nets; this one is {dtype}")
        if not has_type(device, self.reduced):
            raise UsageError(f"{device} does not compute in {self.precision}; use 'float32'")


def has_type(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device computes convolutions in a reduced dtype."""
    if device.type == "cuda":
        return dtype == torch.float16 or torch.cuda.is_bf16_supported()
    if device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        name = "bf16" if dtype == torch.bfloat16 else "fp16"
        return bool(getattr(torch.ops.mkldnn, f"_is_mkldnn_{name}_supported")())
    return False


def can_pack(x: Tensor) -> bool:
    """Whether oneDNN can convolve this bottom with packed filters."""
    types = (torch.float32, torch.bfloat16, torch.float16)
    return x.device.type == "cpu" and x.dtype in types and _available()


def _available() -> bool:
    if not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:  # type: ignore[no-untyped-call]
        return False
    return hasattr(torch.ops.mkldnn, "_convolution_pointwise")


class Store:
    """Packed and folded parameters of a net, by their origin.

    The branches of a multi-scale net share one set of filters, also when packed: oneDNN's layout
    depends on the size of the bottom, and a second copy is kept only where the layout differs.
    """

    def __init__(self) -> None:
        self._packed: dict[Hashable, list[tuple[bytes, Tensor]]] = {}
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The result of ``make`` for this key, which is called once."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def packed(
        self, key: Hashable, weight: Tensor, window: Window, group: int, size: tuple[int, ...]
    ) -> Tensor:
        """A filter in the layout that is fastest for ``mkldnn._convolution_pointwise``.

        Args:
            key: of the filter's values.
            weight: (O, C / group, h, w), dense.
            size: the bottom's shape.
        """
        reordered: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
            weight, window.pad, window.stride, window.dilation, group, list(size)
        )
        layout = _layout(reordered)
        copies = self._packed.setdefault((key, weight.dtype), [])
        for known, tensor in copies:
            if known == layout:
                return tensor
        copies.append((layout, reordered))
        return reordered


def _layout(packed: Tensor) -> bytes:
    describe = getattr(torch.ops.mkldnn, "_get_mkldnn_serialized_md", None)
    return b"" if describe is None else describe(packed).numpy().tobytes()


@dataclass
class Graph:
    """The layers of a pass.

    Attributes:
        nodes: in order.
        fed: value of each blob that the caller gives.
        kept: value of each blob that is returned.
    """

    nodes: list[Node]
    fed: dict[str, int]
    kept: dict[str, int]
    _readers: dict[int, list[Node]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in self.nodes:
            for value in node.bottoms:
                self._readers.setdefault(value, []).append(node)

    def sole_reader(self, value: int) -> Node | None:
        """The only layer that reads a value; None for several or none, or if it is returned."""
        readers = self._readers.get(value, [])
        return readers[0] if len(readers) == 1 and value not in self.kept.values() else None


def make_graph(plan: Plan, fed: Iterable[str], is_identity: Callable[[LayerSpec], bool]) -> Graph:
    """The graph of a plan.

    Args:
        plan: what runs.
        fed: blobs that the caller gives.
        is_identity: whether a layer's tops equal its bottom, so that it need not run.
    """
    values = Numbering(fed)
    given, nodes = dict(values.current), []
    for step in plan.steps:
        if is_identity(step.layer):
            values.rename(step.layer)
        else:
            nodes.append(values.connect(step.layer))
    return Graph(nodes, given, {name: values.current[name] for name in plan.kept})


Run: TypeAlias = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Step:
    """One computation of a plan.

    Attributes:
        layer: the layer that it replaces, the first of several; for messages.
        run: tensors of ``bottoms`` -> tensors of ``tops``.
        bottoms, tops: values.
        fresh: whether the tops are in new memory that nothing else refers to.
        free: values that no later step reads.
    """

    layer: LayerSpec
    run: Run
    bottoms: tuple[int, ...]
    tops: tuple[int, ...]
    fresh: bool = False
    free: tuple[int, ...] = ()


Rule: TypeAlias = Callable[[Node, "Planner"], "Step | None"]
_RULES: dict[str, Rule] = {}


def rule(*types: str) -> Callable[[Rule], Rule]:
    """Decorator: registers a function as the rule of these layer types.

    The function returns the step for the layer and the layers that it absorbs, or None where the
    layer's own module has to run.
    """

    def decorate(made: Rule) -> Rule:
        _RULES.update(dict.fromkeys(types, made))
        return made

    return decorate


@dataclass
class Planner:
    """The state of planning, which rules read and change; steps are made in the layers' order."""

    net: Net
    graph: Graph
    options: Options
    store: Store
    _computed: set[int] = field(default_factory=set)
    _fresh: set[int] = field(default_factory=set)
    _absorbed: set[str] = field(default_factory=set)

    def steps(self) -> list[Step]:
        """All steps, in order."""
        self._computed.update(self.graph.fed.values())
        steps = []
        for node in self.graph.nodes:
            if node.layer.name in self._absorbed:
                continue
            step = self._step(node)
            self._computed.update(step.tops)
            self._fresh.update(step.tops if step.fresh else ())
            steps.append(step)
        return steps

    def _step(self, node: Node) -> Step:
        made = None
        if node.layer.type in _RULES and not has_hooks(self.net, node.layer.name):
            made = _RULES[node.layer.type](node, self)
        return self._as_is(node) if made is None else made

    def _as_is(self, node: Node) -> Step:
        layer, net = node.layer, self.net

        def run(*bottoms: Tensor) -> tuple[Tensor, ...]:
            # a layer's module may expect contiguous blobs
            plain = [self.full(x).contiguous() for x in bottoms]
            return tuple(net.placed(top, layer.op.kind) for top in net.run_layer(layer.name, plain))

        return Step(layer, run, node.bottoms, node.tops)

    def full(self, x: Tensor) -> Tensor:
        """A blob in the net's own precision."""
        return x.float() if x.dtype == self.options.reduced else x

    def sole_reader(self, value: int) -> Node | None:
        """The only layer that reads a value, if it can be absorbed."""
        reader = self.graph.sole_reader(value)
        if reader is None or len(reader.tops) != 1 or has_hooks(self.net, reader.layer.name):
            return None
        return reader

    def absorb(self, node: Node) -> int:
        """Makes a layer part of the current step; returns its top."""
        self._absorbed.add(node.layer.name)
        return node.tops[0]

    def is_computed(self, value: int) -> bool:
        """Whether a value is computed before the current step."""
        return value in self._computed

    def may_overwrite(self, value: int) -> bool:
        """Whether a step may write into a value's memory."""
        return value in self._fresh and self.graph.sole_reader(value) is not None


def has_hooks(net: Net, layer: str) -> bool:
    """Whether a layer has forward hooks; its module then runs unfused."""
    module = net.module(layer)
    return bool(module._forward_hooks or module._forward_pre_hooks)
