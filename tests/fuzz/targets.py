"""All targets by name."""

from __future__ import annotations

from tests.fuzz.crf import CRF
from tests.fuzz.formats import FORMATS
from tests.fuzz.nets import NETS
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {**FORMATS, **NETS, **CRF}
