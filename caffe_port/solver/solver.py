"""pycaffe's solvers: the loop of steps, tests and snapshots.

Source: BVLC/caffe solver.cpp, sgd_solver.cpp; _caffe.cpp for the interface.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from caffe_port.errors import UsageError
from caffe_port.layers.segmentation_losses import FeedbackLoss
from caffe_port.live import methods, mode
from caffe_port.live.net import Net
from caffe_port.proto import caffe_pb2
from caffe_port.solver import nets
from caffe_port.solver.log import Place, SolverLog, is_root
from caffe_port.solver.net_log import DebugInfo, log_net
from caffe_port.solver.step import LearnedParam, learned_params
from caffe_port.solver.updates import (
    Setting,
    clip,
    find_rule,
    in_pieces,
    learning_rate,
    regularize,
    why_not_histories,
)  # fmt: skip
from caffe_port.weights.solver_state import SolverState, read_solver_state, write_solver_state

_Path = str | os.PathLike[str]
_Callback = Callable[[], Any]


def snapshot_names(param: caffe_pb2.SolverParameter, iteration: int) -> tuple[str, str]:
    """The names of a snapshot's weights and solver state: `<prefix>_iter_<iteration>.*`."""
    suffix = ".h5" if param.snapshot_format == caffe_pb2.SolverParameter.HDF5 else ""
    stem = f"{param.snapshot_prefix}_iter_{iteration}"
    return f"{stem}.caffemodel{suffix}", f"{stem}.solverstate{suffix}"


