"""All attacks."""

from __future__ import annotations

from tests.attacks import (
    archives,
    bombs,
    databases,
    detectors,
    hdf5,
    images,
    names,
    others,
    outputs,
    prototxts,
    weights,
)
from tests.attacks.attack import Attack, Family

_MODULES = (
    prototxts, detectors, weights, hdf5, archives, images, databases, names, outputs, others, bombs
)  # fmt: skip
_FAMILIES = {
    family.name: family
    for module in _MODULES
    for family in vars(module).values()
    if isinstance(family, Family)
}
ATTACKS: list[Attack] = [attack for family in _FAMILIES.values() for attack in family]
