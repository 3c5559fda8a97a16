"""Repeated parts of a net: layers that share parameters, and blocks that differ in sizes only.

The layers of a net at three scales share their parameters: they become one method that is called
three times. Blocks such as ResNet's bottlenecks become one class.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from caffe_port.export.module_program import INTEGER, Blocks, Body, Call, Kind, Line, Program, Step

#: a block is at most this many layers
LONGEST = 64


class Sharing:
    """Folds layers with the parameters of earlier ones into calls of one method."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def fold(self) -> None:
        """Changes the program."""
        tried: set[str] = set()
        while found := self._next(tried):
            first, copies = found
            tried.add(self._lines[first].name)
            window = self._window(first, copies)
            if window:
                self._replace(*window, copies)

    @property
    def _steps(self) -> tuple[Step, ...]:
        return self._program.forward.steps

    @property
    def _lines(self) -> dict[int, Line]:
        return {i: step for i, step in enumerate(self._steps) if isinstance(step, Line)}

    def _next(self, tried: set[str]) -> tuple[int, list[int]] | None:
        """The first line whose parameters others have too, and how far behind it they are."""
        places, lines = defaultdict(list), self._lines
        for i, line in lines.items():
            if line.params:
                places[line.params].append(i)
        shared = [p for p in places.values() if len(p) > 1 and lines[p[0]].name not in tried]
        if not shared:
            return None
        first, *others = min(shared)
        return first, [i - first for i in others]

    def _window(self, first: int, distances: list[int]) -> tuple[int, int] | None:
        """The longest part around a line that all its copies repeat."""
        self._made = {
            top: (i, k) for i, step in enumerate(self._steps) for k, top in enumerate(step.tops)
        }
        gap = min(b - a for a, b in zip([0, *distances], distances, strict=False))
        low = first
        while low > max(0, first - gap) and all(self._is_copy(low - 1, d) for d in distances):
            low -= 1
        best = (first, first)
        for start in range(low, first + 1):
            end = start + gap
            for distance in distances:
                end = self._reach(start, end, distance)
            if end > first and end - start > best[1] - best[0]:
                best = start, end
        built = [step for step in self._steps[slice(*best)] if getattr(step, "construct", "")]
        return best if len(built) > 1 else None

    def _is_copy(self, place: int, distance: int) -> bool:
        if place + distance >= len(self._steps):
            return False
        one, other = self._steps[place], self._steps[place + distance]
        if not (isinstance(one, Line) and isinstance(other, Line)):
            return False
        return (one.value, one.construct, one.params) == (
            other.value,
            other.construct,
            other.params,
        )

    def _reach(self, start: int, end: int, distance: int) -> int:
        """How far the part from ``start`` is repeated, with the same connections."""
        pairs: dict[str, str] = {}
        for place in range(start, end):
            if not self._is_copy(place, distance):
                return place
            ones, others = (self._steps[place + d].bottoms for d in (0, distance))
            for one, other in zip(ones, others, strict=True):
                inside = self._place(one, start)
                if inside != self._place(other, start + distance):
                    return place
                if inside is None and pairs.setdefault(one, other) != other:
                    return place
        return end

    def _place(self, value: str, start: int) -> tuple[int, int] | None:
        """Where a part that starts there makes a value; None if it is made before."""
        place, top = self._made.get(value, (-1, 0))
        return (place - start, top) if place >= start else None

    def _replace(self, start: int, end: int, distances: list[int]) -> None:
        starts = [start, *(start + d for d in distances)]
        parts = [self._steps[s : s + end - start] for s in starts]
        used = [self._read_outside(s, s + end - start) for s in starts]
        results = [
            (i, k) for i, step in enumerate(parts[0]) for k in range(len(step.tops))
            if any(part[i].tops[k] in values for part, values in zip(parts, used, strict=True))
        ]  # fmt: skip
        inner = {top for step in parts[0] for top in step.tops}
        slots: dict[str, tuple[int, int]] = {}  # of each input, where it is read first
        for i, step in enumerate(parts[0]):
            for k, value in enumerate(step.bottoms):
                if value not in inner:
                    slots.setdefault(value, (i, k))
        tops = [tuple(part[i].tops[k] for i, k in results) for part in parts]
        bottoms = [tuple(part[i].bottoms[k] for i, k in slots.values()) for part in parts]
        method = len(self._program.methods)
        self._program.methods.append(Body(parts[0], tuple(slots), tops[0]))
        steps = list(self._steps)
        for i in reversed(range(len(starts))):
            steps[starts[i] : starts[i] + end - start] = [Call(method, bottoms[i], tops[i])]
        self._program.forward = replace(self._program.forward, steps=tuple(steps))

    def _read_outside(self, start: int, end: int) -> set[str]:
        outside = [*self._steps[:start], *self._steps[end:]]
        return {*self._program.forward.outputs, *(v for step in outside for v in step.bottoms)}


@dataclass(frozen=True)
class _Place:
    """A part of a body that may become a block."""

    body: int
    start: int
    end: int
    bottom: str
    top: str

    @property
    def length(self) -> int:
        return self.end - self.start