class Solver:
    """Trains a net; ``get_solver`` or a subclass makes one.

    Args:
        solver: its prototxt, or its message, which is copied.
    Attributes:
        net: the net that is trained.
        test_nets: the nets that are tested.
        iter: the number of updates made.
        param: the solver's message.
    Raises:
        FormatError, UsageError: the solver or its nets are not as expected.
    """

    solver_type: ClassVar[str] = ""

    def __init__(self, solver: _Path | caffe_pb2.SolverParameter) -> None:
        param = nets.read_param(solver)
        self.param = param
        self._rule = find_rule(self.solver_type or param.type, param.momentum)
        if param.average_loss < 1:
            raise UsageError(f"average_loss is {param.average_loss}; expected 1 or more")
        if param.snapshot:
            self._check_folder()
        self._log = SolverLog(nets.dialect(param))
        self._log.initializing(param)
        self._seed()
        self._make_nets()
        self.iter, self._current_step = 0, 0
        self._learned = learned_params(self.net)
        self._history = [
            torch.zeros_like(item.data)
            for _ in range(self._rule.histories)
            for item in self._learned
        ]
        # those of a solver state keep the shapes that they have there
        self._history_shapes = [tuple(values.shape) for values in self._history]
        self._callbacks: list[tuple[_Callback, _Callback]] = []
        self._losses: list[float] = []
        self._smoothed = 0.0
        self._restored_weights = ""  # the file named in the last solver state
        self._debug = self._debug_infos() if param.debug_info else []
        self._feedback = [x for x in self.net._net.modules() if isinstance(x, FeedbackLoss)]

    def _seed(self) -> None:
        """Seeds the generator of the nets if there is a random_seed."""
        if self.param.random_seed >= 0:
            mode.set_random_seed(self.param.random_seed + mode.solver_rank())

    def _make_nets(self) -> None:
        field = nets.train_net_field(self.param)
        self._log.creating_train_net(field, getattr(self.param, field))
        self.net = nets.train_net(self.param)
        self.test_nets = nets.test_nets(self.param)
        if is_root():
            log_net(self.net._net.spec)
            names = [name for name, _ in nets.test_sources(self.param)]
            for i, (net, name) in enumerate(zip(self.test_nets, names, strict=True)):
                message = f"Creating test net (#{i}) specified by {name}"
                self._log.line(Place.TEST_NET, message)
                log_net(net._net.spec)
        self._log.line(Place.SCAFFOLDING_DONE, "Solver scaffolding done.")

    def _debug_infos(self) -> list[DebugInfo]:
        """That of the train net, which logs at displays only, as in Caffe; then the test nets'."""
        return [
            DebugInfo(self.net, self._displays),
            *(DebugInfo(net, is_root) for net in self.test_nets),
        ]

    def _check_folder(self) -> None:
        folder = Path(self.param.snapshot_prefix).parent
        if not os.access(folder, os.W_OK):
            raise UsageError(f"snapshot_prefix: folder '{folder}' is missing or not writable")

    @property
    def lr(self) -> float:
        """The learning rate of this iteration."""
        return learning_rate(self.param, self.iter, self._current_step)[0]

    @property
    def display(self) -> int:
        """The number of iterations between two logs of the loss, 0 for none; may be set."""
        return int(self.param.display)

    @display.setter
    def display(self, iterations: int) -> None:
        self.param.display = iterations

    def add_callback(self, on_start: _Callback, on_gradients_ready: _Callback) -> None:
        """Adds functions that each step calls before its first forward and before its update."""
        self._callbacks.append((on_start, on_gradients_ready))

    def share_weights(self, net: Net) -> None:
        """Makes another net use the parameters of this solver's net."""
        net.share_with(self.net)

    def step(self, iters: int) -> None:
        """Makes ``iters`` updates, testing, logging and writing snapshots when due."""
        start, param = self.iter, self.param
        self._losses, self._smoothed = [], 0.0
        self._log.start_lap(start)
        while self.iter < start + iters:
            for layer in self._feedback:
                layer.iteration = self.iter
            self._clear_diffs()
            if self._tests_now() and (self.iter > 0 or param.test_initialization):
                self._test_all()
            for on_start, _ in self._callbacks:
                on_start()
            loss = 0.0
            for _ in range(param.iter_size):
                loss += self._forward_backward()
            self._smooth(loss / param.iter_size, start)
            if self._displays():
                self._log.loss(self.iter, self._smoothed, param.display)
                self._log_outputs("Train", self.net, _outputs(self.net))
            for _, on_gradients_ready in self._callbacks:
                on_gradients_ready()
            self.apply_update()
            if self._saves_now() and is_root():
                self.snapshot()

    def _clear_diffs(self) -> None:
        self.net.clear_param_diffs()

    def _forward_backward(self) -> float:
        last = len(self.net.layers) - 1
        loss = self.net._forward(0, last)
        self.net._backward(last, 0)
        return loss

    def _tests_now(self) -> bool:
        interval = self.param.test_interval
        return bool(interval) and self.iter % interval == 0 and is_root()

    def _saves_now(self) -> bool:
        return bool(self.param.snapshot) and self.iter % self.param.snapshot == 0

    def _displays(self) -> bool:
        display = self.param.display
        return bool(display) and self.iter % display == 0 and is_root()

    def _smooth(self, loss: float, start: int) -> None:
        """The running mean over the last average_loss losses."""
        losses, size = self._losses, self.param.average_loss
        if len(losses) < size:
            losses.append(loss)
            self._smoothed += (loss - self._smoothed) / len(losses)
        else:
            place = (self.iter - start) % size
            self._smoothed += (loss - losses[place]) / size
            losses[place] = loss

    def apply_update(self) -> None:
        """Updates the parameters from the diffs and counts the iteration."""
        param = self.param
        before = self._current_step
        rate, self._current_step = learning_rate(param, self.iter, before)
        if param.lr_policy == "multistep" and self._current_step > before:
            step = f"step = {self._current_step}"
            self._log.line(Place.MULTISTEP, f"MultiStep Status: Iteration {self.iter}, {step}")
        if self._displays():
            self._log.line(Place.RATE, f"Iteration {self.iter}, lr = {rate:g}")
        clipped = clip([item.diff for item in self._learned], param.clip_gradients)
        if clipped:
            norm, factor = clipped
            self._log.clipping(norm, param.clip_gradients, factor)
        for i, item in enumerate(self._learned):
            self._update(item, self._history[i :: len(self._learned)], rate)
        self.iter += 1
        for debug in self._debug[:1]:
            debug.update()

    def _update(self, item: LearnedParam, history: Sequence[Tensor], rate: float) -> None:
        param = self.param
        decay = float(np.float32(param.weight_decay) * np.float32(item.decay_mult))
        local = float(np.float32(rate) * np.float32(item.lr_mult))
        setting = Setting(
            local, param.momentum, param.momentum2, param.delta, param.rms_decay, self.iter
        )
        for diff, data, *past in in_pieces(item.diff, item.data, *history):
            if param.iter_size > 1:
                diff.mul_(1 / param.iter_size)
            regularize(diff, data, decay, param.regularization_type)
            self._rule.update(diff, past, setting)
            data.sub_(diff)

    def solve(self, resume_file: _Path | None = None) -> None:
        """Trains to max_iter, from a solver state if one is given; then logs, tests and saves."""
        param = self.param
        self._log.line(Place.SOLVING, f"Solving {self.net._net.spec.name}")
        self._log.line(Place.POLICY, f"Learning Rate Policy: {param.lr_policy}")
        if resume_file is not None:
            self._log.line(
                Place.RESTORING,
                f"Restoring previous solver status from {os.fspath(resume_file)}",
            )
            self.restore(resume_file)
        start = self.iter
        self.step(param.max_iter - self.iter)
        if param.snapshot_after_train and not self._saves_now():
            self.snapshot()
        if self._displays():
            self._smooth(self._final_loss(), start)
            self._log.line(Place.FINAL_LOSS, f"Iteration {self.iter}, loss = {self._smoothed:g}")
        if self._tests_now():
            self._test_all()
        self._log.line(Place.OPTIMIZATION_DONE, "Optimization Done.")

    def _final_loss(self) -> float:
        """The loss of a forward pass after the last update."""
        return self.net._forward(0, len(self.net.layers) - 1)

    def _test_all(self) -> None:
        for index, net in enumerate(self.test_nets):
            self._log.line(Place.TESTING, f"Iteration {self.iter}, Testing net (#{index})")
            net.share_with(self.net)
            passes, loss = self.param.test_iter[index], 0.0
            sums: defaultdict[tuple[str, int], float] = defaultdict(float)
            for _ in range(passes):
                loss += net._forward(0, len(net.layers) - 1)
                for key, value in _outputs(net).items():
                    sums[key] += value
            if self.param.test_compute_loss and passes:
                self._log.line(Place.TEST_LOSS, f"Test loss: {loss / passes:g}")
            means = {key: value / passes for key, value in sums.items()}
            self._log_outputs("Test", net, means)

    def _log_outputs(self, what: str, net: Net, values: dict[tuple[str, int], Any]) -> None:
        self._log.outputs(what, net.blob_loss_weights, values)

    def snapshot(self) -> None:
        """Writes the weights and the solver's state as `<prefix>_iter_<iter>.*`."""
        model, state = snapshot_names(self.param, self.iter)
        hdf5 = model.endswith(".h5")
        self._log.snapshot(model, hdf5)
        suffix = "caffemodel.h5" if hdf5 else "caffemodel"
        methods.write(self.net, model, suffix, diffs=self.param.snapshot_diff)
        history = tuple(
            values.cpu().numpy().reshape(shape)
            for values, shape in zip(self._history, self._history_shapes, strict=True)
        )
        self._write_state(state, SolverState(self.iter, model, self._current_step, history))
        self._log.state(state, hdf5)

    def _write_state(self, path: str, state: SolverState) -> None:
        """Writes the solver's state; the weights are written already."""
        write_solver_state(path, state)

    def restore(self, state_file: _Path) -> None:
        """Resumes from a solver state, also one of Caffe, with the weights that it names.

        The weights are searched under that name, then in the folder of the state.

        Raises:
            FormatError: the state is broken.
            UsageError: it belongs to another net or another type of solver.
        """
        state = read_solver_state(state_file)
        found = [tuple(array.shape) for array in state.history]
        shapes = [tuple(values.shape) for values in self._history]
        kind = self.solver_type or self.param.type
        if why := why_not_histories(found, shapes, kind, len(self._learned)):
            raise UsageError(f"{os.fspath(state_file)}: {why}")
        if state.learned_net:
            self._restored_weights = _existing(state.learned_net, Path(state_file).parent)
            self.net.copy_from(self._restored_weights)
        self._log.line(Place.HISTORY, "SGDSolver: restoring history")
        self.iter, self._current_step = state.iter, state.current_step
        for tensor, array in zip(self._history, state.history, strict=True):
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(array)).view(tensor.shape))
        self._history_shapes = [tuple(array.shape) for array in state.history]


