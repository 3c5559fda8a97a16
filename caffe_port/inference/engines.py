"""ONNX Runtime and OpenVINO as engines of an optimized net.

They get the graph that ``export`` writes as ONNX, in memory and without its parameters, which they
read where the net has them.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import queue
import sys
from collections.abc import Callable, Collection, Mapping
from importlib import metadata
from importlib.util import find_spec
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from caffe_port.errors import CaffePortError, UsageError
from caffe_port.export.graph import Graph, make_graph
from caffe_port.export.onnx_code import OnnxCode
from caffe_port.export.onnx_file import model_of, write_nodes
from caffe_port.export.onnx_sizes import shapes_for
from caffe_port.net import Net
from caffe_port.plan import Plan
from caffe_port.spec.ops import Shape

Engine: TypeAlias = Literal["auto", "torch", "onnxruntime", "openvino"]
"""The name of what computes an optimized net; ``auto`` is the fastest that is installed."""
ENGINES: tuple[Engine, ...] = ("auto", "torch", "onnxruntime", "openvino")
"""All values of ``Engine``."""
#: Parameters with fewer numbers are part of the graph: OpenVINO reads sizes and axes there.
_SMALL = 256
_ISA_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # limit the instruction set
BELOW_AVX2 = {"SSE41", "AVX"}  # their values
Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]


class UnsuitableError(Exception):
    """An engine cannot compute what is asked for; torch can."""


def installed() -> list[Engine]:
    """The engines that can be used, torch first."""
    other: tuple[Engine, ...] = ("onnxruntime", "openvino")
    have_onnx = find_spec("onnx") is not None
    return ["torch", *(name for name in other if have_onnx and find_spec(name) is not None)]


def expect_installed(engine: str) -> None:
    """Checks the name of an engine.

    Raises:
        UsageError: there is no such engine, or it is not installed.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine is {engine!r}; expected one of {', '.join(ENGINES)}")
    if engine != "auto" and engine not in installed():
        raise UsageError(
            f"the engine {engine} needs the packages onnx and {engine}: "
            "pip install 'caffe-port[engines]'"
        )


def version_of(engine: Engine) -> str:
    """The engine's name and, as versions differ in their last digits, its version."""
    return engine if engine in ("auto", "torch") else f"{engine} {metadata.version(engine)}"


class _Runtime(Protocol):
    """A compiled graph; several threads may call it concurrently."""

    def __call__(self, inputs: Arrays) -> list[npt.NDArray[Any]]: ...


