"""A net's faster wrapper for inference."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_port.blobs import Array, Blobs
from caffe_port.errors import UsageError
from caffe_port.inference.planner import Options, Store
from caffe_port.inference.program import Program, label_map, scores_before
from caffe_port.net import Keep, Net

if TYPE_CHECKING:
    from collections.abc import Hashable

    from caffe_port.spec import NetSpec


class Optimized:
    """Runs a net's forward pass faster, with the same results within the parity rule.

    A plan is made at the first call for a set of blobs: BatchNorm and Scale are folded into the
    convolutions before them, sums and ReLUs are computed with them, filters are packed once in the
    processor's best layout, shared ones once for all layers. Blobs are in channels_last and are
    freed after their last reader. Shapes may change from call to call.

    It follows the net: after parameters have changed (an optimizer's step, ``load_state_dict``,
    ``load_stored``, ``.to(device)``) the next call makes a new plan. Changes that torch does not
    see, through ``.data`` or a numpy view, need ``refresh()``. Layers with forward hooks are not
    fused, so the hooks get the same tensors. Several threads may call it concurrently.

    Args:
        net: the net; it is not changed.
        options: of the plans.
    Examples:
        >>> import torch
        >>> import caffe_port as cp
        >>> net = cp.load("examples/shapes_voc/caffe_run/recording/net.prototxt")
        >>> fast = net.optimized()
        >>> fast({"data": torch.zeros(1, 3, 161, 161)})["fc8_interp"].shape
        torch.Size([1, 6, 161, 161])
    """

    def __init__(self, net: Net, options: Options | None = None) -> None:
        self.net = net
        self.options = options or Options()
        self._programs: dict[Hashable, Program] = {}
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
                program = self._program(fed, keep)
            blobs.update(program.run(fed))
        return blobs

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

    def _program(self, fed: Mapping[str, Tensor], keep: Keep) -> Program:
        seen = self._fingerprint()
        if seen != self._seen:
            self.refresh()
            parameter = next(self.net.parameters(), torch.empty(0))
            self.options.check_device(parameter.device, parameter.dtype)
            self._seen = seen
        wanted = keep if isinstance(keep, str) else frozenset(keep)
        key = (frozenset(fed), wanted, self.net.write_files)
        if key not in self._programs:
            plan = self.net.planned(frozenset(fed), wanted)
            self._programs[key] = Program(self.net, plan, list(fed), self.options, self._store)
        return self._programs[key]

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
