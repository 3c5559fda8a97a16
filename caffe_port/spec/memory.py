"""What a net takes, against what the machine has."""

from __future__ import annotations

import math
import os

from caffe_port.errors import NetError
from caffe_port.spec.netspec import NetSpec

_FLOAT = 4  # bytes


def check_memory(spec: NetSpec) -> None:
    """Refuses a net before it takes more than all memory for its parameters.

    Raises:
        NetError: with what it needs and what there is.
    """
    needed = _FLOAT * sum(
        math.prod(param.shape)
        for layer in spec.layers
        for param in layer.params
        if param.owner is None
    )
    present = _memory()
    if present is not None and needed > present:
        raise NetError(
            f"net '{spec.name}': its parameters take {needed / 1e9:.1f} GB, this machine has "
            f"{present / 1e9:.1f} GB"
        )


def _memory() -> int | None:
    """Bytes of the machine's memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
