"""A net as a torch module with named blobs and named parameters."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn

from caffe_port.blobs import (
    Array,
    Blobs,
    KnownSizes,
    as_tensor,
    fixed_size,
)
from caffe_port.data import rng
from caffe_port.errors import LayerError, UsageError
from caffe_port.labels import WrongLabelError
from caffe_port.layers import Layer, make_layer
from caffe_port.layers._registry import is_exporting, is_tracing
from caffe_port.layers.data import label_place
from caffe_port.layers.fillers import fill
from caffe_port.model_info import ModelInfo, Publishable, info_note
from caffe_port.plan import Plan, Step, make_plan, run_steps
from caffe_port.spec import LayerSpec, NetSpec
from caffe_port.spec.ops.python_layer import one_net
from caffe_port.spec.sharing import check_memory
from caffe_port.spec.side_effects import warn_of_side_effects

if TYPE_CHECKING:
    from caffe_port.inference import Optimized
    from caffe_port.inference.engines import Engine
    from caffe_port.inference.planner import Precision
    from caffe_port.weights import StoredLayer
    from caffe_port.weights.matching import Match

Keep: TypeAlias = Literal["outputs", "all"] | Iterable[str]


class Net(Publishable, nn.Module):
    """A Caffe net as a torch module.

    Its parameters are named `<layer>.weight`, `<layer>.bias` and so on; shared ones are one
    parameter. Layers with the same name get different ones here: see ``spec.names.unique_names``.
    The phase is the spec's: torch's ``train()`` and ``eval()`` do not change it. Built under
    ``caffe_port.data.rng.seeded``, it draws what Caffe's net would draw: fillers and data layers
    now, dropout and dummy data whenever it runs.

    Args:
        spec: the net.
        fill: whether parameters are filled as the prototxt says; False leaves them unset for
            weights that are loaded next.
    Raises:
        UnsupportedLayerError: a type without a layer.
        NetError, LayerError: there is no memory for its parameters.
    Examples:
        >>> import torch
        >>> from caffe_port import Net, NetSpec
        >>> spec = NetSpec.read("examples/shapes_voc/caffe_run/recording/net.prototxt")
        >>> net = Net(spec)
        >>> blobs = net({"data": torch.zeros(1, 3, 161, 161)}, keep="all")
        >>> blobs["fc8_interp"].sum().backward()
        >>> blobs.diff("pool1").shape == blobs["pool1"].shape
        True
    """

    def __init__(self, spec: NetSpec, *, fill: bool = True) -> None:
        super().__init__()
        check_memory(spec)
        self.spec = spec
        self.write_files = False  # whether layers such as MatWrite run; pycaffe's net sets it
        self.loaded: Match | None = None  # the result of the last load_stored
        self.info = ModelInfo()
        self._plans: dict[object, Plan] = {}
        self._warned = False
        spec.side_effects  # noqa: B018 (found now: torch.compile cannot)
        random = rng.current()
        with one_net():
            for layer in spec.layers:
                # not add_module: a layer may be called 'data' or 'type'
                self._modules[layer.name] = make_layer(layer)
                # one by one, before sharing, so that numbers are drawn in Caffe's order
                if fill or random is not None:
                    self._fill(layer, random)
        self._share()
        if spec.force_backward:
            self.requires_grad_(True)

    def __repr__(self) -> str:
        return f"<Net {self.spec.summary}>"

    def _repr_html_(self) -> str:
        return self.spec._repr_html_().replace("NetSpec", "Net", 1)

    def __getstate__(self) -> dict[str, Any]:
        # for pickle and deepcopy: without the weight file's blobs, and what is made again
        return {**self.__dict__, "loaded": None, "_plans": {}}

    def __setattr__(self, name: str, value: Any) -> None:
        # a layer may also be called 'training' or 'loaded', which torch would refuse to set
        if name in self.__dict__:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, metadata: Any, strict: bool,
        missing: list[str], unexpected: list[str], errors: list[str],
    ) -> None:  # fmt: skip
        super()._load_from_state_dict(
            state_dict, prefix, metadata, strict, missing, unexpected, errors
        )
        # torch takes the text before the first dot as the layer, whose name may hold dots
        known = {prefix + key for key in self.state_dict()}
        unexpected[:] = [key for key in unexpected if key not in known]

    def _share(self) -> None:
        for layer in self.spec.layers:
            for param in layer.params:
                if param.owner is None:
                    continue
                # of the owner's shape; Layer.param gives it the layer's own
                owner = self.layer_params(param.owner[0])[param.owner[1]]
                self.module(layer.name).register_parameter(param.name, owner)

    def fill(self) -> None:
        """Fills all parameters again by their fillers, from torch's generator."""
        for layer in self.spec.layers:
            self._fill(layer, None)

    def _fill(self, layer: LayerSpec, random: rng.CaffeRandom | None) -> None:
        if self.module(layer.name).fills_itself:
            return
        module = self.module(layer.name)
        try:
            for param in layer.params:
                # Caffe also fills shared ones, which has no effect but draws numbers
                if random is not None or param.owner is None:
                    fill(module.get_parameter(param.name), param.filler, random)
            for name in layer.op.refilled(layer.bottom_shapes) if random is not None else ():
                filler = next(param.filler for param in layer.params if param.name == name)
                fill(nn.Parameter(torch.empty_like(module.get_parameter(name))), filler, random)
        except ValueError as error:
            raise LayerError(layer.name, layer.type, str(error)) from error

    def module(self, layer: str) -> Layer:
        """The module of a layer. Raises KeyError if there is none."""
        module = self._modules[layer]
        assert isinstance(module, Layer)
        return module

    def layer_params(self, layer: str) -> list[nn.Parameter]:
        """A layer's parameters in Caffe's order, as in pycaffe's ``net.params[layer]``.

        A shared one is the owner's, with the owner's shape.
        """
        module = self.module(layer)
        return [module.get_parameter(param.name) for param in module.spec.params]

    def _param(self, layer: str, index: int) -> nn.Parameter:
        module = self.module(layer)
        return module.get_parameter(module.spec.params[index].name)

    def run_layer(
        self, layer: str, bottoms: Sequence[Tensor], params: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, ...]:
        """Runs one layer on given bottoms.

        Args:
            layer: its name.
            bottoms: what it reads.
            params: by name, in place of the layer's own for this run.
        Raises:
            LayerError: the bottoms do not fit the layer.
        """
        module = self.module(layer)
        if len(bottoms) != (expected := len(module.spec.bottoms)):
            message = f"{len(bottoms)} bottoms given; expected {expected}"
            raise LayerError(module.spec.name, module.spec.type, message)
        run: Callable[..., tuple[Tensor, ...]] = module
        if params:

            def run(*given: Tensor) -> tuple[Tensor, ...]:
                found: tuple[Tensor, ...] = torch.func.functional_call(module, dict(params), given)
                return found

        try:
            return run_guarded(run, module.spec, bottoms)
        except LayerError as error:
            if not isinstance(error.__cause__, WrongLabelError):
                raise
            place = label_place(self.spec, self.module, module.spec, error.__cause__)
            raise LayerError(layer, module.spec.type, f"{error.__cause__}{place}") from error

    def forward(self, inputs: Array | Mapping[str, Array], keep: Keep = "outputs") -> Blobs:
        """Runs the net.

        Data layers whose tops are given do not run, nor do layers that then lack a bottom.

        Args:
            inputs: blob name -> data, for Input layers and for data layers that are to be
                replaced; or one tensor where the net has one input. Any batch size and, where the
                layers allow it, any height and width.
            keep: which blobs are returned. 'outputs': those that no layer reads (a layer that only
                reports, such as SegAccuracy, does not count); other blobs are freed after their
                last reader. 'all': every blob, and diffs after backward. Or names: only what they
                need is run.
        Returns:
            Blob name -> tensor.
        Warns:
            SideEffectWarning: see ``caffe_port.spec.side_effects``.
        Raises:
            UsageError: an input or a name in ``keep`` that the net does not have, or data missing.
            LayerError: a layer that cannot run on its bottoms.
        """
        fed = self.fed(inputs)
        plan = self.planned(frozenset(fed), keep)
        if is_tracing():
            with KnownSizes():
                return self._run(plan, {name: fixed_size(data) for name, data in fed.items()})
        return self._run(plan, fed)

    def _run(self, plan: Plan, fed: Mapping[str, Tensor]) -> Blobs:
        blobs = Blobs(plan)
        for name, data in fed.items():
            blobs[name] = data
        run_steps(plan.steps, blobs, self._compute)
        for name in fed.keys() - plan.kept:
            blobs.pop(name, None)  # given, but read by no layer that runs
        # torch.export takes no class of ours
        return cast("Blobs", dict(blobs)) if is_exporting() else blobs

    def _compute(self, step: Step, bottoms: Sequence[Tensor]) -> list[Tensor]:
        layer = step.layer
        flowing = [
            bottom if down else bottom.detach()
            for bottom, down in zip(bottoms, layer.propagate_down, strict=True)
        ]
        return [self.placed(top, layer.op.kind) for top in self.run_layer(layer.name, flowing)]

    def planned(self, fed: frozenset[str], keep: Keep) -> Plan:
        """The plan of a forward pass: see ``make_plan``."""
        self._warned = self._warned or warn_of_side_effects(self.spec, torch.is_grad_enabled())
        wanted = keep if isinstance(keep, str) else frozenset(keep)
        key = (fed, wanted, self.write_files)
        if key not in self._plans:
            self._plans[key] = make_plan(self.spec, fed, wanted, self.write_files)
        return self._plans[key]

    def placed(self, data: Tensor, kind: str) -> Tensor:
        """The top of a layer of that kind, on the net's device.

        Data layers read into main memory; their tops go where the parameters are.
        """
        if kind != "source":
            return data
        like = next(self.parameters(), None)
        return data if like is None else data.to(like)

    def fed(self, inputs: Array | Mapping[str, Array]) -> dict[str, Tensor]:
        """The inputs of ``forward`` as tensors by blob name.

        Raises:
            UsageError: an input that the net does not have.
        """
        if not isinstance(inputs, Mapping):
            names = self.spec.inputs or self.spec.sources[:1]
            if not names:
                raise UsageError("the net has no inputs; give an empty dict")
            if len(names) != 1:
                raise UsageError(f"the net has the inputs {', '.join(names)}; give a dict")
            inputs = {names[0]: inputs}
        for name in inputs:
            if name not in self.spec.sources:
                known = ", ".join(self.spec.sources) or "none"
                raise UsageError(f"'{name}' is not an input of the net; its inputs: {known}")
        tensors = {name: as_tensor(name, data) for name, data in inputs.items()}
        if any(getattr(module, "writes_bottoms", False) for module in self.children()):
            # the caller's are not changed
            return {name: data.clone() for name, data in tensors.items()}
        return tensors

    def optimized(
        self,
        *,
        fold: bool = True,
        precision: Precision = "float32",
        compile: str | None = None,
        engine: Engine = "auto",
    ) -> Optimized:
        """A faster wrapper of this net, for inference only: see ``inference.Optimized``.

            fast = net.optimized()
            scores = fast({"data": x})["fc8_interp"]
            labels = fast.labels({"data": x})     # (N, H, W)

        It shares this net's parameters and follows their changes.

        Args:
            fold: make BatchNorm, Scale and Bias part of the convolution before them.
            precision: 'bfloat16' or 'float16' convolutions, which leave the parity rule.
            compile: a backend of ``torch.compile``, such as 'inductor'.
            engine: what computes: 'torch', 'onnxruntime', 'openvino', or 'auto' for the fastest of
                those that are installed, which the first call measures.
        Raises:
            UsageError: an unknown precision or engine, an engine that is not installed, or (at the
                first call) a precision that the device lacks.
        """
        from caffe_port.inference import Optimized, Options

        return Optimized(self, Options(fold, precision, compile, engine))

    def load_stored(self, layers: Sequence[StoredLayer], *, strict: bool = True) -> Match:
        """Copies stored weights into the parameters, by layer name.

        Args:
            layers: what ``caffe_port.weights.read_weights`` gives.
            strict: whether missing and extra layers are errors, as wrong shapes always are; False
                skips them, as Caffe does.
        Returns:
            What was matched, missing and extra.
        Raises:
            WeightMismatchError: nothing was copied.
        """
        from caffe_port.weights.matching import match

        return self.load_match(match(self.spec, layers), strict=strict)

    def load_match(self, found: Match, *, strict: bool = True) -> Match:
        """Copies matched weights into the parameters. Raises WeightMismatchError."""
        found.check(strict)
        # a file may hold a shared parameter once per user; only the last copy counts
        last = {id(self._param(layer, i)): (layer, i, blob) for layer, i, blob in found.pairs}
        with torch.no_grad():
            for layer, index, blob in last.values():
                param = self._param(layer, index)
                param.copy_(torch.from_numpy(blob.aligned()).view(param.shape))
        # not the values: they would keep a mapped file, or a second copy of the parameters
        pairs = [(layer, index, blob.without_values()) for layer, index, blob in found.pairs]
        self.loaded = replace(found, pairs=pairs)
        return found

    def stored_layers(self) -> list[StoredLayer]:
        """The parameters as ``caffe_port.weights.write_weights`` takes them."""
        from caffe_port.weights import StoredBlob, StoredLayer

        return [
            StoredLayer(
                layer.prototxt_name,
                layer.type,
                tuple(
                    StoredBlob(
                        blob.detach().cpu().contiguous().view(param.shape).numpy(), name=param.name
                    )
                    for param, blob in zip(layer.params, self.layer_params(layer.name), strict=True)
                ),
            )
            for layer in self.spec.layers
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the net; the suffix chooses the format.

        `.pt` and `.safetensors` remember the prototxt, so ``caffe_port.load`` needs nothing else;
        `.caffemodel` and `.caffemodel.h5` are read by Caffe.
        """
        from caffe_port.weights import write_weights

        write_weights(
            path, self.stored_layers(), name=self.spec.name, prototxt=self.spec.prototxt,
            metadata={**info_note(self.info), **self.spec.settings()},
            net_message=self.spec.saved_message(),
        )  # fmt: skip


def run_guarded(
    run: Callable[..., tuple[Tensor, ...]], layer: LayerSpec, bottoms: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Runs a layer, or its replacement, so that torch's errors name the layer.

    Raises:
        LayerError: it cannot run on these bottoms.
    """
    try:
        return run(*bottoms)
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, IndexError, OverflowError) as error:
        shapes = ", ".join(str(tuple(b.shape)) for b in bottoms) or "none"
        message = f"cannot run on bottoms of shape {shapes}: {error}"
        raise LayerError(layer.name, layer.type, message) from error