def _existing(name: str, folder: Path) -> str:
    near = folder / Path(name).name
    return os.fspath(near) if not os.path.exists(name) and near.exists() else name


def _outputs(net: Net) -> dict[tuple[str, int], float]:
    """(output, element) -> value."""
    return {
        (name, i): float(value)
        for name in net.outputs
        for i, value in enumerate(net.blobs[name].data.ravel())
    }


class SGDSolver(Solver):
    """Stochastic gradient descent with momentum; the prototxt's type is ignored."""

    solver_type = "SGD"


class NesterovSolver(SGDSolver):
    """Nesterov's accelerated gradient."""

    solver_type = "Nesterov"


class AdaGradSolver(SGDSolver):
    """AdaGrad."""

    solver_type = "AdaGrad"


class RMSPropSolver(SGDSolver):
    """RMSProp."""

    solver_type = "RMSProp"


class AdaDeltaSolver(SGDSolver):
    """AdaDelta."""

    solver_type = "AdaDelta"


class AdamSolver(SGDSolver):
    """Adam."""

    solver_type = "Adam"


_BY_TYPE = {
    kind.solver_type: kind
    for kind in (
        SGDSolver, NesterovSolver, AdaGradSolver, RMSPropSolver, AdaDeltaSolver, AdamSolver
    )
}  # fmt: skip


def get_solver(solver: _Path | caffe_pb2.SolverParameter) -> Solver:
    """Makes the solver that a prototxt or a message describes.

    Raises:
        FormatError: it is malformed.
        UsageError: its type is not known, or its nets are not as expected.
    """
    param = nets.read_param(solver)
    find_rule(param.type, 0)  # refuses an unknown type
    return _BY_TYPE[param.type](param)
