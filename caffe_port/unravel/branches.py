"""The order in which an animation shows blobs, with branches that run beside one another."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from caffe_port.spec import NetSpec


@dataclass(frozen=True)
class Course:
    """How points go down: first the trunk, then all branches side by side, then the inputs.

    Attributes:
        trunk: blobs every point passes.
        branches: chains of blobs that have nothing in common but the inputs; empty or at least 2.
        inputs: where the points end.
    """

    trunk: tuple[str, ...]
    branches: tuple[tuple[str, ...], ...]
    inputs: tuple[str, ...]

    def frames(self, longest: int) -> list[tuple[str | None, ...]]:
        """What is shown together: one blob, or one of each branch (None: it was not reached).

        Args:
            longest: blobs are left out evenly so that no more frames than this are made.
        """
        length = max((len(branch) for branch in self.branches), default=0)
        beside: list[tuple[str | None, ...]] = [
            tuple(
                branch[at * len(branch) // length] if branch else None for branch in self.branches
            )
            for at in range(length)
        ]
        trunk: list[tuple[str | None, ...]] = [(name,) for name in self.trunk]
        middle = _thinned([*trunk, *beside], max(1, longest - len(self.inputs)))
        return [*middle, *((name,) for name in self.inputs)]


def course(spec: NetSpec, top: str, reached: Collection[str]) -> Course:
    """Finds the branches, such as the three scales of the multi-scale ResNet.

    Args:
        spec: the net.
        top: where the points start.
        reached: blobs that have points to be shown; a branch without any is there all the same.
    """
    blobs = _above(spec, top)
    inputs = tuple(name for name in blobs if name in spec.sources and name in reached)
    rest = [name for name in blobs if name not in spec.sources]
    below = _readers(spec)
    parts: list[list[str]] = []
    for trunk in range(1, len(rest)):
        parts = _parts(rest[trunk:], below)
        if len(parts) > 1:
            break
    else:
        trunk, parts = len(rest), []
    shown = [tuple(name for name in part if name in reached) for part in parts]
    return Course(tuple(n for n in rest[:trunk] if n in reached), tuple(shown), inputs)


def _above(spec: NetSpec, top: str) -> list[str]:
    """What the top is made from, itself first, without copies."""
    wanted, found = {top}, []
    for layer in reversed(spec.layers):
        made = [name for name in layer.tops if name in wanted]
        if made:
            wanted.update(layer.bottoms)
        if layer.type != "Split":
            found += [name for name in made if name not in found]
    return found


def _readers(spec: NetSpec) -> list[tuple[str, str]]:
    """Pairs (top, bottom) of blobs, copies under the name of what they are copies of."""
    real = {top: layer.bottoms[0] for layer in spec.layers if layer.type == "Split"
            for top in layer.tops}  # fmt: skip
    return [
        (top, real.get(bottom, bottom))
        for layer in spec.layers
        if layer.type != "Split"
        for top in layer.tops
        for bottom in layer.bottoms
    ]


def _parts(blobs: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Blobs that hang together, in their own order; the part that ends last comes first."""
    part = {name: name for name in blobs}

    def root(name: str) -> str:
        while part[name] != name:
            name = part[name]
        return name

    for top, bottom in pairs:
        if top in part and bottom in part:
            part[root(top)] = root(bottom)
    found: dict[str, list[str]] = {}
    for name in blobs:
        found.setdefault(root(name), []).append(name)
    return list(found.values())[::-1]


def _thinned(frames: list[tuple[str | None, ...]], longest: int) -> list[tuple[str | None, ...]]:
    if len(frames) <= longest:
        return frames
    return [frames[at * (len(frames) - 1) // max(1, longest - 1)] for at in range(longest)]
