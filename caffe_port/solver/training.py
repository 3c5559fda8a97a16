"""A training as the program ``caffe`` runs it: logged, watched, stopped by signals, resumed.

Source: BVLC/caffe solver.cpp, caffe.cpp.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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
from caffe_port.solver.log import WARNING, log
from caffe_port.solver.modes import LossScale, Modes, Residence
from caffe_port.solver.net_log import LoadLog
from caffe_port.solver.places import Place
from caffe_port.solver.segments import WholePass, why_not_fused
from caffe_port.solver.signals import EFFECTS, Requests, Step, Watcher, named
from caffe_port.solver.solver import Solver
from caffe_port.weights.hdf5 import check_names
from caffe_port.weights.solver_state import SolverState

_Path = str | os.PathLike[str]


class StoppedEarlyError(Exception):
    """A signal asked for the training's end."""


class Training(Solver):
    """A solver of any type that trains as the program does.

    Unlike a pycaffe solver it fills only the train net's output blobs, unless somebody has added
    callbacks, which may look into others.

    Args:
        solver: its prototxt, or its message.
        level, stages: NetState of the train net, added to the solver's train_state.
        requests: what signals ask for.
        watchers: who is told how it goes.
        keeps_run_state: whether a side file is written with each snapshot, and used where it is
            found, with which a resumed run draws what the unbroken one would have drawn; without
            it data and dropout start afresh, as upstream does.
        torch_dropout: draws dropout masks from torch's generator, which is quicker but not Caffe's.
        ranks: the processes that share each batch with this one; only the root logs and saves.
        modes: quicker or smaller ways to compute.
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
        self._pass: WholePass | None = None
        self._residence = self._make_residence()
        self._resumed: snapshot.Smoothing | None = None
        self._origin: int | None = None
        self._saved: int | None = None  # the iteration of the last snapshot
        self._scale = LossScale() if self._modes.amp == "fp16" else None
        self._run_state = snapshot.RunState(self._nets, self._scale)
        for net in self.test_nets:
            net.before_forward(self._heed_while_testing)

    def _seed(self) -> None:
        """Without a seed a drawn one, the root's, is set and logged."""
        seed = self.param.random_seed
        if seed < 0:
            seed = secrets.randbelow(2**31)
            seed = seed if self._ranks is None else self._ranks.from_root(seed)
            log(f"No random_seed given; drawn: {seed}. The run can be repeated with it.")
        mode.set_random_seed(seed)
        self._drawn = seed

    def _make_residence(self) -> Residence | None:
        if mode.device().type == "cpu":
            return None
        return Residence(self.net, self._learnable, self._history, mode.device())

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

        Caffe's lenient rule: what a file lacks keeps its value, what the net lacks is ignored.
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
        with self._alone_with_its_prefix():
            try:
                super().solve(resume_file)
            except StoppedEarlyError:
                self.stopped = True
                if self.param.snapshot_after_train and not self._saves_now():
                    self.snapshot()
                self._log.line(Place.STOPPED_EARLY, "Optimization stopped early.")

    def _alone_with_its_prefix(self) -> contextlib.AbstractContextManager[None]:
        """Another training to the same prefix would leave snapshots of which half is of each.

        Raises:
            OSError: no snapshot could be written, which is said before hours of training.
            UsageError: nor one in HDF5, for a layer's name.
        """
        saves = self.param.snapshot or self.param.snapshot_after_train
        if not saves or (self._ranks is not None and not self._ranks.is_root):
            return contextlib.nullcontext()
        prefix = self.param.snapshot_prefix
        expect_writable(f"{prefix}_iter_{self.param.max_iter}.solverstate")
        if self.param.snapshot_format == caffe_pb2.SolverParameter.HDF5:
            check_names([layer.prototxt_name for layer in self.net._net.spec.layers])
        folder, name = os.path.split(prefix)
        what, instead = "training to this prefix", "choose another one"
        return locked(Path(folder, f".{name}.lock"), f"snapshot_prefix {prefix}", what, instead)

    def step(self, iters: int) -> None:
        """Makes ``iters`` updates. Raises StoppedEarlyError where a signal asks for the end."""
        if self._resumed is None:
            self._origin = None  # average_loss starts afresh at each call
        if self._ranks is not None:
            self._ranks.check_equal(self._digest(), "the state it starts from")
        with self._on_its_device():
            super().step(iters)

    @contextlib.contextmanager
    def _on_its_device(self) -> Iterator[None]:
        """Steps on a GPU have everything there; where somebody looks in, layers are copied."""
        if self._residence is None or self._callbacks or why_not_fused(self.net):
            yield
            return
        self._residence.leave_home()
        try:
            yield
        finally:
            self._residence.come_home()

    def _test_all(self) -> None:
        if self._residence is not None:
            self._residence.write_home()
        super()._test_all()

    def _digest(self) -> int:
        found = self.iter
        for item in self._learnable:
            found = zlib.crc32(item.blob.data.data, found)
        return found

    def _clear_diffs(self) -> None:
        """Begins an iteration: through the whole net at once where nobody looks into it."""
        if self._callbacks or why_not_fused(self.net):
            if self._ranks is not None or self._modes != Modes():
                why = why_not_fused(self.net) or "callbacks of the solver read its blobs"
                what = "-amp, -channels_last, -compile, -checkpoint and several processes"
                raise UsageError(f"{what} do not go with this net: {why}")
            self._pass = None
            super()._clear_diffs()
        else:
            device = None if self._residence is None else self._residence.device
            self._pass = self._pass or WholePass(
                self.net, self._ranks, self._modes, device, self._scale
            )
            self._pass.clear()

    def _forward_backward(self) -> float:
        if self._pass is None:
            return super()._forward_backward()
        return self._pass.forward_backward()

    def _smooth(self, loss: float, start: int) -> None:
        if self._resumed is not None:
            self._losses, self._smoothed = list(self._resumed.losses), self._resumed.smoothed
            self._origin, self._resumed = self._resumed.start, None
        if self._origin is None:
            self._origin = start
        super()._smooth(loss, self._origin)

    def apply_update(self) -> None:
        """Updates the parameters, tells the watchers, and does what signals ask for."""
        if self._ranks is not None:
            self._ranks.sum_all([i.diff for i in self._learnable if i.lr_mult])
        iteration, rate = self.iter, self.lr
        if self._scale is None or self._scale.unscale([item.diff for item in self._learnable]):
            super().apply_update()
        else:
            log(f"Iteration {self.iter}: diffs beyond fp16; no update. "
                f"Loss scale {self._scale.scale:g}")  # fmt: skip
            self.iter += 1
        step = Step(iteration, self.param.max_iter, self._smoothed, rate)
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
        """What a signal asks for; one that came to any process is for all."""
        mine = self._requests.take()
        return mine if self._ranks is None else EFFECTS[self._ranks.max(EFFECTS.index(mine))]

    def _saves_now(self) -> bool:
        return bool(self.param.snapshot) and self.iter % self.param.snapshot == 0

    def _heed_while_testing(self, layer: int) -> None:
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
        """Writes weights, the side file unless it is not wanted, and the solver state.

        Raises:
            OSError: they cannot be written; the snapshot before is as it was.
        """
        if self._ranks is not None and not self._ranks.is_root:
            return
        if self._residence is not None:
            self._residence.write_home()
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
        """Writes the state last of all: where it is, the whole snapshot is."""
        if not self._keeps_run_state:
            super()._write_state(path, state)
            return
        start = self.iter if self._origin is None else self._origin
        smoothing = snapshot.Smoothing(tuple(self._losses), self._smoothed, start)
        with atomic_path(path) as whole:
            super()._write_state(os.fspath(whole), state)
            side = snapshot.path_of(path)
            self._run_state.write(side, whole, state.learned_net, smoothing)

    def restore(self, state_file: _Path) -> None:
        """Goes on from a solver state, and from the side file beside it where there is one.

        Raises:
            FormatError: a file is broken.
            UsageError: it is of another net, another type of solver, or other data.
        """
        super().restore(state_file)
        self._expect_all_weights(state_file)
        self._saved = self.iter
        side = snapshot.path_of(state_file)
        if not self._keeps_run_state:
            return
        if not Path(side).exists():
            log(
                f"No {side}: data, shuffles and dropout start afresh, as in Caffe, so this run "
                "differs from an unbroken one.", severity=WARNING,
            )  # fmt: skip
            return
        self._resumed = self._run_state.read(side, state_file, self._restored_weights)

    def _expect_all_weights(self, state_file: _Path) -> None:
        loaded = self.net._net.loaded
        if not self._restored_weights or loaded is None or loaded.missing:
            missing = "all" if loaded is None or not loaded.missing else ", ".join(loaded.missing)
            raise UsageError(
                f"{os.fspath(state_file)}: the weights it names, '{self._restored_weights}', lack "
                f"parameters of this net: {missing}; it is of another net"
            )
