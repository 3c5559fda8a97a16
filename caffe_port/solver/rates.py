"""Learning rate policies.

Source: BVLC/caffe sgd_solver.cpp, GetLearningRate.
"""

from __future__ import annotations

import math

import numpy as np

from caffe_port.errors import UsageError
from caffe_port.proto import caffe_pb2

POLICIES = ("fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid")
# BVLC refuses a negative gamma for sigmoid too, where it lets the rate fall; DeepLab does not
_POWERS_OF_GAMMA = ("step", "exp", "inv", "multistep")


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
        current_step: how often the rate has been stepped.
    Returns:
        The rate, a float32 value, and the new current_step.
    Raises:
        UsageError: an unknown policy, or options that it refuses.
    """
    _check(param)
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


def _check(param: caffe_pb2.SolverParameter) -> None:
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
    except OverflowError:  # as C's functions have it; the loss shows it
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
        # float32 as upstream, but never below 0, where the power is not a number
        left = np.float32(1) - np.float32(iteration) / np.float32(param.max_iter)
        return float(max(left, np.float32(0)) ** np.float32(param.power))
    if policy == "sigmoid":
        return 1 / (1 + math.exp(-gamma * (iteration - param.stepsize)))
    return 1.0
