"""Adam: m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
w -= rate sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + delta), t from 1.

Source: BVLC/caffe adam_solver.cpp; Kingma and Ba, arXiv:1412.6980.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from caffe_port.solver._rule import Rule, Setting, one_minus


def update(diff: Tensor, history: Sequence[Tensor], setting: Setting) -> None:
    """See the module; ``history`` is (m, v), b1 is momentum, b2 momentum2."""
    mean, squares = history
    mean.mul_(setting.momentum).add_(diff, alpha=one_minus(setting.momentum))
    squares.mul_(setting.momentum2).add_(diff.square(), alpha=one_minus(setting.momentum2))
    t = setting.iteration + 1
    correction = math.sqrt(1 - setting.momentum2**t) / (1 - setting.momentum**t)
    diff.copy_(mean / squares.sqrt().add_(setting.delta)).mul_(setting.rate * correction)


RULE = Rule(update, histories=2)
