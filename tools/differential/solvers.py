"""Draws solvers: every type and policy, with the options that they read."""

from __future__ import annotations

import random
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.proto.printer import print_text
from caffe_port.solver.updates import POLICIES, RULES

_REGULARIZATIONS = ("L2", "L1")
_BATCHES = 3


@dataclass(frozen=True)
class SolverDraft:
    """A solver and what is done with it.

    Attributes:
        message: its options.
        steps: how many steps are made before the snapshot, and as many after it.
        batches: how many batches are fed in turn.
        filled: whether the parameters start as the fillers make them.
    """

    message: caffe_pb2.SolverParameter
    steps: int
    batches: int = _BATCHES
    filled: bool = False

    def text(self) -> str:
        """The solver as prototxt."""
        return print_text(self.message)


def draw_solver(rng: random.Random) -> SolverDraft:
    """A solver of a random type and policy."""
    message = caffe_pb2.SolverParameter(
        net="net.prototxt", snapshot_prefix="s", solver_mode=caffe_pb2.SolverParameter.CPU,
        max_iter=20, display=0, random_seed=rng.randrange(1, 10000),
    )  # fmt: skip
    message.type = rng.choice(sorted(RULES))
    rule = RULES[message.type]
    message.base_lr = rng.choice((0.1, 0.01, 0.001))
    if rule.momentum and rng.random() < 0.8:
        message.momentum = rng.choice((0.9, 0.5, 0.99))
    message.delta = rng.choice((1e-3, 1e-2, 0.1))
    if message.type == "RMSProp" and rng.random() < 0.7:
        message.rms_decay = rng.choice((0.9, 0.99, 0.5))
    if message.type == "Adam" and rng.random() < 0.7:
        message.momentum2 = rng.choice((0.999, 0.9))
    _set_policy(message, rng)
    if rng.random() < 0.6:
        message.weight_decay = rng.choice((0.0005, 0.01, 0.1))
        message.regularization_type = rng.choice(_REGULARIZATIONS)
    if rng.random() < 0.4:
        message.clip_gradients = rng.choice((0.01, 0.5, 5.0))
    if rng.random() < 0.4:
        message.iter_size = rng.choice((2, 3))
    if rng.random() < 0.3:
        message.average_loss = rng.choice((2, 5))
    formats = caffe_pb2.SolverParameter.SnapshotFormat
    message.snapshot_format = rng.choice((formats.Value("HDF5"), formats.Value("BINARYPROTO")))
    return SolverDraft(message, rng.randint(1, 3), filled=rng.random() < 0.3)


def _set_policy(message: caffe_pb2.SolverParameter, rng: random.Random) -> None:
    """Options that a policy does not read are given too: they must have no effect."""
    message.lr_policy = rng.choice(POLICIES)
    message.gamma = rng.choice((0.1, 0.5, 0.9))
    message.power = rng.choice((0.9, 0.5, 1.0, 2.0))
    message.stepsize = rng.choice((1, 2, 3))
    if message.lr_policy == "multistep" or rng.random() < 0.2:
        message.stepvalue.extend(sorted(rng.sample(range(1, 8), rng.randint(1, 3))))
