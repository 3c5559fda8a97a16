"""Nesterov's accelerated gradient: v' = rate g + m v; w -= (1 + m) v' - m v.

Source: BVLC/caffe nesterov_solver.cpp; Sutskever et al., ICML 2013.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caffe_port.solver._rule import Rule, Setting


def update(diff: Tensor, history: Sequence[Tensor], setting: Setting) -> None:
    """See the module; ``history`` is (v,)."""
    (velocity,) = history
    before = velocity.clone()
    velocity.mul_(setting.momentum).add_(diff, alpha=setting.rate)
    diff.copy_(before.mul_(-setting.momentum).add_(velocity, alpha=1 + setting.momentum))


RULE = Rule(update)
