"""Learning rates, clipping, weight decay, and the update rule of each solver type.

Source: BVLC/caffe sgd_solver.cpp, and the files of the other solvers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from caffe_port.errors import UsageError
from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops import Shape

POLICIES = ("fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid")
# BVLC refuses a negative gamma for sigmoid too, with which the rate falls; DeepLab does not
_POWERS_OF_GAMMA = ("step", "exp", "inv", "multistep")
_PIECE = 2**17  # numbers; those of a parameter, its diff and its histories fit in a core's cache


def learning_rate(
    param: caffe_pb2.SolverParameter, iteration: int, current_step: int
) -> tuple[float, int]:
    """The rate of an iteration.

        step, multistep: base_lr gamma^current_step;  exp: base_lr gamma^iteration
        inv: base_lr (1 + gamma iteration)^-power;    poly: base_lr (1 - iteration/max_iter)^power
        sigmoid: base_lr / (1 + e^(-gamma (iteration - stepsize)))

    Args:
        param: the solver.
        iteration: from 0.
        current_step: how many steps of the rate were made.
    Returns:
        The rate, a float32 value, and the new current_step.
    Raises:
        UsageError: an unknown policy, or options that it refuses.
    Source: BVLC/caffe sgd_solver.cpp, GetLearningRate.
    """
    _check_rate(param)
    policy = param.lr_policy
    if policy == "step":
        current_step = iteration // param.stepsize
    elif policy == "multistep":
        steps = param.stepvalue
        # at most one step per iteration, also after a resumed or late start
        current_step += current_step < len(steps) and iteration >= steps[current_step]
    with np.errstate(over="ignore"):
        rate = np.float32(param.base_lr * _factor(param, iteration, current_step))
    return float(rate), current_step


def _check_rate(param: caffe_pb2.SolverParameter) -> None:
    policy = param.lr_policy
    if policy not in POLICIES:
        raise UsageError(f"lr_policy is '{policy}'; expected one of {', '.join(POLICIES)}")
    if policy in _POWERS_OF_GAMMA and param.gamma < 0:
        raise UsageError(f"lr_policy '{policy}' with gamma {param.gamma:g}; expected 0 or more")
    if policy in ("step", "sigmoid") and param.stepsize <= 0:
        message = f"lr_policy '{policy}' with stepsize {param.stepsize}; expected 1 or more"
        raise UsageError(message)


def _factor(param: caffe_pb2.SolverParameter, iteration: int, current_step: int) -> float:
    try:
        return _finite_factor(param, iteration, current_step)
    except OverflowError:  # infinite, as in C; the loss shows it
        return 0.0 if param.lr_policy == "sigmoid" else math.inf


def _finite_factor(param: caffe_pb2.SolverParameter, iteration: int, current_step: int) -> float:
    policy, gamma = param.lr_policy, param.gamma
    if policy in ("step", "multistep"):
        return float(gamma**current_step)
    if policy == "exp":
        return float(gamma**iteration)
    if policy == "inv":
        return float((1 + gamma * iteration) ** -param.power)
    if policy == "poly":
        # float32 as in Caffe, but never below 0, whose power is NaN
        left = np.float32(1) - np.float32(iteration) / np.float32(param.max_iter)
        return float(max(left, np.float32(0)) ** np.float32(param.power))
    if policy == "sigmoid":
        return 1 / (1 + math.exp(-gamma * (iteration - param.stepsize)))
    return 1.0


def clip(diffs: Sequence[Tensor], limit: float) -> tuple[float, float] | None:
    """Scales all diffs, in place, so that their common L2 norm is at most ``limit``.

    Args:
        diffs: of all learnable parameters, summed over iter_size passes.
        limit: clip_gradients; negative does nothing, and a norm that is NaN neither.
    Returns:
        The norm and the factor where they were scaled, else None.
    Source: BVLC/caffe sgd_solver.cpp, ClipGradients.
    """
    if limit < 0 or not diffs:
        return None
    norm = float(torch.stack([diff.flatten().dot(diff.flatten()) for diff in diffs]).sum().sqrt())
    if not norm > limit:  # NaN included
        return None
    for diff in diffs:
        diff.mul_(limit / norm)
    return norm, limit / norm


def regularize(diff: Tensor, data: Tensor, decay: float, kind: str) -> None:
    """Adds weight decay to a diff, in place: ``decay * w`` (L2) or ``decay * sign(w)`` (L1).

    Raises:
        UsageError: another regularization_type.
    Source: BVLC/caffe sgd_solver.cpp, Regularize.
    """
    if kind not in ("L1", "L2"):
        raise UsageError(f"regularization_type is '{kind}'; expected L1 or L2")
    if decay:
        diff.add_(data if kind == "L2" else data.sign(), alpha=decay)


def in_pieces(*tensors: Tensor) -> Iterator[list[Tensor]]:
    """Cuts tensors into pieces, so that an update works on a piece while it is in the cache.

    Args:
        tensors: contiguous, of equal size; on a GPU they are one piece.
    Yields:
        One flat view of each tensor.
    """
    flat = [tensor.view(-1) for tensor in tensors]
    piece = _PIECE if flat[0].device.type == "cpu" else max(len(flat[0]), 1)
    for start in range(0, len(flat[0]), piece):
        yield [tensor[start : start + piece] for tensor in flat]


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
        update: turns a diff, in place, into what is subtracted from the parameter, and updates the
            parameter's histories.
        histories: their number per parameter.
        momentum: whether the rule takes one.
    """

    update: Update
    histories: int = 1
    momentum: bool = True


