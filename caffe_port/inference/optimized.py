"""A net's fast face for inference."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_port.errors import UsageError
from caffe_port.inference.planner import Options, Store
from caffe_port.inference.program import Program, label_map, scores_before
from caffe_port.net import Array, Blobs, Keep, Net

if TYPE_CHECKING:
    from collections.abc import Hashable

    from caffe_port.spec import NetSpec


class Optimized:
    """Runs a net's forward pass faster, with the same results within the parity rule.

    A plan is made when a set of blobs is first asked for: BatchNorm and Scale are folded into the
    convolutions before them, sums and ReLUs computed with them, filters packed once in the layout
    the processor likes, shared ones once for all; blobs live in channels_last and are freed after
    their last reader. Shapes may change from call to call; each is settled when first met.

    It follows the net: after parameters have changed (an optimizer's step, ``load_state_dict``,
    ``load_stored``, ``.to(device)``) the next call plans anew. Changes that torch does not see,
    through ``.data`` or a numpy view, need ``refresh()``. Layers with forward hooks are run by
    themselves, so that the hooks see what they always saw. Several threads may call it at once.

    Args:
        net: the net; it goes on as it was, for training too.
        options: what may be done.
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
        """Runs the net; nothing is recorded for a backward pass.

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

        Scores that an Interp layer enlarges are enlarged a few labels at a time, and no more of
        them than ``size`` needs: all of them are never there at once at full resolution.

        Args:
            inputs: as for ``Net.forward``.
            blob: the scores, (N, C, H, W); None for the net's only output.
            size: (h, w): the upper left corner that is wanted; None for everything.
        Returns:
            (N, h, w) uint8, or int64 where there are more than 256 labels: what
            ``net(inputs)[blob].argmax(1)`` gives.
        Raises:
            UsageError: it is not clear which blob is meant, it holds no such scores, or they are
                smaller than ``size``; or as ``Net.forward``.
        """
        blob = blob or self._only_output()
        before = scores_before(self.spec, blob)
        name = blob if before is None else before.bottoms[0]
        scores = self(inputs, keep=[name])[name]
        return label_map(scores, None if before is None else before.op, blob, size)

    def refresh(self) -> None:
        """Forgets all plans and packed filters: the next call makes them anew."""
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
        """Changes when a parameter, a layer or its hooks do."""
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
