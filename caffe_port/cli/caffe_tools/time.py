"""``caffe time``: how long each layer takes, forward and backward.

Source: BVLC/caffe tools/caffe.cpp, time.
"""

from __future__ import annotations

import time as clock
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from caffe_port.cli.caffe_tools._device import use_device
from caffe_port.cli.caffe_tools._net import build_net
from caffe_port.cli.gflags import Flags
from caffe_port.errors import UsageError
from caffe_port.solver.log import log as write

if TYPE_CHECKING:
    from caffe_port.live.net import Net


def _log(message: str) -> None:
    write(message, place="caffe.cpp:1")


def time(flags: Flags) -> None:
    """Times -model over -iterations passes."""
    if not flags.model:
        raise UsageError("Need a model definition to time: give -model")
    if flags.iterations < 1:
        raise UsageError(f"-iterations is {flags.iterations}; expected 1 or more")
    use_device(flags.gpu)
    net = build_net(flags, flags.phase or "TRAIN")
    last = len(net.layers) - 1
    _log("Performing Forward")
    _log(f"Initial loss: {net._forward(0, last):g}")
    _log("Performing Backward")
    net._backward(last, 0)
    _log("*** Benchmark begins ***")
    _log(f"Testing for {flags.iterations} iterations.")
    watch = _Watch(net)
    forward = backward = 0.0
    begin = clock.perf_counter()
    for i in range(flags.iterations):
        one = _took(lambda: net._forward(0, last))
        other = _took(lambda: net._backward(last, 0))
        forward, backward = forward + one, backward + other
        _log(f"Iteration: {i + 1} forward-backward time: {round(one + other)} ms.")
    total = 1000 * (clock.perf_counter() - begin)
    watch.log(flags.iterations)
    _log(f"Average Forward pass: {forward / flags.iterations:g} ms.")
    _log(f"Average Backward pass: {backward / flags.iterations:g} ms.")
    _log(f"Average Forward-Backward: {total / flags.iterations:g} ms.")
    _log(f"Total Time: {total:g} ms.")
    _log("*** Benchmark ends ***")


def _took(work: Callable[[], object]) -> float:
    """Milliseconds that something takes."""
    begin = clock.perf_counter()
    work()
    return 1000 * (clock.perf_counter() - begin)


class _Watch:
    """Times the layers of a net from now on."""

    def __init__(self, net: Net) -> None:
        self._names = [layer.prototxt_name for layer in net._net.spec.layers]
        self._sums: defaultdict[tuple[str, int], float] = defaultdict(float)
        self._begin = 0.0
        net.before_forward(self._start)
        net.after_forward(lambda layer: self._stop("forward", layer))
        net.before_backward(self._start)
        net.after_backward(lambda layer: self._stop("backward", layer))

    def _start(self, layer: int) -> None:
        self._begin = clock.perf_counter()

    def _stop(self, way: str, layer: int) -> None:
        self._sums[way, layer] += 1000 * (clock.perf_counter() - self._begin)

    def log(self, passes: int) -> None:
        """Writes each layer's averages."""
        _log("Average time per layer: ")
        for i, name in enumerate(self._names):
            for way in ("forward", "backward"):
                _log(f"{name:>10}\t{way}: {self._sums[way, i] / passes:g} ms.")
