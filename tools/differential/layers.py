"""Draws one layer: options and bottoms that its Op accepts, and at times ones that it refuses."""

from __future__ import annotations

import math
import random
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from caffe_port.spec.ops import Op, ParamShape, Shape
from tools.differential.options import Option, layer_of

MAX_VALUES = 1500  # of a blob
MAX_WEIGHTS = 2000  # of a parameter
_TRIES = 800
_SETTING = 0.45  # chance that an option which the Op reads is given
_UNREAD = 0.04  # and one that it does not read
_EMPTY = 0.003  # chance that an axis has no values
_KEEPING = 0.95  # chance that a change is taken back after which the Op refuses earlier
Progress = tuple[int, ...]  # what was reached: reading, shapes, parameters; then lines of code


@dataclass
class Drawn:
    """A layer as it was drawn, without names.

    Attributes:
        settings: its options.
        bottoms: shapes.
        tops: shapes of the tops, as many as it has.
        params: its parameter blobs.
        accepted: whether the port's Op takes all this.
    """

    settings: dict[Option, list[Any]]
    bottoms: list[Shape]
    tops: list[Shape] = field(default_factory=list)
    params: list[ParamShape] = field(default_factory=list)
    accepted: bool = False


class LayerDrawer:
    """Draws layers of one type.

    Args:
        kind: its Op.
        options: as ``options_of`` lists them.
        rng: of the case.
    """

    def __init__(self, kind: type[Op], options: Sequence[Option], rng: random.Random) -> None:
        self.kind, self.options, self.rng = kind, options, rng
        self.top_count = 0

    def draw(self, first: Shape | None = None) -> Drawn:
        """A layer; without a fixed first bottom, one that is accepted is nearly always found.

        Args:
            first: shape of the first bottom, where it is to read a blob that is there.
        """
        drawn = self._start(first)
        reached = self._judge(drawn)
        for _ in range(_TRIES):
            if drawn.accepted:
                break
            before = replace(drawn, settings=dict(drawn.settings), bottoms=list(drawn.bottoms))
            count = self.top_count
            self._mutate(drawn, first is None)
            progress = self._judge(drawn)
            if progress < reached and self.rng.random() < _KEEPING:
                drawn, self.top_count = before, count
            else:
                reached = progress
        return drawn

    def refused(self) -> Drawn:
        """A layer that the port refuses, one step away from an accepted one where possible."""
        drawn = self.draw()
        for _ in range(20):
            self._mutate(drawn, True)
            self._judge(drawn)
            if not drawn.accepted:
                break
        return drawn

    def _start(self, first: Shape | None) -> Drawn:
        rng = self.rng
        settings = {}
        count = self._count(self.kind.bottoms)
        self.top_count = self._count(self.kind.tops)
        shape = first if first is not None else self.shape()
        bottoms = [shape] * min(count, 1)
        for option in self.options:
            chance = _SETTING if option.read else _UNREAD
            if option.required or rng.random() < chance:
                settings[option] = option.draw(rng, len(shape))
        while len(bottoms) < count:
            bottoms.append(self._related(bottoms, settings))
        return Drawn(settings, bottoms)

    def _count(self, counts: tuple[int, int | None]) -> int:
        low, high = counts
        if counts == self.kind.tops and self.kind.auto_top and self.rng.random() < 0.85:
            return low  # a loss with more tops is refused by some Caffes
        most = low + 3 if high is None else high
        return min(self.rng.choice((low, most, self.rng.randint(low, most))), most)

    def shape(self) -> Shape:
        """A random shape, mostly of four axes."""
        rng = self.rng
        axes = rng.choice((4, 4, 4, 4, 4, 4, 3, 3, 2, 2, 2, 1, 5, 0))
        most = 9 if axes == 4 else 6
        sizes = [rng.randint(1, 3), *(rng.randint(1, most) for _ in range(axes))]
        return tuple(0 if rng.random() < _EMPTY else size for size in sizes[:axes])

    def _judge(self, drawn: Drawn) -> Progress:
        """Sets ``accepted``; how far the Op got until it refused."""
        names = [f"b{i}" for i in range(len(drawn.bottoms))]
        tops = [f"t{i}" for i in range(self.top_count)]
        layer = layer_of(self.kind.type, drawn.settings, names, tops)
        drawn.accepted, drawn.tops, drawn.params = False, [], []
        stage = 0
        try:
            op = self.kind.read(layer.message, layer.extra)
            stage = 1
            shapes = op.top_shapes(drawn.bottoms)
            stage = 2
            params = op.params(drawn.bottoms)
        except Exception as error:  # also a mistake of the port: building the whole net shows it
            return (stage, *(line for _, line in list(traceback.walk_tb(error.__traceback__))[1:]))
        drawn.tops, drawn.params = shapes[: self.top_count], params
        sizes = [math.prod(shape) for shape in [*drawn.tops, *drawn.bottoms]]
        weights = [math.prod(param.shape) for param in params]
        drawn.accepted = (
            len(drawn.tops) == self.top_count
            and max(sizes, default=0) <= MAX_VALUES
            and max(weights, default=0) <= MAX_WEIGHTS
        )
        return (3,)

    def _mutate(self, drawn: Drawn, free: bool) -> None:
        """Changes one thing."""
        rng = self.rng
        steps: list[Callable[[Drawn], None]] = []
        steps += [self._redraw_option] * 5 + [self._drop_option] * 2
        if len(drawn.bottoms) > 1:
            steps += [self._redraw_bottom] * 5
        if self.kind.bottoms[0] != self.kind.bottoms[1]:
            steps.append(self._recount_bottoms)
        if self.kind.tops[0] != self.kind.tops[1]:
            steps.append(self._recount_tops)
        if free and drawn.bottoms:
            steps += [self._redraw_first] * 2
        rng.choice(steps)(drawn)

    def _redraw_option(self, drawn: Drawn) -> None:
        options = [option for option in self.options if option.read or option in drawn.settings]
        if options:
            option = self.rng.choice(options)
            axes = len(drawn.bottoms[0]) if drawn.bottoms else 0
            drawn.settings[option] = option.draw(self.rng, axes)

    def _drop_option(self, drawn: Drawn) -> None:
        optional = [option for option in drawn.settings if not option.required]
        if optional:
            del drawn.settings[self.rng.choice(optional)]

    def _redraw_bottom(self, drawn: Drawn) -> None:
        index = self.rng.randrange(1, len(drawn.bottoms))
        others = drawn.bottoms[:index] + drawn.bottoms[index + 1 :]
        drawn.bottoms[index] = self._related(others, drawn.settings)

    def _redraw_first(self, drawn: Drawn) -> None:
        before = drawn.bottoms[0]
        drawn.bottoms[0] = shape = self.shape()
        drawn.bottoms[1:] = [shape if s == before else s for s in drawn.bottoms[1:]]

    def _recount_bottoms(self, drawn: Drawn) -> None:
        count = self._count(self.kind.bottoms)
        del drawn.bottoms[count:]
        while len(drawn.bottoms) < count:
            drawn.bottoms.append(self._related(drawn.bottoms, drawn.settings))

    def _recount_tops(self, drawn: Drawn) -> None:
        self.top_count = self._count(self.kind.tops)

    def _related(self, bottoms: Sequence[Shape], settings: dict[Option, list[Any]]) -> Shape:
        """A shape such as layers expect of a further bottom: much like another one."""
        rng = self.rng
        first = bottoms[0] if bottoms else self.shape()
        base = rng.choice(bottoms) if bottoms and rng.random() < 0.2 else first
        axes = len(base)
        start, end = sorted((rng.randint(0, axes), rng.randint(0, axes)))
        axis = rng.randrange(axes) if axes else 0
        given = [v for values in settings.values() for v in values if type(v) is int and v > 0]
        size = rng.choice([1, 1, 2, rng.randint(1, 8), *given[:3], *(4 * n for n in base[-1:])])
        changed = (*base[:axis], size, *base[axis + 1 :]) if axes else base
        return rng.choice((
            base, base, base,
            base[start:end],
            base[:1],
            base[:2],
            changed,
            (*base[:axis], 1, *base[axis + 1 :]) if axes else base,
            base[:axis] + base[axis + 1 :],
            tuple(rng.randint(1, n) if n else 0 for n in base),
            (size,),
            (*base[:1], size, 1, 1),
            (*base[:1], 1, 1, 2),
            (1, *base[1:2], size),
            (1, 1, *base[axis : axis + 1] * 2),
        ))  # fmt: skip
