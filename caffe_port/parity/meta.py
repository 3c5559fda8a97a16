"""What a recording says of itself, and the parts that its arrays belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffe_port.errors import FormatError

Array = NDArray[np.float32]

#: The parts of a recording. Keys are "<part>/<blob>", or "<part>/<layer>/<i>" for parameters.
BLOB_PARTS = ("input", "data", "topdiff", "diff")
PARAM_PARTS = ("param", "pdiff", "after")

PHASES = ("TRAIN", "TEST")

#: Deflate cannot pack tighter than this: an array that claims more was never written.
DEFLATE_LIMIT = 1032


@dataclass(frozen=True)
class Meta:
    """What is known about a recording beside its numbers.

    Args:
        phase: "TRAIN" or "TEST".
        backward: diffs were recorded.
        complete: every blob was recorded, not a chosen few.
        oracle: which Caffe it was, in the recorder's words.
        versions: of caffe, python, numpy..., as far as they were recorded.
        notes: free text, the command line for instance.
    """

    phase: str
    backward: bool = False
    complete: bool = False
    oracle: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""


def parse_meta(fields: Mapping[str, object], path: Path) -> Meta:
    """Checks the fields every recording has.

    Raises:
        FormatError: a field is missing or has an impossible value.
    """
    phase = fields.get("phase")
    if phase not in PHASES:
        raise FormatError(f"phase is {phase!r}, expected one of {', '.join(PHASES)}", path=path)
    backward = fields.get("backward", False)
    if not isinstance(backward, bool):
        raise FormatError(f"backward is {backward!r}, expected true or false", path=path)
    versions = fields.get("versions", {})
    if not isinstance(versions, dict):
        raise FormatError(f"versions is {versions!r}, expected names and versions", path=path)
    return Meta(
        phase=str(phase),
        backward=backward,
        # Golden cases without this field keep every blob.
        complete=fields.get("blobs_kept", "all") == "all",
        oracle=str(fields.get("oracle", "")),
        versions={str(name): str(version) for name, version in versions.items()},
        notes=str(fields.get("notes", "")),
    )
