"""``caffe train``: trains or fine-tunes a net.

Source: BVLC/caffe tools/caffe.cpp, train.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from caffe_port.cli.caffe_tools._net import allow, gpu_ids, log_device, stages, use_device
from caffe_port.cli.gflags import Flags
from caffe_port.errors import UsageError
from caffe_port.solver.log import ERROR, WARNING, log, set_min_level
from caffe_port.solver.places import Place

if TYPE_CHECKING:
    from caffe_port.solver.modes import Modes
    from caffe_port.solver.signals import Watcher


def train(flags: Flags) -> None:
    """Trains what -solver describes, from -snapshot or -weights if one is given."""
    if not flags.solver:
        raise UsageError("Need a solver definition to train: give -solver")
    if flags.snapshot and flags.weights:
        raise UsageError("Give a snapshot to resume training or weights to finetune but not both.")
    from caffe_port.solver import nets
    from caffe_port.solver.distributed import joined
    from caffe_port.solver.signals import Requests
    from caffe_port.solver.training import Training

    requests = Requests(flags.sigint_effect, flags.sighup_effect)
    modes = _modes(flags)
    gpu = use_device(_gpu(flags))
    allow(flags)
    with ExitStack() as stack:
        ranks = stack.enter_context(joined())
        if ranks is not None and not ranks.is_root:
            set_min_level(ERROR)
        watchers = [] if ranks and not ranks.is_root else _watchers(flags, stack)
        if flags.skip_bad_images:
            stack.enter_context(_passing_over())
        stack.enter_context(requests.listening())
        param = nets.read_param(flags.solver)
        dialect = nets.dialect(param)
        log_device(gpu, "TRAIN", dialect)
        training = Training(
            param, level=flags.level, stages=stages(flags), requests=requests,
            watchers=watchers, keeps_run_state=flags.runstate, torch_dropout=flags.torch_dropout,
            ranks=ranks, modes=modes,
        )  # fmt: skip
        if flags.snapshot:
            log(f"Resuming from {flags.snapshot}", place=Place.RESUMING.of(dialect))
            training.restore(flags.snapshot)
        if flags.weights:
            training.finetune(*flags.weights.split(","))
        log("Starting Optimization", place=Place.STARTING.of(dialect))
        training.solve()
        log("Optimization Done.", place=Place.TRAINED.of(dialect))


def _modes(flags: Flags) -> Modes:
    from caffe_port.solver.modes import Modes

    return Modes(flags.amp, flags.channels_last, flags.compile, flags.checkpoint)


@contextmanager
def _passing_over() -> Iterator[None]:
    """Logs each bad image once and, however the training ends, how many were passed over."""
    from caffe_port.data.list_file import passing_over

    with passing_over(lambda wrong: log(f"Passed over: {wrong}", WARNING)) as passed:
        try:
            yield
        finally:
            log(passed.summary(), place="caffe.cpp:1")


def _gpu(flags: Flags) -> str:
    """The GPU to use; of several, each gets a process of its own, where there are any."""
    import torch

    from caffe_port.cli.caffe_tools._program import run_on
    from caffe_port.solver.distributed import is_one_of_several

    flag: str = flags.gpu or _own_gpu(flags.solver)
    gpus = gpu_ids(flag)
    if len(gpus) < 2 or is_one_of_several():
        return flag
    if torch.cuda.is_available():
        run_on(gpus)
    return str(gpus[0])


def _own_gpu(solver: str) -> str:
    """The GPU that a solver asks for itself, as -gpu would."""
    from caffe_port.proto import caffe_pb2, read_solver

    param = read_solver(solver)
    wants = param.HasField("solver_mode") and param.solver_mode == caffe_pb2.SolverParameter.GPU
    return str(max(param.device_id, 0)) if wants else ""


def _watchers(flags: Flags, stack: ExitStack) -> list[Watcher]:
    from caffe_port.solver.progress import Curves, TensorBoard, shown_live

    watchers: list[Watcher] = []
    if flags.plot:
        watchers.append(stack.enter_context(closing(Curves(flags.plot))))
    if flags.tensorboard:
        watchers.append(stack.enter_context(closing(TensorBoard(flags.tensorboard))))
    if (live := stack.enter_context(shown_live())) is not None:
        watchers.append(live)
    return watchers
