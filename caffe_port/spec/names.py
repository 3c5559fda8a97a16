"""Names of layers. Caffe lets several layers have one name, or none; torch's modules need one each.

Source: BVLC/caffe net.cpp, Init, which checks the names of tops only.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

UNNAMED = "unnamed"


def unique_names(names: Sequence[str], has_params: Sequence[bool]) -> list[str]:
    """A name for every layer, such that no two are equal.

    The first layer of a name that has parameters keeps it (where none has any, the first), and the
    others get `name#2`, `name#3` and so on. A layer without a name is called `unnamed`.

        unique_names(["c", "c", "relu", "", "relu"], [False, True, False, False, False])
        # ["c#2", "c", "relu", "unnamed", "relu#2"]

    Args:
        names: as the prototxt has them, in order.
        has_params: per layer.
    """
    given = set(names)
    used: set[str] = set()
    result = [""] * len(names)
    for i in sorted(range(len(names)), key=lambda i: not has_params[i]):
        base = names[i] or UNNAMED
        candidates = (f"{base}#{k}" if k > 1 else base for k in count(1))
        # a name that another layer has in the prototxt stays free for that layer
        name = next(n for n in candidates if n not in used and (n == names[i] or n not in given))
        used.add(name)
        result[i] = name
    return result
