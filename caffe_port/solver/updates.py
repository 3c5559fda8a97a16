"""All solver types."""

from __future__ import annotations

import math
from collections.abc import Sequence

from caffe_port.errors import UsageError
from caffe_port.solver import adadelta, adagrad, adam, nesterov, rmsprop, sgd
from caffe_port.solver._rule import Rule, Setting
from caffe_port.spec.ops import Shape

__all__ = ["RULES", "Rule", "Setting", "find_rule", "why_not"]

RULES = {
    "SGD": sgd.RULE,
    "Nesterov": nesterov.RULE,
    "AdaGrad": adagrad.RULE,
    "RMSProp": rmsprop.RULE,
    "AdaDelta": adadelta.RULE,
    "Adam": adam.RULE,
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
