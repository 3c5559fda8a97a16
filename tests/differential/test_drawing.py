"""Nets are drawn from what the Ops declare; what is drawn covers what the test promises."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from caffe_port.errors import CaffePortError, UsageError
from caffe_port.solver.updates import RULES
from caffe_port.spec.ops import Op, Values, _base, register_op
from tools.differential.cases import Case, draw_case
from tools.differential.drafts import drawn_values, input_values, spec_of
from tools.differential.layers import LayerDrawer
from tools.differential.nets import Catalogue, catalogue_of
from tools.differential.old_text import as_v1
from tools.differential.options import Option

SCHEMA = {
    "LayerParameter": {"shift_param": ["ShiftParameter", False, None]},
    "ShiftParameter": {"by": ["float", False, None], "file": ["string", False, None]},
}


def cases(catalogue: Catalogue, count: int, seed: int = 3) -> list[Case]:
    return [draw_case(catalogue, seed, index) for index in range(count)]


def test_every_type_is_drawn_with_options_that_its_op_accepts(catalogue: Catalogue) -> None:
    rng = random.Random(1)
    for type in catalogue.types:
        kind, options = catalogue.kinds[type]
        accepted = [LayerDrawer(kind, options, rng).draw().accepted for _ in range(6)]
        assert any(accepted), type


@pytest.mark.parametrize(
    ("type", "wanted"),
    [
        ("Pooling", {"pool", "kernel_size", "kernel_h", "stride", "pad", "global_pooling"}),
        ("SoftmaxWithLoss", {"axis", "ignore_label", "normalization", "normalize"}),
        ("Convolution", {"num_output", "group", "dilation", "axis", "bias_term"}),
        ("ReLU", {"negative_slope"}),
    ],
)
def test_options_are_those_that_the_op_reads(
    catalogue: Catalogue, type: str, wanted: set[str]
) -> None:
    options = {option.name: option for option in catalogue.kinds[type][1]}
    assert wanted <= {name for name, option in options.items() if option.read}
    assert "CUDNN" not in getattr(options.get("engine"), "choices", ())


def test_one_seed_draws_the_same_cases(catalogue: Catalogue) -> None:
    texts = [[case.draft.text() for case in cases(catalogue, 12)] for _ in range(2)]
    assert texts[0] == texts[1]
    other = [case.draft.text() for case in cases(catalogue, 12, seed=4)]
    assert other != texts[0]


def test_what_the_nets_have(catalogue: Catalogue) -> None:
    """In-place layers, splits, shared parameters, several losses, both phases, refusals."""
    drawn = cases(catalogue, 260)
    specs = []
    for case in drawn:
        try:
            specs.append((case, spec_of(case.draft.text(), case.phase)))
        except CaffePortError:
            assert case.kind in ("layer", "net")
    assert 2 < len(drawn) - len(specs) < 40  # refusals are compared too
    layers = [layer for _, spec in specs for layer in spec.layers]
    assert any(set(x.tops) & set(x.bottoms) for x in layers)
    assert any(x.is_inserted for x in layers)
    assert any(p.owner for x in layers for p in x.params)
    losses = [sum(any(x.loss_weights) for x in spec.layers) for _, spec in specs]
    assert max(losses) > 1
    assert {case.phase for case in drawn} == {"TRAIN", "TEST"}
    solvers = [case.solver for case in drawn if case.solver]
    assert {solver.message.type for solver in solvers} == set(RULES)
    assert any(solver.message.iter_size > 1 for solver in solvers)
    assert any(case.old_text and as_v1(case.draft) for case in drawn)
    assert {case.type for case in drawn} == set(catalogue.types)


def test_values_are_in_the_readers_ranges() -> None:
    text = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 9 dim: 4 } } }
      layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 9 } } }
      layer { name: "z" type: "TanH" bottom: "y" top: "z" }
      layer { name: "l" type: "SoftmaxWithLoss" bottom: "x" bottom: "y" top: "l"
        loss_param { ignore_label: 7 } }"""
    spec = spec_of(text, "TRAIN")
    found = [input_values(spec, seed)["y"] for seed in range(20)]
    assert all(np.isin(values, [0, 1, 2, 3, 7]).all() for values in found)  # y is split
    assert any((values == 7).any() for values in found)
    assert len({values.tobytes() for values in found}) > 10


def test_free_values_tie_and_are_zero_and_negative() -> None:
    drawn = [drawn_values(np.random.RandomState(seed), (40,)) for seed in range(40)]
    assert any(len(np.unique(values)) < 12 for values in drawn)
    assert any((values == 0).any() for values in drawn)
    assert any((values < 0).any() for values in drawn)
    low = drawn_values(np.random.RandomState(0), (40,), Values(low=2), Values(high=2.5))
    assert low.min() >= 2
    assert low.max() <= 2.5


@pytest.fixture
def shift() -> Iterator[type[Op]]:
    """A layer of a user's own fork, whose options only that fork's schema has."""

    @register_op
    @dataclass(frozen=True)
    class Shift(Op):
        type = "Shift"
        option_ranges = {"by": (2.0, 2.5)}

    yield Shift
    del _base._ops["Shift"]


def test_a_custom_layer_is_drawn_without_new_code(shift: type[Op]) -> None:
    found = catalogue_of(SCHEMA, ["Shift", "Blur"], ["Shift"])
    assert found.types == ["Shift"]
    assert found.unknown_options == ["shift_param.by", "shift_param.file"]
    (option,) = found.kinds["Shift"][1]
    assert option == Option("shift_param", "by", "float", False, ours=False, range=(2.0, 2.5))
    texts = [draw_case(found, 1, i, ("layer",)).draft.text() for i in range(20)]
    given = [text for text in texts if "shift_param {\n    by: 2" in text]
    assert 3 < len(given) < 17


def test_a_caffe_without_any_of_the_types_wanted() -> None:
    with pytest.raises(UsageError, match="--types Crop: no layer type is left"):
        catalogue_of({"LayerParameter": {}}, ["ReLU"], ["Crop"])
