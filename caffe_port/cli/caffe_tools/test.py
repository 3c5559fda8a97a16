"""``caffe test``: a net's outputs, batch by batch and on average.

Source: BVLC/caffe tools/caffe.cpp, test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from caffe_port.cli.caffe_tools._net import build_net
from caffe_port.cli.gflags import Flags
from caffe_port.errors import UsageError
from caffe_port.solver.log import log
from caffe_port.solver.places import Place

if TYPE_CHECKING:
    from caffe_port.live.net import Net


def test(flags: Flags) -> None:
    """Runs -model with -weights for -iterations batches."""
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
