"""A case: a request to both sides, drawn from a seed and a number."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tools.differential.drafts import Draft
from tools.differential.nets import Catalogue, NetDrawer
from tools.differential.old_text import V1_NUMBERS
from tools.differential.solvers import SolverDraft, draw_solver

KINDS = ("layer", "net", "solver", "files")
_SHARE = (55, 25, 12, 8)  # of each kind, in percent
_REFUSED = 0.06  # of the cases of one layer: options that the port refuses


@dataclass(frozen=True)
class Case:
    """A request to both sides.

    Attributes:
        index: its number.
        kind: 'layer' (one layer), 'net' (several), 'solver' (a training), 'files' (weights and text
            of each side read by the other).
        type: the layer type it was drawn for.
        draft: the net.
        phase: 'TRAIN' or 'TEST'.
        seed: of all values.
        backward: whether the backward pass is asked for.
        solver: of a training.
        old_text: of files: the net is written as V1.
    """

    index: int
    kind: str
    type: str
    draft: Draft
    phase: str
    seed: int
    backward: bool = True
    solver: SolverDraft | None = None
    old_text: bool = False

    def with_draft(self, draft: Draft) -> Case:
        """The same with another net."""
        return replace(self, draft=draft)


def draw_case(
    catalogue: Catalogue, seed: int, index: int, kinds: tuple[str, ...] = KINDS, attempt: int = 0
) -> Case:
    """Case ``index`` of a run.

    Args:
        catalogue: the layer types; every type gets its turn.
        seed: of the run.
        index: from 0.
        kinds: those wanted.
        attempt: another draw for the same number.
    """
    rng = random.Random(f"{seed}/{index}/{attempt}")
    kind = rng.choices(kinds, [_SHARE[KINDS.index(kind)] for kind in kinds])[0]
    types = catalogue.types
    type = types[index % len(types)]
    old_text = kind == "files" and rng.random() < 0.5
    drawer = NetDrawer(_old_types(catalogue) if old_text else catalogue, rng)
    solver = None
    if kind == "layer":
        _one_layer(drawer, type)
    elif kind == "solver":
        _trainable(drawer, type)
        solver = draw_solver(rng)
    else:
        _several(drawer, type)
    phase = "TRAIN" if kind == "solver" else rng.choice(("TRAIN", "TEST"))
    backward = kind != "layer" or rng.random() < 0.9
    return Case(
        index, kind, type, drawer.draft(), phase, rng.randrange(2**31), backward, solver, old_text
    )  # fmt: skip


def _old_types(catalogue: Catalogue) -> Catalogue:
    """The types that a V1 text can have; all where there are none."""
    kinds = {type: kind for type, kind in catalogue.kinds.items() if type in V1_NUMBERS}
    return Catalogue(kinds) if kinds else catalogue


def _one_layer(drawer: NetDrawer, type: str) -> None:
    if drawer.rng.random() < _REFUSED:
        drawer.add_refused(type)
        return
    if drawer.rng.random() < 0.15 and "Power" in drawer.kinds:
        drawer.add("Power")
    if not drawer.add(type):
        drawer.add_refused(type)


def _several(drawer: NetDrawer, type: str) -> None:
    count = drawer.rng.randint(2, 7)
    place = drawer.rng.randrange(count)
    for i in range(count):
        wanted = i == place and type in drawer.kinds
        drawer.add(type if wanted else drawer.rng.choice(drawer.types))
    if not drawer.layers:
        drawer.add_refused(drawer.rng.choice(drawer.types))


def _trainable(drawer: NetDrawer, type: str) -> None:
    """Layers with parameters, one of the type, and losses at the end."""
    rng, kinds = drawer.rng, drawer.kinds
    learning = [t for t in drawer.types if kinds[t][0].params is not _no_params()]
    losses = [t for t in drawer.types if kinds[t][0].auto_top]
    chosen = [rng.choice(learning or drawer.types), type]
    chosen += [rng.choice(drawer.types) for _ in range(rng.randint(0, 2))]
    for name in chosen + [rng.choice(losses or drawer.types) for _ in range(rng.randint(1, 2))]:
        drawer.add(name)
    if not drawer.layers:
        drawer.add_refused(type)


def _no_params() -> object:
    from caffe_port.spec.ops import Op

    return Op.params
