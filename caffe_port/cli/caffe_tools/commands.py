"""`caffe train`, `test`, `time` and `device_query`."""

from __future__ import annotations

import time as clock
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

import numpy as np

from caffe_port.cli.caffe_tools._program import (
    allow,
    build_net,
    gpu_ids,
    log_device,
    stages,
    use_device,
)
from caffe_port.cli.gflags import Flags
from caffe_port.errors import UsageError
from caffe_port.solver.log import ERROR, WARNING, Place, log, set_min_level

if TYPE_CHECKING:
    from caffe_port.live.net import Net
    from caffe_port.solver.modes import Modes
    from caffe_port.solver.progress import Watcher


def device_query(flags: Flags) -> None:
    """Logs the properties of the GPUs that -gpu names, or that there are none."""
    import torch

    log(f"Querying GPUs {flags.gpu}", place="caffe.cpp:138")
    count = torch.cuda.device_count()
    if not count:
        log("torch finds no GPU here.", place="common.cpp:1")
        return
    for number in gpu_ids(flags.gpu):
        if not 0 <= number < count:
            raise UsageError(f"-gpu {number}: there are {count} GPUs, numbered from 0")
        found = torch.cuda.get_device_properties(number)
        log(f"Device id:                     {number}", place="common.cpp:178")
        log(f"Major revision number:         {found.major}", place="common.cpp:179")
        log(f"Minor revision number:         {found.minor}", place="common.cpp:180")
        log(f"Name:                          {found.name}", place="common.cpp:181")
        log(f"Total global memory:           {found.total_memory}", place="common.cpp:182")
        log(f"Number of multiprocessors:     {found.multi_processor_count}", place="common.cpp:199")


def test(flags: Flags) -> None:
    """Logs the outputs of -model with -weights for -iterations batches, and their means.

    Source: BVLC/caffe tools/caffe.cpp, test.
    """
    if not flags.model:
        raise UsageError("Need a model definition to score: give -model")
    if not flags.weights:
        raise UsageError("Need model weights to score: give -weights")
    if flags.iterations < 1:
        raise UsageError(f"-iterations is {flags.iterations}; expected 1 or more")
    from caffe_port.solver.net_log import LoadLog

    net = build_net(flags, "TEST", "TEST")
    load_log = LoadLog()
    for weights in flags.weights.split(","):
        net.copy_from(weights)
        load_log.loaded(net._net)
    load_log.finish()
    dialect = net._net.spec.dialect
    log(f"Running for {flags.iterations} iterations.", place=Place.RUNNING.of(dialect))
    _score(net, flags.iterations)


def _score(net: Net, iterations: int) -> None:
    count, dialect = len(net.layers), net._net.spec.dialect
    names: list[str] = []
    scores, loss = np.zeros(1, np.float32), np.float32(0)
    for i in range(iterations):
        loss += np.float32(net._forward(0, count - 1))
        outputs = {name: net.blobs[name].data.ravel() for name in net.outputs}
        names = [name for name, values in outputs.items() for _ in values]
        batch = np.concatenate(list(outputs.values())) if outputs else np.zeros(0, np.float32)
        for name, score in zip(names, batch, strict=True):
            log(f"Batch {i}, {name} = {score:g}", place=Place.BATCH.of(dialect))
        scores = scores + batch
    log(f"Loss: {loss / np.float32(iterations):g}", place=Place.TESTED_LOSS.of(dialect))
    weights = net.blob_loss_weights
    for name, mean in zip(names, scores / np.float32(iterations), strict=True):
        weight = weights[name]
        part = f" (* {weight:g} = {weight * mean:g} loss)" if weight else ""
        log(f"{name} = {mean:g}{part}", place=Place.TESTED_OUTPUT.of(dialect))


def time(flags: Flags) -> None:
    """Logs the time of each layer of -model over -iterations passes.

    Source: BVLC/caffe tools/caffe.cpp, time.
    """
    if not flags.model:
        raise UsageError("Need a model definition to time: give -model")
    if flags.iterations < 1:
        raise UsageError(f"-iterations is {flags.iterations}; expected 1 or more")
    _Timing(build_net(flags, flags.phase or "TRAIN", "TIME")).run(flags.iterations)