class Session:
    """A forward pass in another engine, for a number of threads and for any size it takes.

    Args:
        net: of phase TEST, float32, on the CPU. Its parameters must not change.
        plan: of the pass.
        fed: the blobs that the caller gives.
        engine: 'onnxruntime' or 'openvino'.
        threads: that compute one pass.
    Raises:
        UnsuitableError: the pass cannot be written as an ONNX graph.
    """

    def __init__(
        self, net: Net, plan: Plan, fed: Collection[str], engine: Engine, threads: int
    ) -> None:
        self._graph = _graph_of(net, plan, fed)
        try:
            code, remarks = write_nodes(self._graph, net)
        except CaffePortError as error:
            raise UnsuitableError(str(error)) from error
        if code.remarks:
            raise UnsuitableError(code.remarks[0])
        self._fixed = "".join(remarks)
        self._free = {name: frozenset(code.free[name]) for name in self._graph.inputs}
        self._shapes: dict[tuple[Shape, ...], dict[str, Shape]] = {}
        make = _OnnxRuntime if engine == "onnxruntime" else _OpenVINO
        self._run: _Runtime = make(self._graph, code, threads)

    def run(self, fed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Computes the kept blobs, contiguous.

        Raises:
            UnsuitableError: inputs that the graph does not take, or that the engine gives another
                size than Caffe.
        """
        inputs = {name: fed[name].detach() for name in self._graph.inputs}
        expected = self._expected(inputs)
        arrays = self._run({name: x.contiguous().numpy() for name, x in inputs.items()})
        found = dict(zip(self._graph.outputs, arrays, strict=True))
        for blob, array in found.items():
            if array.shape != expected[blob] or array.dtype != np.float32:
                raise UnsuitableError(
                    f"its '{blob}' is {array.shape} {array.dtype}, not {expected[blob]} float32"
                )
        return {blob: torch.from_numpy(array) for blob, array in found.items()}

    def _expected(self, inputs: Mapping[str, Tensor]) -> dict[str, Shape]:
        """The shape of each output."""
        key = tuple(tuple(x.shape) for x in inputs.values())
        if any(x.dtype != torch.float32 or x.device.type != "cpu" for x in inputs.values()):
            raise UnsuitableError("its inputs are not float32 on the CPU")
        if key not in self._shapes:
            for name, shape in zip(inputs, key, strict=True):
                own = self._graph.shapes[name]
                fixed = (i for i in range(len(own)) if i not in self._free[name])
                if len(own) != len(shape) or any(shape[i] != own[i] for i in fixed):
                    raise UnsuitableError(f"'{name}' is {shape}, not {own}. {self._fixed}")
            shapes = shapes_for(self._graph, dict(zip(inputs, key, strict=True)))
            if not shapes or any(0 in shape for shape in shapes.values()):
                raise UnsuitableError(f"the net takes no inputs of {key}")
            outputs = self._graph.outputs.items()
            self._shapes[key] = {blob: shapes[value] for blob, value in outputs}
        return self._shapes[key]


def _graph_of(net: Net, plan: Plan, fed: Collection[str]) -> Graph:
    """The graph of a plan, if it has exactly the plan's layers."""
    try:
        graph = make_graph(net.spec, plan.kept)
    except UsageError as error:
        raise UnsuitableError(str(error)) from error
    planned = {step.layer.name for step in plan.steps if step.layer.type != "Split"}
    if planned != {node.layer.name for node in graph.nodes}:
        raise UnsuitableError("some of its layers have no ONNX form")
    made = {value for node in graph.nodes for value in node.tops}
    if not set(graph.inputs) <= set(fed) or not made.issuperset(graph.outputs.values()):
        raise UnsuitableError("a kept blob is not computed from the inputs alone")
    if any(node.layer.type == "Filter" for node in graph.nodes):
        raise UnsuitableError("how many items a Filter layer selects depends on the data")
    return graph


@functools.cache
def onnxruntime_module() -> Any:
    """ONNX Runtime without its telemetry, with an arena of memory that its sessions share.

    Since 1.29 it sends events to its maker and writes a database into the user's cache folder; the
    variable must be set before the import. The default arena grows by powers of two and keeps what
    is left over; this one grows by what is asked for.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as ort

    ort.disable_telemetry_events()  # where another part of the program imported it before
    with contextlib.suppress(Exception):  # the program has registered its own, or it is an old one
        memory = ort.OrtMemoryInfo(
            "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
        )
        ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"arena_extend_strategy": 1}))
    return ort


class _OnnxRuntime:
    """A session of ONNX Runtime."""

    def __init__(self, graph: Graph, code: OnnxCode, threads: int) -> None:
        from onnx import TensorProto, numpy_helper

        ort = onnxruntime_module()

        large, small = _divided(code.initializers)
        protos = [numpy_helper.from_array(array, name) for name, array in small.items()]
        for name, array in large.items():
            proto = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=array.shape)
            proto.data_location = TensorProto.EXTERNAL
            proto.external_data.add(key="location", value="memory")
            protos.append(proto)
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4  # errors are exceptions
        # a thread that spins takes the time of others, such as those of the CRF
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.use_env_allocators", "1")
        # a plan of all blobs for each size would be a second copy of them
        options.enable_mem_pattern = False
        self._large = large  # the values below refer to this memory
        values = [ort.OrtValue.ortvalue_from_numpy(array) for array in large.values()]
        options.add_external_initializers(list(large), values)
        content = model_of(graph, code, protos).SerializeToString()
        self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return_freed_memory()  # optimizing the graph copied the filters twice
        self._outputs = list(graph.outputs)
        self._shrinking = ort.RunOptions()
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._shapes: list[Shape] = []

    def __call__(self, inputs: Arrays) -> list[npt.NDArray[Any]]:
        # the arena would keep the blobs of every size
        shapes = [array.shape for array in inputs.values()]
        options = self._shrinking if shapes != self._shapes else None
        self._shapes = shapes
        found: list[npt.NDArray[Any]] = self._session.run(self._outputs, dict(inputs), options)
        return found


def return_freed_memory() -> None:
    """Gives the system what this process has freed, where the C library keeps it."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@functools.cache
def openvino_module() -> Any:
    """OpenVINO without its telemetry.

    Its import sends an event to its maker and writes an identifier into the user's home, unless
    the package ``openvino_telemetry`` is absent.
    """
    absent = {} if "openvino_telemetry" in sys.modules else {"openvino_telemetry": None}
    sys.modules.update(absent)  # type: ignore[arg-type]
    try:
        import openvino
    finally:
        for name in absent:
            del sys.modules[name]
    return openvino


@functools.cache
def openvino_core() -> Any:
    """OpenVINO's Core, the only one of this process, which is never destroyed.

    A Core gives its thread another stack for signals, and when it is destroyed the one before.
    Where several are destroyed in another order than the reverse, that is the freed stack of one of
    them, and the next signal, such as Ctrl-C, ends the process without a message.
    """
    return openvino_module().Core()


def isa_limit() -> tuple[str, str]:
    """The environment's limit of oneDNN's instructions: the variable and its value, or nothing."""
    set_ones = ((name, os.environ[name]) for name in _ISA_LIMITS if os.environ.get(name))
    return next(set_ones, ("", ""))


def _expect_no_crash(compiled: Any = None) -> None:
    """Raises UnsuitableError where OpenVINO would end the process.

    Some kernels of 2026.4 are chosen by the processor, and run by the limit of instructions that
    the environment sets: MVN with any limit, convolutions with one below AVX2.
    """
    variable, value = isa_limit()
    if not variable:
        return
    nodes = compiled.get_runtime_model().get_ops() if compiled is not None else []
    mvn = any(node.get_rt_info()["layerType"].astype(str) == "MVN" for node in nodes)
    if mvn or value.upper() in BELOW_AVX2:
        message = f"OpenVINO would end the process with {variable}={value}; unset {variable}"
        raise UnsuitableError(message)


class _OpenVINO:
    """Compiled models of OpenVINO, one for each thread that calls at the same time.

    Concurrent requests to one model would wait for each other.
    """

    def __init__(self, graph: Graph, code: OnnxCode, threads: int) -> None:
        from onnx import numpy_helper

        _expect_no_crash()
        ov, core = openvino_module(), openvino_core()
        large, small = _divided(code.initializers)

        protos = [numpy_helper.from_array(array, name) for name, array in small.items()]
        content = model_of(graph, code, protos, list(large)).SerializeToString()
        model = core.read_model(content)
        for parameter in list(model.get_parameters()):
            name = parameter.get_friendly_name()
            if name in large:
                constant = ov.op.Constant(large[name], shared_memory=True)
                parameter.output(0).replace(constant.output(0))
                model.remove_parameter(parameter)
        model.validate_nodes_and_infer_types()
        self._large = large  # the constants refer to this memory
        options = {
            "INFERENCE_PRECISION_HINT": "f32",  # on some processors it is bfloat16 otherwise
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # two models would be bound to the same core
        }
        # not a lambda: it would refer to this object, which would then outlive its last user
        self._compile: Callable[[], Any] = functools.partial(
            core.compile_model, model, "CPU", options
        )
        compiled = self._compile()
        _expect_no_crash(compiled)
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()
        self._idle.put(compiled.create_infer_request())
        self._count = len(graph.outputs)
        return_freed_memory()

    def __call__(self, inputs: Arrays) -> list[npt.NDArray[Any]]:
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._compile().create_infer_request()
        try:
            request.infer(dict(inputs), share_inputs=True)
            return [request.get_output_tensor(i).data.copy() for i in range(self._count)]
        finally:
            self._idle.put(request)


def _divided(arrays: Arrays) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
    """Large parameters, which stay where they are, and the rest."""
    large = {
        name: np.ascontiguousarray(array)
        for name, array in arrays.items()
        if array.size >= _SMALL and array.dtype == np.float32
    }
    return large, {name: array for name, array in arrays.items() if name not in large}
