"""``caffe time``: how long each layer takes, forward and backward.

Source: BVLC/caffe tools/caffe.cpp, time.
"""

from __future__ import annotations

import time as clock
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from caffe_port.cli.caffe_tools._net import build_net
from caffe_port.cli.gflags import Flags
from caffe_port.errors import UsageError
from caffe_port.solver.log import log
from caffe_port.solver.places import Place

if TYPE_CHECKING:
    from caffe_port.live.net import Net


def time(flags: Flags) -> None:
    """Times -model over -iterations passes."""
    if not flags.model:
        raise UsageError("Need a model definition to time: give -model")
    if flags.iterations < 1:
        raise UsageError(f"-iterations is {flags.iterations}; expected 1 or more")
    _Timing(build_net(flags, flags.phase or "TRAIN", "TIME")).run(flags.iterations)


class _Timing:
    """Times the passes of a net, and says what Caffe says of them."""

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
        """Runs the net once, then so many times with the watch."""
        self._log(Place.PERFORMING_FORWARD, "Performing Forward")
        self._log(Place.INITIAL_LOSS, f"Initial loss: {self._forward():g}")
        self._log(Place.PERFORMING_BACKWARD, "Performing Backward")
        self._backward()
        self._log(Place.BENCHMARK_BEGINS, "*** Benchmark begins ***")
        self._log(Place.TIMING, f"Testing for {iterations} iterations.")
        watch = _Watch(self._net)
        forward = backward = 0.0
        begin = clock.perf_counter()
        for i in range(iterations):
            one, other = _took(self._forward), _took(self._backward)
            forward, backward = forward + one, backward + other
            took = f"Iteration: {i + 1} forward-backward time: {round(one + other)} ms."
            self._log(Place.TIMED_ITERATION, took)
        total = 1000 * (clock.perf_counter() - begin)
        self._per_layer(watch, iterations)
        self._log(Place.AVERAGE_FORWARD, f"Average Forward pass: {forward / iterations:g} ms.")
        self._log(Place.AVERAGE_BACKWARD, f"Average Backward pass: {backward / iterations:g} ms.")
        self._log(Place.AVERAGE_BOTH, f"Average Forward-Backward: {total / iterations:g} ms.")
        self._log(Place.TOTAL_TIME, f"Total Time: {total:g} ms.")
        self._log(Place.BENCHMARK_ENDS, "*** Benchmark ends ***")

    def _per_layer(self, watch: _Watch, passes: int) -> None:
        self._log(Place.TIME_PER_LAYER, "Average time per layer: ")
        for i, layer in enumerate(self._net._net.spec.layers):
            for way, place in (
                ("forward", Place.LAYER_FORWARD), ("backward", Place.LAYER_BACKWARD)
            ):  # fmt: skip
                average = watch.sums[way, i] / passes
                self._log(place, f"{layer.prototxt_name:>10}\t{way}: {average:g} ms.")


def _took(work: Callable[[], object]) -> float:
    """Milliseconds that something takes."""
    begin = clock.perf_counter()
    work()
    return 1000 * (clock.perf_counter() - begin)


class _Watch:
    """Times the layers of a net from now on.

    Attributes:
        sums: (forward or backward, layer's index) -> milliseconds in all.
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
