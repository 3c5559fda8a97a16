"""AdaDelta: h = m h + (1-m) g^2; u = g sqrt((delta + k) / (delta + h)); k = m k + (1-m) u^2;
w -= rate u.

Source: BVLC/caffe adadelta_solver.cpp; Zeiler, arXiv:1212.5701.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caffe_port.solver._rule import Rule, Setting, one_minus


def update(diff: Tensor, history: Sequence[Tensor], setting: Setting) -> None:
    """See the module; ``history`` is (h, k), m is momentum."""
    squares, updates = history
    rest = one_minus(setting.momentum)
    squares.mul_(setting.momentum).add_(diff.square(), alpha=rest)
    diff.mul_(((updates + setting.delta) / (squares + setting.delta)).sqrt_())
    updates.mul_(setting.momentum).add_(diff.square(), alpha=rest)
    diff.mul_(setting.rate)


RULE = Rule(update, histories=2)