def one_minus(value: float) -> float:
    """1 - value, rounded to float32 as in Caffe."""
    return float(np.float32(1) - np.float32(value))


def sgd(diff: Tensor, history: Sequence[Tensor], setting: Setting) -> None:
    """SGD with momentum: v = rate g + m v; w -= v.

    ``history`` is (v,).
    Source: BVLC/caffe sgd_solver.cpp, ComputeUpdateValue.
    """
    (velocity,) = history
    velocity.mul_(setting.momentum).add_(diff, alpha=setting.rate)
    diff.copy_(velocity)


def nesterov(diff: Tensor, history: Sequence[Tensor], setting: Setting) -> None:
    """Nesterov's accelerated gradient: v' = rate g + m v; w -= (1 + m) v' - m v.

    ``history`` is (v,).
    Source: BVLC/caffe nesterov_solver.cpp; Sutskever et al., ICML 2013.
    """
    (velocity,) = history
    before = velocity.clone()
    velocity.mul_(setting.momentum).add_(diff, alpha=setting.rate)
    diff.copy_(before.mul_(-setting.momentum).add_(velocity, alpha=1 + setting.momentum))


def adagrad(diff: Tensor, history: Sequence[Tensor], setting: Setting) -> None:
    """AdaGrad: h += g^2; w -= rate g / (sqrt(h) + delta).

    ``history`` is (h,).
    Source: BVLC/caffe adagrad_solver.cpp; Duchi et al., JMLR 2011.
    """
    (squares,) = history
    squares.add_(diff.square())
    diff.div_(squares.sqrt().add_(setting.delta)).mul_(setting.rate)


def rmsprop(diff: Tensor, history: Sequence[Tensor], setting: Setting) -> None:
    """RMSProp: h = d h + (1 - d) g^2; w -= rate g / (sqrt(h) + delta).

    ``history`` is (h,), d is rms_decay.
    Source: BVLC/caffe rmsprop_solver.cpp; Tieleman and Hinton, lecture 6.5, 2012.
    """
    (squares,) = history
    squares.mul_(setting.rms_decay).add_(diff.square(), alpha=one_minus(setting.rms_decay))
    diff.div_(squares.sqrt().add_(setting.delta)).mul_(setting.rate)


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


RULES = {
    "SGD": Rule(sgd),
    "Nesterov": Rule(nesterov),
    "AdaGrad": Rule(adagrad, momentum=False),
    "RMSProp": Rule(rmsprop, momentum=False),
    "AdaDelta": Rule(adadelta, histories=2),
    "Adam": Rule(adam, histories=2),
}


def find_rule(type: str, momentum: float) -> Rule:
    """Finds the rule of a solver type.

    Raises:
        UsageError: no such type, or a momentum that it does not take.
    """
    if type not in RULES:
        raise UsageError(f"solver type '{type}' is not known; known are {', '.join(RULES)}")
    if momentum and not RULES[type].momentum:
        raise UsageError(f"solver type {type} takes no momentum; found {momentum}")
    return RULES[type]


def why_not_histories(
    found: Sequence[Shape], wanted: Sequence[Shape], type: str, parameters: int
) -> str:
    """Why stored histories cannot be those of a solver; "" if they can.

    Args:
        found: the shapes of the stored histories.
        wanted: the shapes of the solver's own.
        type: the solver's type.
        parameters: the number of parameters it learns, each with as many histories as its rule has.
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
