"""Reads a solver and builds the nets that it trains and tests.

Source: BVLC/caffe solver.cpp, InitTrainNet and InitTestNets; upgrade_proto.cpp,
UpgradeSnapshotPrefixProperty.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from caffe_port.errors import UsageError
from caffe_port.live import mode
from caffe_port.live.net import Net
from caffe_port.loading import Model
from caffe_port.net import Net as TorchNet
from caffe_port.proto import caffe_pb2, parse_net, read_file, read_net_text, read_solver
from caffe_port.proto.dialects import choose_dialect
from caffe_port.proto.upgrade import upgrade_net, upgrade_solver
from caffe_port.spec import NetSpec

_Path = str | os.PathLike[str]
_Source = str | caffe_pb2.NetParameter

_LEAST = {"iter_size": 1, "max_iter": 0, "test_interval": 0, "test_iter": 0, "snapshot": 0}


def read_param(solver: _Path | caffe_pb2.SolverParameter) -> caffe_pb2.SolverParameter:
    """Reads a solver; the default of snapshot_prefix, also in a folder, is the file's name.

    Args:
        solver: the file, or a message, which is copied.
    Raises:
        FormatError: it is malformed.
        UsageError: a negative number of iterations.
    """
    if isinstance(solver, caffe_pb2.SolverParameter):
        param = caffe_pb2.SolverParameter()
        param.CopyFrom(solver)
        return _checked(upgrade_solver(param, "the solver's message"))
    param, path = _checked(read_solver(solver)), Path(solver)
    if not param.HasField("snapshot_prefix"):
        param.snapshot_prefix = os.fspath(path.with_suffix(""))
    elif os.path.isdir(param.snapshot_prefix):
        param.snapshot_prefix = os.path.join(param.snapshot_prefix, path.stem)
    return param


def _checked(param: caffe_pb2.SolverParameter) -> caffe_pb2.SolverParameter:
    for name, least in _LEAST.items():
        values = getattr(param, name)
        for value in [values] if isinstance(values, int) else values:
            if value < least:
                raise UsageError(f"{name} is {value}; expected {least} or more")
    return param


def train_net(param: caffe_pb2.SolverParameter) -> Net:
    """Builds the net that is trained.

    Raises:
        UsageError: not exactly one of net, net_param, train_net, train_net_param.
    """
    state = caffe_pb2.NetState(phase=caffe_pb2.TRAIN)
    return _make(param, getattr(param, train_net_field(param)), state, param.train_state)


def train_net_field(param: caffe_pb2.SolverParameter) -> str:
    """The field that names the train net.

    Raises:
        UsageError: not exactly one of net, net_param, train_net, train_net_param.
    """
    fields = ("net", "net_param", "train_net", "train_net_param")
    given = [name for name in fields if param.HasField(name)]
    if len(given) != 1:
        found = ", ".join(given) or "none"
        raise UsageError(f"a solver names one train net by {', '.join(fields)}; found {found}")
    return given[0]


def dialect(param: caffe_pb2.SolverParameter) -> str:
    """The dialect of the train net, which determines the places in log lines."""
    source = getattr(param, train_net_field(param))
    if not isinstance(source, str):
        return choose_dialect(source, None)
    state = os.stat(source) if os.path.exists(source) else None
    return _dialect_of_file(source, state and (state.st_mtime_ns, state.st_size))


@functools.lru_cache(maxsize=4)
def _dialect_of_file(path: str, version: tuple[int, int] | None) -> str:
    """Cached, because a program calls it repeatedly and parsing a deep net takes time."""
    return read_net_text(path).dialect


def test_sources(param: caffe_pb2.SolverParameter) -> list[tuple[str, _Source]]:
    """The sources of the test nets, each with its name in the log.

    ``net`` is the source for each test_iter without a test net of its own.

    Raises:
        UsageError: more or fewer test_iter than that.
    """
    sources: list[tuple[str, _Source]] = [("test_net_param", net) for net in param.test_net_param]
    sources += [(f"test_net file: {net}", net) for net in param.test_net]
    generic: tuple[str, _Source] | None = None
    if param.HasField("net_param"):
        generic = ("net_param", param.net_param)
    elif param.HasField("net"):
        generic = (f"net file: {param.net}", param.net)
    missing = len(param.test_iter) - len(sources)
    if missing < 0 or (missing and generic is None):
        raise UsageError(f"{len(param.test_iter)} test_iter for {len(sources)} test nets")
    return sources if generic is None else sources + [generic] * missing


def test_nets(param: caffe_pb2.SolverParameter) -> list[Net]:
    """Builds the nets that are tested, one for each of ``test_sources``.

    Raises:
        UsageError: test_iter, test_state or test_interval do not fit them.
    """
    sources = test_sources(param)
    if param.test_state and len(param.test_state) != len(sources):
        raise UsageError(f"{len(param.test_state)} test_state for {len(sources)} test nets")
    if sources and param.test_interval <= 0:
        raise UsageError("test nets need a test_interval above 0")
    states = param.test_state or [caffe_pb2.NetState()] * len(sources)
    nets = []
    for (_, source), own in zip(sources, states, strict=True):
        nets.append(_make(param, source, caffe_pb2.NetState(phase=caffe_pb2.TEST), own))
    return nets


def _make(
    param: caffe_pb2.SolverParameter,
    source: _Source,
    state: caffe_pb2.NetState,
    own: caffe_pb2.NetState,
) -> Net:
    """Builds a net in the solver's state, overridden by the net's state and then by ``own``."""
    files = Model(source) if isinstance(source, str) else source
    state.MergeFrom(_own_state(files))
    state.MergeFrom(own)
    with mode.building():
        net = expect_layers(Net.of(_build(files, state)))
    for names in param.weights:
        for name in names.split(","):
            net.copy_from(name.strip())
    return net


def expect_layers(net: Net) -> Net:
    """Checks that a net has layers.

    Raises:
        UsageError: it has no layers in its phase.
    """
    spec = net._net.spec
    if not spec.layers:
        raise UsageError(f"the net '{spec.name}' has no layers in phase {spec.phase}")
    return net


def _own_state(source: Model | caffe_pb2.NetParameter) -> caffe_pb2.NetState:
    """The state that the net itself names; only texts with the word are parsed for it."""
    if not isinstance(source, Model):
        return source.state
    text = read_file(source.file)
    if "state" not in text:
        return caffe_pb2.NetState()
    return parse_net(text, path=source.file.path).message.state


def _build(source: Model | caffe_pb2.NetParameter, state: caffe_pb2.NetState) -> TorchNet:
    phase, allowed = caffe_pb2.Phase.Name(state.phase), mode.python_layers_allowed()
    if isinstance(source, Model):
        spec = source.spec(
            phase=phase, level=state.level, stages=state.stage, allow_python_layers=allowed,
            strict_text=mode.strict_text(),
        )  # fmt: skip
        return source.net(spec)
    message = caffe_pb2.NetParameter()
    message.CopyFrom(source)
    dialect = choose_dialect(message, None)
    upgrade_net(message, dialect=dialect)
    spec = NetSpec.build(
        message, phase=phase, dialect=dialect, level=state.level, stages=state.stage,
        allow_python_layers=allowed,
    )  # fmt: skip
    return TorchNet(spec)
