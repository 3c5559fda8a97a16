"""RMSProp: h = d h + (1 - d) g^2; w -= rate g / (sqrt(h) + delta).

Source: BVLC/caffe rmsprop_solver.cpp; Tieleman and Hinton, lecture 6.5, 2012.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caffe_port.solver._rule import Rule, Setting, one_minus


def update(diff: Tensor, history: Sequence[Tensor], setting: Setting) -> None:
    """See the module; ``history`` is (h,), d is rms_decay."""
    (squares,) = history
    squares.mul_(setting.rms_decay).add_(diff.square(), alpha=one_minus(setting.rms_decay))
    diff.div_(squares.sqrt().add_(setting.delta)).mul_(setting.rate)


RULE = Rule(update, momentum=False)
