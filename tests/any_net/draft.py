"""A net that grows layer by layer in pycaffe's NetSpec, and values for its inputs."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from hypothesis import strategies as st

from caffe_port.proto import caffe_pb2
from caffe_port.pycaffe.net_spec import NetSpec
from caffe_port.pycaffe.net_spec import layers as L  # noqa: N812
from caffe_port.spec import NetSpec as Spec

Shape = tuple[int, ...]
Drawn = tuple[caffe_pb2.NetParameter, dict[str, torch.Tensor]]
Blob = tuple[Any, Shape]  # pycaffe's Top, and its shape
FILLED = {"weight_filler": {"type": "xavier"}, "bias_filler": {"type": "constant", "value": 0.1}}
MOST_VALUES = 3000  # of a blob


class Draft:
    """What was made so far.

    Attributes:
        chance: for the layer that is being added.
        net: pycaffe's.
        blobs: what further layers may read.
        values: of the inputs that are not arbitrary numbers: labels, sizes.
    """

    def __init__(self) -> None:
        self.chance = random.Random(0)
        self.net = NetSpec()
        self.blobs: list[Blob] = []
        self.values: dict[str, torch.Tensor] = {}
        self._names: dict[Any, str] = {}

    def one(self, *choices: Any) -> Any:
        """One of them."""
        return self.chance.choice(choices)

    def upto(self, most: int, least: int = 0) -> int:
        """A whole number."""
        return self.chance.randint(least, most)

    def flag(self) -> bool:
        """Yes or no."""
        return self.chance.random() < 0.5

    def add(self, *tops: Any, open: bool = True) -> None:
        """Names a layer's tops.

        Args:
            tops: of one layer, as pycaffe's layers return them; without any, the layer itself.
            open: whether further layers may read them.
        """
        first = len(self.net.tops)
        for i, top in enumerate(tops):
            self.net[f"b{first + i}"] = top
        message = self.net.to_proto()
        shapes = Spec.build(message, phase="TEST").shapes
        layer = next(layer for layer in message.layer if layer.name == f"b{first}")
        self._names.update(zip(tops, layer.top, strict=False))
        made = [(top, tuple(shapes[name])) for top, name in zip(tops, layer.top, strict=False)]
        if open:
            self.blobs += [blob for blob in made if 0 < math.prod(blob[1]) <= MOST_VALUES]

    def unread(self, top: Any) -> bool:
        """Whether a layer may write in place: Caffe refuses that where others read the blob."""
        name = self._names[top]
        layers = self.net.to_proto().layer
        return not any(name in x.bottom and name not in x.top for x in layers)

    def input(self, *shape: int, values: torch.Tensor | None = None) -> Any:
        """A new input of the net."""
        top = L.Input(shape={"dim": list(shape)})
        name = f"b{len(self.net.tops)}"
        self.add(top, open=values is None)
        if values is not None:
            self.values[name] = values
        return top

    def labels(self, *shape: int, below: int) -> Any:
        """An input of class indices."""
        chance = torch.Generator().manual_seed(len(self.net.tops))
        return self.input(*shape, values=torch.randint(0, below, shape, generator=chance).float())


Block = Callable[[Draft, Any, Shape, str], None]
_BLOCKS: list[tuple[Block, str, Callable[[Shape], bool]]] = []


def block(fits: Callable[[Shape], bool], *kinds: str) -> Callable[[Block], Block]:
    """Registers what adds layers that read a blob of a shape that fits, of one kind or several."""

    def register(add: Block) -> Block:
        _BLOCKS.extend((add, kind, fits) for kind in kinds)
        return add

    return register


def has_axes(least: int, most: int = 6) -> Callable[[Shape], bool]:
    """Fits blobs of so many axes."""
    return lambda shape: least <= len(shape) <= most


def kinds() -> list[str]:
    """Every kind of layers, as the blocks name them."""
    # they register their blocks
    from tests.any_net import detectors, ends, images, shapes  # noqa: F401

    return [kind for _, kind, _ in _BLOCKS]


@st.composite
def any_nets(draw: st.DrawFn) -> Drawn:
    """A small net of any layers, and values for those of its inputs that need certain ones."""
    # chance of its own for every layer: Hypothesis leaves out layers, and favours none
    chances = st.randoms(use_true_random=True)
    draft = _begun(draw(chances))
    for chance in draw(st.lists(chances, min_size=3, max_size=8)):
        draft.chance = chance
        _grow(draft, kinds())
    return draft.net.to_proto(), draft.values


def net_with(kind: str, without: Collection[str] = ()) -> Drawn:
    """A net with layers of that kind, and after them of others, but none of some kinds."""
    others = [name for name in kinds() if name not in without]
    fits = next(fits for _, name, fits in _BLOCKS if name == kind)
    for seed in itertools.count():
        draft = _begun(random.Random(seed))
        if fits(draft.blobs[0][1]):
            _grow(draft, [kind])
            for _ in range(3):
                _grow(draft, others)
            return draft.net.to_proto(), draft.values
    raise AssertionError(kind)


def _begun(chance: random.Random) -> Draft:
    """With an input."""
    draft = Draft()
    draft.chance = chance
    axes = draft.one(4, 4, 4, 4, 2, 2, 3, 5, 1)
    draft.input(draft.upto(3, 1), *(draft.upto(5, 1) for _ in range(axes - 1)))
    return draft


def _grow(draft: Draft, names: Sequence[str]) -> None:
    """Adds layers of one of these kinds, reading one of the last blobs."""
    top, shape = draft.one(*draft.blobs[-4:])
    fitting = [(add, kind) for add, kind, fits in _BLOCKS if kind in names and fits(shape)]
    add, kind = draft.one(*fitting)
    add(draft, top, shape, kind)
