"""The side file of a snapshot: what a resumed run needs to draw what the unbroken one draws.

Caffe's solver state holds the iteration and the histories of the update. Beside it stand here, in
JSON, the generators, each data layer's order and place in its list, sums that layers carry from
batch to batch, and the losses that average_loss is taken over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from caffe_port.errors import FormatError, UsageError, option
from caffe_port.files import digest, read_bytes, write_text
from caffe_port.layers.data import SourceLayer
from caffe_port.layers.files import MatWrite
from caffe_port.solver.log import WARNING, log
from caffe_port.solver.modes import LossScale
from caffe_port.solver.source_state import SourceState, encoded, set_encoded

if TYPE_CHECKING:
    from caffe_port.data.rng import CaffeRandom
    from caffe_port.live.net import Net

_Path = str | os.PathLike[str]
_FORMAT = "caffe_port runstate 1"
_LARGEST = 2**30  # bytes of a file that is read at all


@dataclass(frozen=True)
class Smoothing:
    """Where the running mean of the loss stands.

    Attributes:
        losses, smoothed: the losses it is over, and their mean.
        start: the iteration at which it began.
    """

    losses: tuple[float, ...]
    smoothed: float
    start: int


def path_of(state_file: _Path) -> str:
    """`x.runstate` for `x.solverstate` and `x.solverstate.h5`."""
    name = os.fspath(state_file)
    for suffix in (".solverstate.h5", ".solverstate"):
        if name.endswith(suffix):
            return name[: -len(suffix)] + ".runstate"
    return name + ".runstate"


class RunState:
    """Follows nets from the first batch on, and writes and reads side files.

    Args:
        nets: the train net, then the test nets; before they have run.
        scale: of the losses, where the training has one.
    """

    def __init__(self, nets: Sequence[Net], scale: LossScale | None = None) -> None:
        self._scale = scale
        self._nets = [net._net for net in nets]
        self._sources = [
            {
                layer.name: SourceState(module)
                for layer in net.spec.layers
                if isinstance(module := net.module(layer.name), SourceLayer)
            }
            for net in self._nets
        ]

    def write(
        self, path: _Path, state_file: _Path, weights_file: _Path, smoothing: Smoothing
    ) -> None:
        """Writes the side file, all of it or nothing.

        Args:
            path: the file.
            state_file, weights_file: what it belongs to, which are written already.
            smoothing: of the loss.
        """
        thread = _thread()
        content = {
            "format": _FORMAT,
            "solverstate_sha256": digest(state_file),
            "weights_sha256": digest(weights_file),
            "thread": None if thread is None else encoded(thread.state()),
            "torch": bytes(torch.get_rng_state().numpy()).hex(),
            "smoothing": asdict(smoothing),
            "loss_scale": None if self._scale is None else self._scale.state(),
            "nets": [self._net_json(number) for number in range(len(self._nets))],
        }
        write_text(path, json.dumps(content))

    def read(self, path: _Path, state_file: _Path, weights_file: _Path) -> Smoothing | None:
        """Puts everything back as it was when the side file was written.

        Returns:
            Where the mean of the loss stood; None where the file belongs to another snapshot of
            the same name, which is logged and changes nothing.
        Raises:
            FormatError: the file is broken.
            UsageError: it is of other nets, the weights are not those that were saved with the
                state, or a list has changed.
        """
        content = _parsed(path)
        try:
            if content["solverstate_sha256"] != digest(state_file):
                message = f"{os.fspath(path)} is of another snapshot and is not used."
                log(message, severity=WARNING)
                return None
            if content.get("weights_sha256") not in (None, digest(weights_file)):
                without = option("keeps_run_state", False)
                without = f"; {without} resumes all the same" if without else ""
                raise UsageError(
                    f"{os.fspath(weights_file)}: not the weights that were saved with "
                    f"{os.fspath(state_file)}{without}"
                )
            return self._set(path, content)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise FormatError(
                f"not a whole side file ({type(error).__name__}: {error}); delete it or give "
                "-norunstate to resume as Caffe does", path=path,
            ) from error  # fmt: skip

    def _set(self, path: _Path, content: Mapping[str, Any]) -> Smoothing:
        if len(content["nets"]) != len(self._nets):
            raise UsageError(
                f"{path}: of {len(content['nets'])} nets; this solver has {len(self._nets)}"
            )
        for number, states in enumerate(content["nets"]):
            self._set_net(path, number, states)
        thread = _thread()
        if thread is not None and content["thread"] is not None:
            set_encoded(thread, content["thread"])
        state = np.frombuffer(bytes.fromhex(content["torch"]), np.uint8)
        torch.set_rng_state(torch.from_numpy(state.copy()))
        if self._scale is not None and content.get("loss_scale") is not None:
            self._scale.set_state(content["loss_scale"])
        found = content["smoothing"]
        losses = tuple(map(float, found["losses"]))
        return Smoothing(losses, float(found["smoothed"]), int(found["start"]))

    def _net_json(self, number: int) -> dict[str, Any]:
        states = {}
        for layer in self._nets[number].spec.layers:
            module = self._nets[number].module(layer.name)
            state: dict[str, Any] = {
                name: tensor.tolist() for name, tensor in module.named_buffers(recurse=False)
            }
            if isinstance(module, MatWrite):
                state["passes"] = module.passes
            if layer.name in self._sources[number]:
                state["source"] = self._sources[number][layer.name].to_json()
            if state:
                states[layer.name] = state
        return states

    def _set_net(self, path: _Path, number: int, states: Mapping[str, Any]) -> None:
        mine = self._net_json(number)
        if mine.keys() != states.keys():
            raise UsageError(
                f"{path}: of layers {sorted(states)}; this net has {sorted(mine)}; give "
                "-norunstate to resume as Caffe does"
            )
        for name, state in states.items():
            module = self._nets[number].module(name)
            for key, tensor in module.named_buffers(recurse=False):
                tensor.copy_(torch.tensor(state[key], dtype=tensor.dtype).view(tensor.shape))
            if isinstance(module, MatWrite):
                module.passes = int(state["passes"])
            if name in self._sources[number]:
                self._sources[number][name].set_json(state["source"])


def _parsed(path: _Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bytes(path, _LARGEST))
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror or error}", path=path) from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}", path=path) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise FormatError(f"expected the format '{_FORMAT}'", path=path)
    return content


def _thread() -> CaffeRandom | None:
    """The generator of the solver's thread."""
    from caffe_port.data import rng
    from caffe_port.live import mode

    with mode.building():
        return rng.current()