class Repeats:
    """Folds blocks that differ in the integers of their constructs only into classes."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._uses = Counter(
            param for body in program.bodies for step in body.steps
            if isinstance(step, Line) for param in step.params
        )  # fmt: skip
        self._chosen: list[list[_Place]] = []

    def fold(self) -> None:
        """Changes the program."""
        groups: dict[int, list[_Place]] = defaultdict(list)
        known: dict[object, int] = {}
        for number, body in enumerate(self._program.bodies):
            uses = Counter([*body.outputs, *(v for step in body.steps for v in step.bottoms)])
            for start in range(len(body.steps)):
                for key, place in self._windows(number, body, start, uses, known):
                    groups[key].append(place)
        while groups:
            best = max(groups, key=lambda key: self._score(groups[key]))
            if len(groups[best]) < 2:
                break
            self._chosen.append(groups[best])
            taken = {(p.body, i) for p in groups[best] for i in range(p.start, p.end)}
            groups = {key: _apart(places, taken) for key, places in groups.items()}
        self._replace()

    def _windows(
        self, number: int, body: Body, start: int, uses: Counter[str], known: dict[object, int]
    ) -> Iterable[tuple[int, _Place]]:
        """The parts from a step on with one input, one output and more than one way between."""
        made: dict[str, tuple[int, int]] = {}
        read: Counter[str] = Counter()
        key, built, joined = 0, 0, False
        for i, step in enumerate(body.steps[start : start + LONGEST]):
            if not isinstance(step, Line) or any(self._uses[p] > 1 for p in step.params):
                return
            where = tuple((i - made[v][0], made[v][1]) if v in made else None for v in step.bottoms)
            value, construct, names = step.text
            text = (value, INTEGER.sub("#", construct), names, where, len(step.tops))
            key = known.setdefault((key, *text), len(known) + 1)
            read.update(step.bottoms)
            made |= {top: (i, k) for k, top in enumerate(step.tops)}
            built += bool(step.construct)
            joined = joined or len(set(step.bottoms)) > 1
            outer = [value for value in read if value not in made]
            if len(outer) > 1:
                return
            open_ = [value for value in made if uses[value] > read[value]]
            if len(open_) == 1 and joined and built > 1:
                whole = known.setdefault((key, made[open_[0]], "block"), len(known) + 1)
                yield whole, _Place(number, start, start + i + 1, outer[0], open_[0])

    def _score(self, places: list[_Place]) -> tuple[int, bool, int, int]:
        """How many lines a class saves; of equals, one that starts with a submodule, then early."""
        if not places:
            return (0, False, 0, 0)
        apart, first = _apart(places, set()), places[0]
        start = self._program.bodies[first.body].steps[first.start]
        built = isinstance(start, Line) and bool(start.construct)
        return ((len(apart) - 1) * first.length, built, -first.body, -first.start)

    def _replace(self) -> None:
        edits: dict[int, dict[int, tuple[int, int, _Place]]] = defaultdict(dict)
        for group in sorted(self._chosen, key=lambda places: (places[0].body, places[0].start)):
            kind: Kind = []
            for place in _apart(group, set()):
                steps = self._program.bodies[place.body].steps[place.start : place.end]
                edits[place.body][place.start] = len(self._program.kinds), len(kind), place
                kind.append(Body(steps, (place.bottom,), (place.top,)))
            self._program.kinds.append(kind)
        bodies = [_with_blocks(b, edits[i]) for i, b in enumerate(self._program.bodies)]
        self._program.forward, self._program.methods = bodies[0], bodies[1:]


def _with_blocks(body: Body, blocks: dict[int, tuple[int, int, _Place]]) -> Body:
    """A body whose blocks are one step each, or one step for several that follow one another."""
    uses = Counter([*body.outputs, *(v for step in body.steps for v in step.bottoms)])
    steps: list[Step] = []
    place = 0
    while place < len(body.steps):
        if place not in blocks:
            steps.append(body.steps[place])
            place += 1
            continue
        kind, member, block = blocks[place]
        last = steps[-1] if steps else None
        if (
            isinstance(last, Blocks) and last.kind == kind
            and last.tops == (block.bottom,) and uses[block.bottom] == _reads(body, block)
        ):  # fmt: skip
            steps[-1] = replace(last, members=(*last.members, member), tops=(block.top,))
        else:
            steps.append(Blocks(kind, (member,), (block.bottom,), (block.top,)))
        place = block.end
    return replace(body, steps=tuple(steps))


def _reads(body: Body, block: _Place) -> int:
    """How often a block reads its input."""
    steps = body.steps[block.start : block.end]
    return sum(step.bottoms.count(block.bottom) for step in steps)


def _apart(places: list[_Place], taken: set[tuple[int, int]]) -> list[_Place]:
    """Those that overlap neither what is taken nor one before."""
    taken, found = set(taken), []
    for place in places:
        steps = {(place.body, i) for i in range(place.start, place.end)}
        if taken.isdisjoint(steps):
            taken |= steps
            found.append(place)
    return found
