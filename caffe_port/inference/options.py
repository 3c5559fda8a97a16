"""What a plan may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from caffe_port.errors import UsageError

Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Options:
    """The choices of ``Net.optimized``; all defaults keep to the parity rule.

    Attributes:
        fold: whether BatchNorm, Scale and Bias after a convolution become part of its filters.
        winograd: whether wide 3 x 3 convolutions are computed by Winograd's F(2 x 2, 3 x 3), with
            2.25 times fewer multiplications and no larger errors than the direct sum's. For one
            thread on each core: its many short products wait long where threads share cores.
        precision: what convolutions compute in. 'bfloat16' and 'float16' leave the parity rule.
        compile: a backend of ``torch.compile``, such as 'inductor', or None. Compiled plans use
            neither Winograd nor oneDNN's packed filters; the first run of each shape compiles.
    Raises:
        UsageError: a precision that is not known.
    """

    fold: bool = True
    winograd: bool = False
    precision: Precision = "float32"
    compile: str | None = None

    def __post_init__(self) -> None:
        if self.precision not in _DTYPES:
            known = ", ".join(_DTYPES)
            raise UsageError(f"precision is {self.precision!r}; expected one of {known}")

    @property
    def reduced(self) -> torch.dtype | None:
        """The type of convolutions where it is not the net's own."""
        return None if self.precision == "float32" else _DTYPES[self.precision]

    def check_device(self, device: torch.device, dtype: torch.dtype) -> None:
        """Makes sure that a net's device has the precision.

        Raises:
            UsageError: it has not, or the net is not in float32.
        """
        if self.reduced is None:
            return
        if dtype != torch.float32:
            raise UsageError(f"precision {self.precision} is for float32 nets; this one is {dtype}")
        if not has_type(device, self.reduced):
            raise UsageError(f"{device} does not compute in {self.precision}; use 'float32'")


def has_type(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether convolutions are computed in a reduced type on a device."""
    if device.type == "cuda":
        return dtype == torch.float16 or torch.cuda.is_bf16_supported()
    if device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        name = "bf16" if dtype == torch.bfloat16 else "fp16"
        return bool(getattr(torch.ops.mkldnn, f"_is_mkldnn_{name}_supported")())
    return False
