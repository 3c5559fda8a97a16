"""All solver types."""

from __future__ import annotations

from caffe_port.errors import UsageError
from caffe_port.solver import adadelta, adagrad, adam, nesterov, rmsprop, sgd
from caffe_port.solver._rule import Rule, Setting

__all__ = ["RULES", "Rule", "Setting", "find_rule"]

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
