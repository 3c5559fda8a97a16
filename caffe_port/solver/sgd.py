"""SGD with momentum: v = rate g + m v; w -= v.

Source: BVLC/caffe sgd_solver.cpp, ComputeUpdateValue.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caffe_port.solver._rule import Rule, Setting


def update(diff: Tensor, history: Sequence[Tensor], setting: Setting) -> None:
    """See the module; ``history`` is (v,)."""
    (velocity,) = history
    velocity.mul_(setting.momentum).add_(diff, alpha=setting.rate)
    diff.copy_(velocity)


RULE = Rule(update)
