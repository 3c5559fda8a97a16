"""Which stored blob goes where, and what does not fit."""

import numpy as np
import pytest

from caffe_port.errors import WeightMismatchError
from caffe_port.weights.matching import fits, match
from caffe_port.weights.stored import StoredBlob, StoredLayer
from tests.spec.making import INPUT, conv, layer, spec_of

NET = INPUT + conv("a", "x") + layer("r", "ReLU", "a", "a") + conv("b", "a")
SHARE = 'param { name: "w" } param { name: "v" }'
SHARED = INPUT + conv("a", "x", more=SHARE) + conv("b", "a", more=SHARE)
GOOD = ((3, 3, 1, 1), (3,))


def blob(shape, legacy=False):
    return StoredBlob(np.zeros(shape, np.float32), legacy=legacy)


def stored(name, *shapes, indices=()):
    return StoredLayer(name, "Convolution", tuple(blob(s) for s in shapes), indices)


@pytest.mark.parametrize(
    ("found", "legacy", "wanted", "fit"),
    [
        ((2, 3, 1, 1), False, (2, 3, 1, 1), True),
        ((2, 3, 1, 1), True, (2, 3, 1, 1), True),
        ((1, 1, 1, 5), True, (5,), True),
        ((1, 1, 4, 5), True, (4, 5), True),
        ((1, 1, 1, 1), True, (), True),
        ((1, 1, 1, 5), False, (5,), False),
        ((5, 1, 1, 1), True, (5,), False),
        ((1, 1, 4, 5), True, (1, 4, 5), True),
        ((1, 1, 4, 5), True, (5, 4), False),
        ((1, 1, 1, 1), True, (1, 1, 1, 1, 1), False),
    ],
)
def test_shapes(found, legacy, wanted, fit):
    assert fits(blob(found, legacy), wanted) is fit


def test_all_fits_and_layers_without_blobs_are_no_matter():
    found = match(
        spec_of(NET), [stored("data"), stored("b", *GOOD), stored("a", *GOOD), stored("r")]
    )
    assert [(name, i) for name, i, _ in found.pairs] == [("b", 0), ("b", 1), ("a", 0), ("a", 1)]
    assert (found.missing, found.extra, found.misfits) == ([], [], [])
    found.check(strict=True)


def test_missing_and_extra():
    found = match(spec_of(NET), [stored("a", *GOOD), stored("old", (1,))])
    assert found.missing == ["layer 'b', blob 0", "layer 'b', blob 1"]
    assert found.extra == ["layer 'old' with 1 blobs"]
    found.check(strict=False)
    with pytest.raises(WeightMismatchError, match="strict=False accepts this"):
        found.check(strict=True)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (stored("a", (3, 3, 1, 1)), "layer 'a': 1 blobs stored, 2 expected"),
        (stored("a", *GOOD, (1,)), "layer 'a': 3 blobs stored, 2 expected"),
        (stored("a"), "layer 'a': 0 blobs stored, 2 expected"),
        (stored("r", (1,)), "layer 'r': 1 blobs stored, 0 expected"),
        (stored("a", (3, 3, 1, 1), (1, 3)), "blob 1: shape (1, 3) stored, (3,) expected"),
        (stored("a", (3,), indices=(1,)), "layer 'a': 1 blobs stored, 2 expected"),
        (stored("a", *GOOD, indices=(0, 5)), "layer 'a': 2 blobs stored, 2 expected"),
    ],
)
def test_misfits_are_errors_even_leniently(layer, words):
    found = match(spec_of(NET), [layer])
    with pytest.raises(WeightMismatchError) as caught:
        found.check(strict=False)
    assert words in str(caught.value)


def test_many_problems_are_counted():
    with pytest.raises(WeightMismatchError, match="and 8 more"):
        match(spec_of(""), [stored(f"l{i}", (1,)) for i in range(20)]).check(strict=True)


def test_the_last_copy_of_a_shared_parameter_wins():
    first, last = stored("a", *GOOD), stored("b", *GOOD)
    found = match(spec_of(SHARED), [first, last])
    assert found.pairs[-1][2] is last.blobs[1]
    found.check(strict=True)


def test_one_copy_of_a_shared_parameter_is_enough():
    spec = spec_of(SHARED)
    for only in ("a", "b"):
        match(spec, [stored(only, *GOOD)]).check(strict=True)
    hdf5 = [stored("a", *GOOD), StoredLayer("b", blobs=(), indices=())]
    match(spec, hdf5).check(strict=True)
    with pytest.raises(WeightMismatchError, match="missing: layer 'a', blob 0"):
        match(spec, [StoredLayer("b")]).check(strict=True)
