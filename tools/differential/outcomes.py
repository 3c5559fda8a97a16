"""The outcomes of cases."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any

AGREED = "agreed"
BOTH_REFUSE = "both refuse"
UNDEFINED = "NaN in both"
DIFFER = "differ"
CAFFE_REFUSES = "Caffe refuses, the port computes"
PORT_REFUSES = "the port refuses, Caffe computes"
CAFFE_CRASHES = "Caffe crashes"
PORT_CRASHES = "the port crashes"

_NAMES = re.compile(r"'[^']*'|\d+|shape .*")  # parts of a message that change with the net

GOOD = (AGREED, BOTH_REFUSE, UNDEFINED)
STATUSES = (*GOOD, DIFFER, CAFFE_REFUSES, PORT_REFUSES, CAFFE_CRASHES, PORT_CRASHES)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one case.

    Attributes:
        index, kind, type: of the case.
        status: one of ``STATUSES``.
        types: layer types of the net.
        blamed: the layer type where the difference starts, as far as that is known.
        part: the array that differs first, as 'data' or 'diff'.
        message: what differs, or why a side refused.
        live_agrees: the port's pycaffe computes otherwise than its Net, and as Caffe does.
        accepted: name of the accepted difference that this is, or ''.
        folder: where the shrunk case was written, or ''.
    """

    index: int
    kind: str
    type: str
    status: str
    types: tuple[str, ...] = ()
    blamed: str = ""
    part: str = ""
    message: str = ""
    live_agrees: bool = False
    accepted: str = ""
    folder: str = ""

    @property
    def good(self) -> bool:
        """Whether there is no difference, or an accepted one."""
        return self.status in GOOD or bool(self.accepted)

    @property
    def signature(self) -> tuple[str, ...]:
        """The fields that must stay the same while a case is shrunk."""
        words = () if self.status == DIFFER else (_NAMES.sub("", self.message),)
        return (self.status, self.blamed, self.part, *words)

    def as_json(self) -> dict[str, Any]:
        """For results.jsonl and report.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Outcome:
        """The reverse of ``as_json``."""
        return cls(**{**fields, "types": tuple(fields["types"])})


@dataclass
class Finding:
    """An outcome and what both sides were asked and answered, for a golden folder.

    Attributes:
        outcome: the outcome.
        net: the net's text.
        arrays: what both sides were given.
        answer: Caffe's arrays.
        log: the end of what Caffe printed.
    """

    outcome: Outcome
    net: str
    arrays: dict[str, Any] = field(default_factory=dict)
    answer: dict[str, Any] = field(default_factory=dict)
    log: str = ""
