"""Update rules of Caffe's solvers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from caffe_port.errors import UsageError
from caffe_port.spec.ops import Shape

# What an update rule is.


@dataclass(frozen=True)
class Setting:
    """Numbers of one update.

    Attributes:
        rate: the learning rate times the parameter's lr_mult.
        momentum, momentum2, delta, rms_decay: of the solver.
        iteration: from 0.
    """

    rate: float
    momentum: float
    momentum2: float
    delta: float
    rms_decay: float
    iteration: int


Update = Callable[[Tensor, Sequence[Tensor], Setting], None]


@dataclass(frozen=True)
class Rule:
    """An update rule.

    Attributes:
        update: turns a diff, in place, into what is subtracted from the parameter, and brings the
            parameter's histories up to date.
        histories: how many there are per parameter.
        momentum: whether the rule has one; it is refused where it has not.
    """

    update: Update
    histories: int = 1
    momentum: bool = True


def one_minus(value: float) -> float:
    """1 - value, rounded to float32 as upstream has it."""
    return float(np.float32(1) - np.float32(value))


def sgd(diff: Tensor, history: Sequence[Tensor], setting: Setting) -> None:
    """SGD with momentum: v = rate g + m v; w -= v.

    ``history`` is (v,).
    Source: BVLC/caffe sgd_solver.cpp, ComputeUpdateValue.
    """
    (velocity,) = history
    velocity.mul_(setting.momentum).add_(diff, alpha=setting.rate)
    diff.copy_(velocity)


_SGD = Rule(sgd)


def nesterov(diff: Tensor, history: Sequence[Tensor], setting: Setting) -> None:
    """Nesterov's accelerated gradient: v' = rate g + m v; w -= (1 + m) v' - m v.

    ``history`` is (v,).
    Source: BVLC/caffe nesterov_solver.cpp; Sutskever et al., ICML 2013.
    """
    (velocity,) = history
    before = velocity.clone()
    velocity.mul_(setting.momentum).add_(diff, alpha=setting.rate)
    diff.copy_(before.mul_(-setting.momentum).add_(velocity, alpha=1 + setting.momentum))


_NESTEROV = Rule(nesterov)


def adagrad(diff: Tensor, history: Sequence[Tensor], setting: Setting) -> None:
    """AdaGrad: h += g^2; w -= rate g / (sqrt(h) + delta).

    ``history`` is (h,).
    Source: BVLC/caffe adagrad_solver.cpp; Duchi et al., JMLR 2011.
    """
    (squares,) = history
    squares.add_(diff.square())
    diff.div_(squares.sqrt().add_(setting.delta)).mul_(setting.rate)


_ADAGRAD = Rule(adagrad, momentum=False)


def rmsprop(diff: Tensor, history: Sequence[Tensor], setting: Setting) -> None:
    """RMSProp: h = d h + (1 - d) g^2; w -= rate g / (sqrt(h) + delta).

    ``history`` is (h,), d is rms_decay.
    Source: BVLC/caffe rmsprop_solver.cpp; Tieleman and Hinton, lecture 6.5, 2012.
    """
    (squares,) = history
    squares.mul_(setting.rms_decay).add_(diff.square(), alpha=one_minus(setting.rms_decay))
    diff.div_(squares.sqrt().add_(setting.delta)).mul_(setting.rate)


_RMSPROP = Rule(rmsprop, momentum=False)


def adadelta(diff: Tensor, history: Sequence[Tensor], setting: Setting) -> None:
    """AdaDelta: h = m h + (1-m) g^2; u = g sqrt((delta + k) / (delta + h)); k = m k + (1-m) u^2;
    w -= rate u.

    ``history`` is (h, k), m is momentum.
    Source: BVLC/caffe adadelta_solver.cpp; Zeiler, arXiv:1212.5701.
    """
    squares, updates = history
    rest = one_minus(setting.momentum)
    squares.mul_(setting.momentum).add_(diff.square(), alpha=rest)
    diff.mul_(((updates + setting.delta) / (squares + setting.delta)).sqrt_())
    updates.mul_(setting.momentum).add_(diff.square(), alpha=rest)
    diff.mul_(setting.rate)


_ADADELTA = Rule(adadelta, histories=2)


def adam(diff: Tensor, history: Sequence[Tensor], setting: Setting) -> None:
    """Adam: m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
    w -= rate sqrt(1 - b2^t) / (1 - b1^t) m /
    (sqrt(v) + delta), t from 1.

    ``history`` is (m, v), b1 is momentum, b2 momentum2.
    Source: BVLC/caffe adam_solver.cpp; Kingma and Ba, arXiv:1412.6980.
    """
    mean, squares = history
    mean.mul_(setting.momentum).add_(diff, alpha=one_minus(setting.momentum))
    squares.mul_(setting.momentum2).add_(diff.square(), alpha=one_minus(setting.momentum2))
    t = setting.iteration + 1
    correction = math.sqrt(1 - setting.momentum2**t) / (1 - setting.momentum**t)
    diff.copy_(mean / squares.sqrt().add_(setting.delta)).mul_(setting.rate * correction)


_ADAM = Rule(adam, histories=2)


__all__ = ["RULES", "Rule", "Setting", "find_rule", "why_not"]

RULES = {
    "SGD": _SGD,
    "Nesterov": _NESTEROV,
    "AdaGrad": _ADAGRAD,
    "RMSProp": _RMSPROP,
    "AdaDelta": _ADADELTA,
    "Adam": _ADAM,
}


def find_rule(type: str, momentum: float) -> Rule:
    """The rule of a solver type.

    Raises:
        UsageError: no such type, or a momentum that it does not take.
    """
    if type not in RULES:
        raise UsageError(f"solver type '{type}' is not known; known are {', '.join(RULES)}")
    if momentum and not RULES[type].momentum:
        raise UsageError(f"solver type {type} takes no momentum; found {momentum}")
    return RULES[type]


def why_not(found: Sequence[Shape], wanted: Sequence[Shape], type: str, parameters: int) -> str:
    """Why stored histories cannot be those of a solver; "" if they can.

    Args:
        found: their shapes.
        wanted: those of the solver's own.
        type: the solver's.
        parameters: how many it learns; of each there are as many histories as its rule has.
    """
    each = {name: rule.histories for name, rule in RULES.items()}
    others = [name for name in RULES if each[name] * parameters == len(found) != len(wanted)]
    if others:
        return (
            f"{len(found)} histories for {parameters} parameters, as {' or '.join(others)} has; "
            f"the solver's type is {type}, which has {len(wanted)}: give it that training's type"
        )
    if len(found) != len(wanted):
        return f"{len(found)} histories, the solver has {len(wanted)}: the state of another net"
    for index, (shape, own) in enumerate(zip(found, wanted, strict=True)):
        if math.prod(shape) != math.prod(own):
            return f"history {index} is {shape}, its parameter {own}: the state of another net"
    return ""
