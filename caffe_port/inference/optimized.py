"""A net's faster wrapper for inference."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from caffe_port.blobs import Array, Blobs
from caffe_port.errors import EngineWarning, UsageError
from caffe_port.inference.choice import Question, measure, remember, remembered
from caffe_port.inference.engines import (
    Engine,
    Session,
    UnsuitableError,
    installed,
    return_freed_memory,
)
from caffe_port.inference.planner import Options, Store, has_hooks
from caffe_port.inference.program import Program, label_map, scores_before
from caffe_port.net import Keep, Net

if TYPE_CHECKING:
    from collections.abc import Hashable

    from caffe_port.spec import NetSpec
    from caffe_port.spec.ops import Shape

_SESSIONS = 4  # of other engines that are kept, each with a copy of the parameters


class _Pass(NamedTuple):
    """What is computed from what, by how many threads."""

    fed: frozenset[str]
    keep: str | frozenset[str]
    writes: bool
    threads: int


class Optimized:
    """Runs a net's forward pass faster, with the same results within the parity rule.

    The fastest engine that is installed computes: torch, ONNX Runtime or OpenVINO. The first call
    for a size measures them, unless a measurement on this machine is remembered, and refuses one
    whose results are wrong. What only torch can compute, such as a layer with a forward hook or a
    layer of your own, torch computes.

    With torch a plan is made at the first call for a set of blobs: BatchNorm and Scale are folded
    into the convolutions before them, sums and ReLUs are computed with them, filters are packed
    once in the processor's best layout, shared ones once for all layers. Blobs are in
    channels_last and are freed after their last reader. Shapes may change from call to call.

    It follows the net: after parameters have changed (an optimizer's step, ``load_state_dict``,
    ``load_stored``, ``.to(device)``) the next call makes a new plan. Changes that torch does not
    see, through ``.data`` or a numpy view, need ``refresh()``. Layers with forward hooks are not
    fused, so the hooks get the same tensors. Several threads may call it concurrently. Each call
    uses ``torch.get_num_threads()`` threads.

    Args:
        net: the net; it is not changed.
        options: of the plans.
    Examples:
        >>> import torch
        >>> import caffe_port as cp
        >>> net = cp.load("examples/shapes_voc/caffe_run/recording/net.prototxt")
        >>> fast = net.optimized(engine="torch")
        >>> fast({"data": torch.zeros(1, 3, 161, 161)})["fc8_interp"].shape
        torch.Size([1, 6, 161, 161])
    """

    def __init__(self, net: Net, options: Options | None = None) -> None:
        self.net = net
        self.options = options or Options()
        self._programs: dict[Hashable, Program] = {}
        self._sessions: dict[tuple[_Pass, Engine], Session] = {}
        self._failed: set[tuple[_Pass, Engine]] = set()
        self._chosen: dict[Question, Engine] = {}
        self._store = Store()
        self._seen: Hashable = None
        self._planning = threading.Lock()

    @property
    def spec(self) -> NetSpec:
        """The net's spec."""
        return self.net.spec

    def __call__(self, inputs: Array | Mapping[str, Array], keep: Keep = "outputs") -> Blobs:
        """Runs the net without recording for a backward pass.

        Args:
            inputs: as for ``Net.forward``.
            keep: as for ``Net.forward``; with 'all' the net itself runs, layer by layer.
        Returns:
            Blob name -> tensor, contiguous, without grad.
        Warns:
            EngineWarning: an engine cannot be used, so that torch computes.
        Raises:
            UsageError: an input that requires grad while grad is enabled, or as ``Net.forward``.
            LayerError: a layer that cannot run on its bottoms.
        """
        fed = self._fed(inputs)
        blobs = Blobs()
        with torch.no_grad():
            if keep == "all":
                return self.net(fed, keep="all")  # type: ignore[no-any-return]
            with self._planning:
                made = self._pass(fed, keep)
                engine = self._engine(made, fed)
            blobs.update(self._computed(engine, made, fed))
        return blobs

    def engine(self, inputs: Array | Mapping[str, Array], keep: Keep = "outputs") -> Engine:
        """The engine that computes a call with these arguments, measured where it is not known.

        Raises:
            UsageError: as a call does.
        """
        fed = self._fed(inputs)
        if keep == "all":
            return "torch"
        with torch.no_grad(), self._planning:
            return self._engine(self._pass(fed, keep), fed)

    def labels(
        self,
        inputs: Array | Mapping[str, Array],
        blob: str | None = None,
        *,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """The best label of each pixel; among equal scores the lowest.

        Scores that an Interp layer enlarges are enlarged a few labels at a time, and only as far
        as ``size`` needs, so memory never holds all of them at full resolution.

        Args:
            inputs: as for ``Net.forward``.
            blob: the scores, (N, C, H, W); None for the net's only output.
            size: (h, w) of the upper left corner to return; None for everything.
        Returns:
            (N, h, w) uint8, or int64 where there are more than 256 labels: what
            ``net(inputs)[blob].argmax(1)`` gives.
        Raises:
            UsageError: ``blob`` is None and the net has several outputs, the blob does not have
                this shape, or it is smaller than ``size``; or as ``Net.forward``.
        """
        blob = blob or self._only_output()
        before = scores_before(self.spec, blob)
        name = blob if before is None else before.bottoms[0]
        scores = self(inputs, keep=[name])[name]
        return label_map(scores, None if before is None else before.op, blob, size)

    def refresh(self) -> None:
        """Drops all plans and packed filters; the next call makes new ones."""
        self._programs.clear()
        self._sessions.clear()
        self._failed.clear()
        self._store = Store()
        self._seen = None

    def _fed(self, inputs: Array | Mapping[str, Array]) -> dict[str, Tensor]:
        fed = self.net.fed(inputs)
        for name, data in fed.items():
            if torch.is_grad_enabled() and data.requires_grad:
                raise UsageError(
                    f"input '{name}' requires grad, and an optimized net computes no diffs: "
                    "call the net itself, or detach the input"
                )
        return fed

    def _pass(self, fed: Mapping[str, Tensor], keep: Keep) -> _Pass:
        """The pass, after what was made for earlier parameters and hooks is dropped."""
        seen = self._fingerprint()
        if seen != self._seen:
            self.refresh()
            parameter = next(self.net.parameters(), torch.empty(0))
            self.options.check_device(parameter.device, parameter.dtype)
            self._seen = seen
        wanted = keep if isinstance(keep, str) else frozenset(keep)
        return _Pass(frozenset(fed), wanted, self.net.write_files, torch.get_num_threads())

    def _engine(self, made: _Pass, fed: Mapping[str, Tensor]) -> Engine:
        """What computes a pass; 'auto' measures the engines where it is not known yet."""
        if self.options.engine == "torch" or not self._is_plain():
            return "torch"
        if self.options.engine != "auto":
            return self.options.engine
        if len(installed()) == 1 or not all(x.is_cpu for x in fed.values()):
            return "torch"
        shapes = {name: tuple(x.shape) for name, x in fed.items()}
        kept = self.net.planned(made.fed, made.keep).kept
        question = Question.of(self.net.spec, shapes, kept, made.threads)
        if question not in self._chosen:
            self._chosen[question] = remembered(question) or self._measured(question, made, fed)
        return self._chosen[question]

    def _is_plain(self) -> bool:
        """Whether other engines than torch may compute for the net as it is now."""
        plain = all(p.dtype == torch.float32 and p.is_cpu for p in self.net.parameters())
        hooked = any(has_hooks(self.net, layer.name) for layer in self.spec.layers)
        return self.options.are_default and plain and not hooked

    def _measured(self, question: Question, made: _Pass, fed: Mapping[str, Tensor]) -> Engine:
        def way(engine: Engine) -> Callable[[], dict[str, Tensor]]:
            return lambda: self._prepared(engine, made)(fed)

        seconds = measure({engine: way(engine) for engine in installed()}, made.threads)
        fastest = min(seconds, key=lambda engine: seconds[engine])
        remember(question, fastest, seconds)
        if fastest != "torch":
            self._programs.clear()
            self._store = Store()
        for engine in installed():
            if engine != fastest:
                self._sessions.pop((made, engine), None)
        return_freed_memory()
        return fastest

    def _prepared(
        self, engine: Engine, made: _Pass
    ) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
        """What computes a pass in an engine.

        Raises:
            UnsuitableError: the engine has no form of it.
        """
        plan = self.net.planned(made.fed, made.keep)
        if engine == "torch":
            key = made[:3]
            if key not in self._programs:
                fed = sorted(made.fed)
                self._programs[key] = Program(self.net, plan, fed, self.options, self._store)
            return self._programs[key].run
        if (made, engine) not in self._sessions:
            session = Session(self.net, plan, made.fed, engine, made.threads)
            self._sessions[made, engine] = session
            for oldest in list(self._sessions)[:-_SESSIONS]:
                del self._sessions[oldest]
        return self._sessions[made, engine].run

    def _computed(
        self, engine: Engine, made: _Pass, fed: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The kept blobs; torch computes them where the engine cannot."""
        if engine != "torch" and (made, engine) not in self._failed:
            try:
                with self._planning:
                    run = self._prepared(engine, made)
                return run(fed)
            except UnsuitableError as error:
                if self.options.engine != "auto":
                    self._say(engine, str(error))
            except Exception as error:  # of any kind: another library's
                self._failed.add((made, engine))
                self._say(engine, f"{type(error).__name__}: {error}")
        with self._planning:
            run = self._prepared("torch", made)
        return run(fed)

    def _say(self, engine: Engine, reason: str) -> None:
        message = f"torch computes in place of {engine}: {reason}"
        warnings.warn(message, EngineWarning, stacklevel=4)

    def _fingerprint(self) -> Hashable:
        """A value that changes when a parameter, a layer or its hooks change."""
        parameters = tuple(
            (id(p), p.data_ptr(), 0 if p.is_inference() else p._version, p.dtype)
            for p in self.net.parameters()
        )
        modules = tuple(
            (id(m), *m._forward_hooks, *m._forward_pre_hooks) for m in self.net.children()
        )
        return parameters, modules

    def _only_output(self) -> str:
        maps = [blob for blob in self.spec.outputs if len(self.spec.shapes[blob]) == 4]
        if len(maps) != 1:
            found = ", ".join(self.spec.outputs) or "none"
            raise UsageError(f"which blob holds the scores? The net's outputs are {found}; name it")
        return maps[0]


def fastest_engine(
    spec: NetSpec,
    load: Callable[[], Net],
    shapes: Mapping[str, Shape],
    keep: Collection[str],
    *,
    threads: int,
    measuring: Callable[[], None] | None,
) -> Engine:
    """The fastest engine for a net and a size.

    Args:
        spec: the net.
        load: makes the net, where it has to be measured.
        shapes: of the inputs.
        keep: the blobs that are read.
        threads: that compute one pass.
        measuring: called before a measurement, on inputs of random numbers; None for no
            measurement, and torch where none is remembered.
    Examples:
        >>> from caffe_port import Net, NetSpec
        >>> from caffe_port.inference import ENGINES, fastest_engine
        >>> spec = NetSpec.read("examples/shapes_voc/caffe_run/recording/net.prototxt")
        >>> shapes = {"data": (1, 3, 161, 161)}
        >>> scores = ["fc8_interp"]
        >>> engine = fastest_engine(
        ...     spec, lambda: Net(spec), shapes, scores, threads=1, measuring=None
        ... )
        >>> engine in ENGINES
        True
    """
    if len(installed()) == 1:
        return "torch"
    known = remembered(Question.of(spec, shapes, keep, threads))
    if known is not None or measuring is None:
        return known or "torch"
    measuring()
    drawn = torch.Generator().manual_seed(0)
    inputs = {name: 50 * torch.randn(shape, generator=drawn) for name, shape in shapes.items()}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return Optimized(load()).engine(inputs, keep)
    finally:
        torch.set_num_threads(before)
