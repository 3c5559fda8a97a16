"""What Caffe would walk backwards."""

import json

import numpy as np

from caffe_port import NetSpec
from tests.goldens_dir import cases
from tests.spec.making import INPUT, LABEL, conv, layer, spec_of

FROZEN = "param { lr_mult: 0 } param { lr_mult: 0 }"


def walked(spec):
    return {one.name for one in spec.layers if one.needs_backward}


def loss(bottom, more=""):
    return layer("l", "SoftmaxWithLoss", f"{bottom} y", "l", more)


def test_a_chain_from_what_learns_to_the_loss():
    text = INPUT + LABEL + layer("r", "ReLU", "x") + conv("c", "r") + layer("s", "TanH", "c")
    spec = spec_of(text + loss("s"))
    assert walked(spec) == {"c", "s", "l"}
    assert spec.layer("c").bottom_needs_backward == (False,)
    assert spec.layer("l").bottom_needs_backward == (True, False)


def test_without_a_loss_nothing_is_walked():
    assert walked(spec_of(INPUT + conv("c", "x"))) == set()
    weighted = spec_of(INPUT + conv("c", "x", more="loss_weight: 1"))
    assert walked(weighted) == {"c"}


def test_lr_mult_0_ends_the_walk():
    text = INPUT + LABEL + conv("a", "x", more=FROZEN) + conv("b", "a") + loss("b")
    assert walked(spec_of(text)) == {"b", "l"}
    half = text.replace(FROZEN, "param { lr_mult: 0 }")  # the bias still learns
    assert walked(spec_of(half)) == {"a", "b", "l"}
    frozen = INPUT + LABEL + conv("a", "x", more=FROZEN) + loss("a")
    assert walked(spec_of(frozen)) == set()


def test_a_branch_that_leads_to_no_loss():
    text = (
        INPUT + LABEL + conv("c", "x") + conv("d", "c") + layer("z", "Silence", "d", "") + loss("c")
    )
    spec = spec_of(text)
    assert walked(spec) == {"c", "c_c_0_split", "l"}


def test_propagate_down_false_ends_a_branch():
    before = INPUT + LABEL + conv("a", "x") + conv("b", "a")
    text = before + layer("r", "ReLU", "b") + loss("r")
    assert walked(spec_of(text)) == {"a", "b", "r", "l"}
    spec = spec_of(before + layer("r", "ReLU", "b", "r", "propagate_down: false") + loss("r"))
    assert walked(spec) == {"r", "l"}
    assert spec.layer("r").bottom_needs_backward == (False,)


def test_force_backward_overrides_propagate_down():
    text = INPUT + layer("r", "ReLU", "x", "r", "propagate_down: false")
    spec = spec_of("force_backward: true\n" + text)
    assert spec.layer("r").bottom_needs_backward == (True,)
    assert spec.layer("r").propagate_down == (True,)


def test_propagate_down_true_asks_for_the_diff_of_an_input():
    text = INPUT + LABEL + conv("c", "x", more="propagate_down: true") + loss("c")
    spec = spec_of(text)
    assert spec.layer("c").bottom_needs_backward == (True,)


def test_force_backward_walks_everything_but_labels():
    spec = spec_of(
        "force_backward: true " + INPUT + LABEL + conv("a", "x", more=FROZEN) + loss("a")
    )
    assert walked(spec) == {one.name for one in spec.layers}
    assert spec.layer("a").bottom_needs_backward == (True,)
    assert spec.layer("l").bottom_needs_backward == (True, False)


def test_an_in_place_writer_after_what_learns():
    text = INPUT + LABEL + conv("c", "x") + layer("r", "ReLU", "c", "c") + loss("c")
    assert walked(spec_of(text)) == {"c", "r", "l"}


RECORDED = [folder for kind in ("layers", "nets") for folder in cases(kind)]


def test_recorded_diffs_are_zero_exactly_where_nothing_is_walked():
    checked = 0
    for folder in RECORDED:
        with np.load(folder / "case.npz") as arrays:
            diffs = {k[5:]: arrays[k].any() for k in arrays.files if k.startswith("diff/")}
        phase = json.loads((folder / "case.json").read_text())["phase"]
        spec = NetSpec.read(folder / "net.prototxt", phase=phase)
        set_by_hand = set(spec.outputs)
        for one in spec.layers:
            for blob, needed in zip(one.bottoms, one.bottom_needs_backward, strict=True):
                if not needed and blob not in set_by_hand and blob not in one.tops:
                    assert not diffs.get(blob, False), (folder.name, one.name, blob)
                    checked += blob in diffs
    assert checked > 20
