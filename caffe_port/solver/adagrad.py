"""AdaGrad: h += g^2; w -= rate g / (sqrt(h) + delta).

Source: BVLC/caffe adagrad_solver.cpp; Duchi et al., JMLR 2011.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caffe_port.solver._rule import Rule, Setting


def update(diff: Tensor, history: Sequence[Tensor], setting: Setting) -> None:
    """See the module; ``history`` is (h,)."""
    (squares,) = history
    squares.add_(diff.square())
    diff.div_(squares.sqrt().add_(setting.delta)).mul_(setting.rate)


RULE = Rule(update, momentum=False)
