"""Update rules: two steps of each from its formula, in plain Python."""

import math
from collections.abc import Callable

import pytest
import torch

from caffe_port.errors import UsageError
from caffe_port.solver.updates import RULES, Setting, find_rule

RATE, M, M2, DELTA, D = 0.1, 0.9, 0.99, 1e-3, 0.8
History = list[float]


def sgd(g: float, h: History, t: int) -> float:
    h[0] = RATE * g + M * h[0]
    return h[0]


def nesterov(g: float, h: History, t: int) -> float:
    before, h[0] = h[0], RATE * g + M * h[0]
    return (1 + M) * h[0] - M * before


def adagrad(g: float, h: History, t: int) -> float:
    h[0] += g * g
    return RATE * g / (math.sqrt(h[0]) + DELTA)


def rmsprop(g: float, h: History, t: int) -> float:
    h[0] = D * h[0] + (1 - D) * g * g
    return RATE * g / (math.sqrt(h[0]) + DELTA)


def adadelta(g: float, h: History, t: int) -> float:
    h[0] = M * h[0] + (1 - M) * g * g
    u = g * math.sqrt((DELTA + h[1]) / (DELTA + h[0]))
    h[1] = M * h[1] + (1 - M) * u * u
    return RATE * u


def adam(g: float, h: History, t: int) -> float:
    h[0], h[1] = M * h[0] + (1 - M) * g, M2 * h[1] + (1 - M2) * g * g
    return RATE * math.sqrt(1 - M2**t) / (1 - M**t) * h[0] / (math.sqrt(h[1]) + DELTA)


FORMULAS = {
    "SGD": sgd, "Nesterov": nesterov, "AdaGrad": adagrad, "RMSProp": rmsprop,
    "AdaDelta": adadelta, "Adam": adam,
}  # fmt: skip


@pytest.mark.parametrize(("type", "formula"), FORMULAS.items())
def test_three_steps(type: str, formula: Callable[[float, History, int], float]) -> None:
    rule = RULES[type]
    history, wanted = [torch.zeros(2) for _ in range(rule.histories)], [[0.0, 0.0], [0.0, 0.0]]
    for iteration, gradients in enumerate(([1.0, -2.0], [0.5, 3.0], [0.0, -1.0])):
        diff = torch.tensor(gradients)
        rule.update(diff, history, Setting(RATE, M, M2, DELTA, D, iteration))
        expected = [formula(g, wanted[i], iteration + 1) for i, g in enumerate(gradients)]
        assert diff.tolist() == pytest.approx(expected, rel=1e-5)
    assert [h[0].item() for h in history] == pytest.approx(wanted[0][: rule.histories], rel=1e-5)


def test_an_unknown_type() -> None:
    with pytest.raises(UsageError, match="'LARS' is not known; known are SGD, Nesterov"):
        find_rule("LARS", 0)


@pytest.mark.parametrize("type", ["AdaGrad", "RMSProp"])
def test_momentum_of_a_solver_without_momentum(type: str) -> None:
    with pytest.raises(UsageError, match=f"{type} takes no momentum; found 0.9"):
        find_rule(type, 0.9)