class _Timing:
    """Times the passes of a net, and logs them as Caffe does."""

    def __init__(self, net: Net) -> None:
        self._net, self._dialect = net, net._net.spec.dialect
        self._last = len(net.layers) - 1

    def _log(self, place: Place, message: str) -> None:
        log(message, place=place.of(self._dialect))

    def _forward(self) -> float:
        return self._net._forward(0, self._last)

    def _backward(self) -> None:
        self._net._backward(self._last, 0)

    def run(self, iterations: int) -> None:
        """Runs the net once, then ``iterations`` times with timing."""
        self._log(Place.PERFORMING_FORWARD, "Performing Forward")
        self._log(Place.INITIAL_LOSS, f"Initial loss: {self._forward():g}")
        self._log(Place.PERFORMING_BACKWARD, "Performing Backward")
        self._backward()
        self._log(Place.BENCHMARK_BEGINS, "*** Benchmark begins ***")
        self._log(Place.TIMING, f"Testing for {iterations} iterations.")
        times = _LayerTimes(self._net)
        forward = backward = 0.0
        begin = clock.perf_counter()
        for i in range(iterations):
            one, other = _took(self._forward), _took(self._backward)
            forward, backward = forward + one, backward + other
            took = f"Iteration: {i + 1} forward-backward time: {round(one + other)} ms."
            self._log(Place.TIMED_ITERATION, took)
        total = 1000 * (clock.perf_counter() - begin)
        self._per_layer(times, iterations)
        self._log(Place.AVERAGE_FORWARD, f"Average Forward pass: {forward / iterations:g} ms.")
        self._log(Place.AVERAGE_BACKWARD, f"Average Backward pass: {backward / iterations:g} ms.")
        self._log(Place.AVERAGE_BOTH, f"Average Forward-Backward: {total / iterations:g} ms.")
        self._log(Place.TOTAL_TIME, f"Total Time: {total:g} ms.")
        self._log(Place.BENCHMARK_ENDS, "*** Benchmark ends ***")

    def _per_layer(self, times: _LayerTimes, passes: int) -> None:
        self._log(Place.TIME_PER_LAYER, "Average time per layer: ")
        for i, layer in enumerate(self._net._net.spec.layers):
            for way, place in (
                ("forward", Place.LAYER_FORWARD), ("backward", Place.LAYER_BACKWARD)
            ):  # fmt: skip
                average = times.sums[way, i] / passes
                self._log(place, f"{layer.prototxt_name:>10}\t{way}: {average:g} ms.")


def _took(work: Callable[[], object]) -> float:
    """Milliseconds that a call takes."""
    begin = clock.perf_counter()
    work()
    return 1000 * (clock.perf_counter() - begin)


class _LayerTimes:
    """Measures the time of each layer of a net.

    Attributes:
        sums: (forward or backward, layer's index) -> total milliseconds.
    """

    def __init__(self, net: Net) -> None:
        self.sums: defaultdict[tuple[str, int], float] = defaultdict(float)
        self._begin = 0.0
        net.before_forward(self._start)
        net.after_forward(lambda layer: self._stop("forward", layer))
        net.before_backward(self._start)
        net.after_backward(lambda layer: self._stop("backward", layer))

    def _start(self, layer: int) -> None:
        self._begin = clock.perf_counter()

    def _stop(self, way: str, layer: int) -> None:
        self.sums[way, layer] += 1000 * (clock.perf_counter() - self._begin)


def train(flags: Flags) -> None:
    """Trains the net of -solver, from -snapshot or -weights if one is given.

    Source: BVLC/caffe tools/caffe.cpp, train.
    """
    if not flags.solver:
        raise UsageError("Need a solver definition to train: give -solver")
    if flags.snapshot and flags.weights:
        raise UsageError("Give a snapshot to resume training or weights to finetune but not both.")
    from caffe_port.ranks import training_ranks
    from caffe_port.solver import nets
    from caffe_port.solver.progress import Requests
    from caffe_port.solver.training import Training

    requests = Requests(flags.sigint_effect, flags.sighup_effect)
    modes = _modes(flags)
    gpu = use_device(_gpu(flags))
    allow(flags)
    with ExitStack() as stack:
        ranks = stack.enter_context(training_ranks())
        if ranks is not None and not ranks.is_root:
            set_min_level(ERROR)
        watchers = [] if ranks and not ranks.is_root else _watchers(flags, stack)
        if flags.skip_bad_images:
            stack.enter_context(_skipping_bad_images())
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
def _skipping_bad_images() -> Iterator[None]:
    """Logs each skipped image once and, at any end of the training, their number."""
    from caffe_port.data.list_file import skipping_bad_images

    with skipping_bad_images(lambda wrong: log(f"Skipped: {wrong}", WARNING)) as skipped:
        try:
            yield
        finally:
            log(skipped.summary(), place="caffe.cpp:1")


def _gpu(flags: Flags) -> str:
    """The GPU to use; with several GPUs, starts one process for each."""
    import torch

    from caffe_port.cli.caffe_tools._program import run_on
    from caffe_port.ranks import is_one_of_several

    flag: str = flags.gpu or _own_gpu(flags.solver)
    gpus = gpu_ids(flag)
    if len(gpus) < 2 or is_one_of_several():
        return flag
    if torch.cuda.is_available():
        run_on(gpus)
    return str(gpus[0])


def _own_gpu(solver: str) -> str:
    """The GPU that a solver's prototxt selects, in the form of -gpu."""
    from caffe_port.proto import caffe_pb2, read_solver

    param = read_solver(solver)
    on_gpu = param.HasField("solver_mode") and param.solver_mode == caffe_pb2.SolverParameter.GPU
    return str(max(param.device_id, 0)) if on_gpu else ""


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
