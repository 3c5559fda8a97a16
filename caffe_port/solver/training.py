"""A training as the program ``caffe`` runs it: fused steps, signals, exact resuming, progress.

Source: BVLC/caffe solver.cpp, caffe.cpp.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from caffe_port.errors import UsageError
from caffe_port.files import atomic_path, expect_writable
from caffe_port.layers.neurons import Dropout
from caffe_port.live import mode
from caffe_port.live.net import Net
from caffe_port.locks import locked
from caffe_port.proto import caffe_pb2
from caffe_port.ranks import BatchRanks
from caffe_port.solver import nets, snapshot
from caffe_port.solver.log import WARNING, Place, log
from caffe_port.solver.modes import LossScale, Modes
from caffe_port.solver.net_log import LoadLog
from caffe_port.solver.progress import EFFECTS, Requests, TrainingStep, Watcher, named
from caffe_port.solver.solver import Solver, snapshot_names
from caffe_port.solver.step import DeviceCopy, FusedStep, why_not_fused
from caffe_port.weights.hdf5 import check_names
from caffe_port.weights.solver_state import SolverState

if TYPE_CHECKING:
    from caffe_port.solver.distributed import Turns

_Path = str | os.PathLike[str]


class StoppedEarlyError(Exception):
    """A signal asked for the end of the training."""


class Training(Solver):
    """A solver of any type that trains as the program does.

    Unlike a pycaffe solver it fills only the output blobs of the train net, except where callbacks
    were added or the net needs all blobs; see ``why_not_fused``.

    Args:
        solver: its prototxt, or its message.
        level, stages: NetState of the train net, added to the solver's train_state.
        requests: what signals ask for.
        watchers: objects that show or record the training.
        keeps_run_state: whether a run state file is written with each snapshot, and used if there
            is one, so that a resumed run draws what the uninterrupted one would have drawn; without
            it data and dropout restart, as in Caffe.
        torch_dropout: draws dropout masks from torch's generator, which is faster but not Caffe's.
        ranks: the processes that share each batch; only the root logs and saves.
        modes: faster or smaller ways to compute.
    Attributes:
        stopped: whether a signal ended the training.
    Raises:
        FormatError, UsageError: the solver or its nets are not as expected.
    Examples:
        >>> from pathlib import Path
        >>> from caffe_port.solver import Training
        >>> written = Path("net.prototxt").write_text(
        ...     'layer { name: "data" type: "DummyData" top: "x" top: "t" dummy_data_param { '
        ...     'shape { dim: 2 dim: 3 } shape { dim: 2 dim: 1 } } } '
        ...     'layer { name: "y" type: "InnerProduct" bottom: "x" top: "y" '
        ...     'inner_product_param { num_output: 1 } } '
        ...     'layer { name: "l" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "l" }'
        ... )
        >>> written = Path("solver.prototxt").write_text(
        ...     'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 2'
        ... )
        >>> training = Training("solver.prototxt")
        >>> training.solve()  # saves solver_iter_2.caffemodel
        >>> training.iter
        2
    """

    def __init__(
        self,
        solver: _Path | caffe_pb2.SolverParameter,
        *,
        level: int = 0,
        stages: Sequence[str] = (),
        requests: Requests | None = None,
        watchers: Sequence[Watcher] = (),
        keeps_run_state: bool = True,
        torch_dropout: bool = False,
        ranks: BatchRanks | None = None,
        modes: Modes | None = None,
    ) -> None:
        param = nets.read_param(solver)
        if level:
            param.train_state.level = level
        if stages:
            param.train_state.stage.extend(stages)
        self.stopped, self._ranks = False, ranks
        super().__init__(param)
        self._modes = modes or Modes()
        for remark in self._modes.remarks():
            log(remark)
        if self.net._net.spec.side_effects:
            log(f"The net is trained layer by layer: {why_not_fused(self.net)}.")
        self._requests, self._watchers = requests or Requests("none", "none"), watchers
        self._keeps_run_state = keeps_run_state
        if torch_dropout:
            self._use_torch_dropout()
        self._fused: FusedStep | None = None
        self._turns: Turns | None = None
        self._device_copy = self._make_device_copy()
        self._resumed: snapshot.Smoothing | None = None
        self._origin: int | None = None
        self._saved: int | None = None  # the iteration of the last snapshot
        self._scale = LossScale() if self._modes.amp == "fp16" else None
        self._run_state = snapshot.RunState(self._nets, self._scale)
        for net in self.test_nets:
            net.before_forward(self._handle_requests_in_tests)

    def _seed(self) -> None:
        """Without a random_seed, draws one, which the root logs."""
        seed = self.param.random_seed
        if seed < 0:
            seed = secrets.randbelow(2**31)
            seed = seed if self._ranks is None else self._ranks.from_root(seed)
            log(f"No random_seed given; drawn: {seed}. The run can be repeated with it.")
        mode.set_random_seed(seed)
        self._drawn = seed

    def _make_device_copy(self) -> DeviceCopy | None:
        if mode.device().type == "cpu":
            return None
        return DeviceCopy(self.net, self._learned, self._history, mode.device())

    @property
    def _nets(self) -> list[Net]:
        return [self.net, *self.test_nets]

    def _use_torch_dropout(self) -> None:
        torch.manual_seed(self._drawn)
        for module in self.net._net.modules():
            if isinstance(module, Dropout):
                module.random = None
        log("Dropout masks come from torch's generator: losses are not Caffe's, digit for digit.")

    def finetune(self, *files: _Path) -> None:
        """Loads weights, file after file, into the train net and the test nets.

        As in Caffe, parameters that a file lacks keep their values, and unknown ones are ignored.
        """
        logs = [LoadLog() for _ in self._nets]
        for weights in files:
            self._log.line(Place.FINETUNING, f"Finetuning from {os.fspath(weights)}")
            for net, load_log in zip(self._nets, logs, strict=True):
                net.copy_from(weights)
                load_log.loaded(net._net)
        for load_log in logs:
            load_log.finish()

    def solve(self, resume_file: _Path | None = None) -> None:
        """Trains to max_iter or until a signal asks for the end, then saves."""
        self.stopped = False
        with self._lock_prefix():
            try:
                super().solve(resume_file)
            except StoppedEarlyError:
                self.stopped = True
                if self.param.snapshot_after_train and not self._saves_now():
                    self.snapshot()
                self._log.line(Place.STOPPED_EARLY, "Optimization stopped early.")

    def _lock_prefix(self) -> contextlib.AbstractContextManager[None]:
        """Locks the snapshot prefix, so that two trainings do not mix their snapshots.

        Raises:
            OSError: snapshots cannot be written, which is reported before hours of training.
            UsageError: a layer's name cannot be written to HDF5, or another training has the lock.
        """
        saves = self.param.snapshot or self.param.snapshot_after_train
        if not saves or (self._ranks is not None and not self._ranks.is_root):
            return contextlib.nullcontext()
        prefix = self.param.snapshot_prefix
        expect_writable(snapshot_names(self.param, self.param.max_iter)[1])
        if self.param.snapshot_format == caffe_pb2.SolverParameter.HDF5:
            check_names([layer.prototxt_name for layer in self.net._net.spec.layers])
        folder, name = os.path.split(prefix)
        what, instead = "training to this prefix", "choose another one"
        return locked(Path(folder, f".{name}.lock"), f"snapshot_prefix {prefix}", what, instead)

    def step(self, iters: int) -> None:
        """Makes ``iters`` updates. Raises StoppedEarlyError where a signal asks for the end."""
        if self._resumed is None:
            self._origin = None  # average_loss restarts at each call
        if self._ranks is not None:
            self._ranks.check_equal(self._digest(), "the state it starts from")
        with self._on_device():
            super().step(iters)

    @contextlib.contextmanager
    def _on_device(self) -> Iterator[None]:
        """Keeps everything on the GPU during fused steps; otherwise layers copy what they need."""
        if self._device_copy is None or self._callbacks or why_not_fused(self.net):
            yield
            return
        self._device_copy.to_device()
        try:
            yield
        finally:
            self._device_copy.to_host()

    def _test_all(self) -> None:
        if self._device_copy is not None:
            self._device_copy.sync()
        super()._test_all()

    def _digest(self) -> int:
        found = self.iter
        for item in self._learned:
            found = zlib.crc32(item.blob.data.data, found)
        return found

    def _clear_diffs(self) -> None:
        """Begins an iteration, which is fused where possible."""
        if self._callbacks or why_not_fused(self.net):
            if self._ranks is not None or self._modes != Modes():
                why = why_not_fused(self.net) or "callbacks of the solver read its blobs"
                what = "-amp, -channels_last, -compile, -checkpoint and several processes"
                raise UsageError(f"{what} do not go with this net: {why}")
            self._fused = None
            super()._clear_diffs()
        else:
            self._fused = self._fused or self._make_fused()
            self._fused.clear()

    def _make_fused(self) -> FusedStep:
        device = None if self._device_copy is None else self._device_copy.device
        ranks, self._turns = self._ranks, None
        if ranks is not None:
            from caffe_port.solver.distributed import Turns

            net, passes = self.net._net, self.param.iter_size
            if Turns.possible(net, ranks, passes):
                self._turns, ranks = Turns(net, ranks, passes), None
                log(f"The {passes} passes of each iteration are shared, not their batches.")
        return FusedStep(self.net, ranks, self._modes, device, self._scale)

    def _forward_backward(self) -> float:
        if self._fused is None:
            return super()._forward_backward()
        if self._turns is None:
            return self._fused.forward_backward()
        loss = 0.0
        if self._turns.is_mine():
            loss = self._fused.forward_backward()
        else:
            self._turns.skip(mode.device())
        outputs = [torch.from_numpy(self.net.blobs[name].data) for name in self.net.outputs]
        return self._turns.finished(loss, outputs)

    def _final_loss(self) -> float:
        """That of all processes, each of which has read its part of the batch only."""
        if self._ranks is None or self._fused is None:
            return super()._final_loss()
        if self._turns is not None and not self._turns.is_mine():
            return 0.0  # which the root computes alone
        with self._on_device():
            return self._fused.forward()

    def _smooth(self, loss: float, start: int) -> None:
        if self._resumed is not None:
            self._losses, self._smoothed = list(self._resumed.losses), self._resumed.smoothed
            self._origin, self._resumed = self._resumed.start, None
        if self._origin is None:
            self._origin = start
        super()._smooth(loss, self._origin)

    def apply_update(self) -> None:
        """Updates the parameters, calls the watchers, and does what signals ask for."""
        if self._ranks is not None:
            self._ranks.sum_all([i.diff for i in self._learned if i.lr_mult])
        iteration, rate = self.iter, self.lr
        if self._scale is None or self._scale.unscale([item.diff for item in self._learned]):
            super().apply_update()
        else:
            log(f"Iteration {self.iter}: diffs beyond fp16; no update. "
                f"Loss scale {self._scale.scale:g}")  # fmt: skip
            self.iter += 1
        step = TrainingStep(iteration, self.param.max_iter, self._smoothed, rate)
        for watcher in self._watchers:
            watcher.step(step)
        request = self._take_request()
        due = self._saves_now()
        if request == "snapshot" and not due:
            self.snapshot()
        if request == "stop":
            if due:
                self.snapshot()
            raise StoppedEarlyError

    def _take_request(self) -> str:
        """What a signal asks for, whichever process received it."""
        mine = self._requests.take()
        return mine if self._ranks is None else EFFECTS[self._ranks.max(EFFECTS.index(mine))]

    def _handle_requests_in_tests(self, layer: int) -> None:
        while layer == 0 and (request := self._take_request()) != "none":
            if request == "snapshot":
                self.snapshot()
            else:
                self._log.line(Place.TEST_INTERRUPTED, "Test interrupted.")
                raise StoppedEarlyError

    def _log_outputs(self, what: str, net: Net, values: dict[tuple[str, int], Any]) -> None:
        super()._log_outputs(what, net, values)
        which = what.lower()
        if len(self.test_nets) > 1 and net is not self.net:
            which += f" {self.test_nets.index(net)}"
        for watcher in self._watchers:
            watcher.outputs(which, self.iter, named(values))

    def snapshot(self) -> None:
        """Writes the weights, the run state file if it is wanted, and the solver state.

        Raises:
            OSError: they cannot be written; the previous snapshot is unchanged.
        """
        if self._ranks is not None and not self._ranks.is_root:
            return
        if self._device_copy is not None:
            self._device_copy.sync()
        try:
            super().snapshot()
        except OSError as error:
            before = "no other" if self._saved is None else f"one of iteration {self._saved}"
            message = (
                f"the snapshot of iteration {self.iter} cannot be written: "
                f"{error.strerror or error}; there is {before}"
            )
            raise OSError(error.errno, message, self.param.snapshot_prefix) from error
        self._saved = self.iter
        for watcher in self._watchers:
            watcher.saved()

    def _write_state(self, path: str, state: SolverState) -> None:
        """Writes the state last: if it exists, the snapshot is complete."""
        if not self._keeps_run_state:
            super()._write_state(path, state)
            return
        start = self.iter if self._origin is None else self._origin
        smoothing = snapshot.Smoothing(tuple(self._losses), self._smoothed, start)
        with atomic_path(path) as whole:
            super()._write_state(os.fspath(whole), state)
            self._run_state.write(snapshot.path_of(path), whole, state.learned_net, smoothing)

    def restore(self, state_file: _Path) -> None:
        """Resumes from a solver state, and from the run state file next to it if there is one.

        Raises:
            FormatError: a file is malformed.
            UsageError: it belongs to another net, another type of solver, or other data.
        """
        super().restore(state_file)
        self._expect_all_weights(state_file)
        self._saved = self.iter
        path = snapshot.path_of(state_file)
        if not self._keeps_run_state:
            return
        if not Path(path).exists():
            log(
                f"No {path}: data, shuffles and dropout restart, as in Caffe, so this run differs "
                "from an uninterrupted one.", severity=WARNING,
            )  # fmt: skip
            return
        self._resumed = self._run_state.read(path, state_file, self._restored_weights)

    def _expect_all_weights(self, state_file: _Path) -> None:
        loaded = self.net._net.loaded
        if not self._restored_weights or loaded is None or loaded.missing:
            missing = "all" if loaded is None or not loaded.missing else ", ".join(loaded.missing)
            raise UsageError(
                f"{os.fspath(state_file)}: the weights it names, '{self._restored_weights}', lack "
                f"parameters of this net: {missing}; they belong to another net"
            )
