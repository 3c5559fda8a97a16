"""Which stored blob goes where, and what does not fit."""

import numpy as np
import pytest
import torch

from caffe_port.errors import WeightMismatchError
from caffe_port.net import Net
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


def test_all_fits_and_layers_without_blobs_are_ignored():
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


FC = "inner_product_param { num_output: 3 }"
NARROW = conv("c", "x", options="num_output: 5 kernel_size: 1")
BARE = conv("c", "x", options="num_output: 3 kernel_size: 1 bias_term: false")
BATCH_NORM = layer("n", "BatchNorm", "x")


@pytest.mark.parametrize(
    ("net", "stored", "words"),
    [
        (NARROW, stored("c", (21, 3, 1, 1), (21,)),
         "layer 'c', blob 0: shape (21, 3, 1, 1) stored, (5, 3, 1, 1) expected: the layer has 5 "
         "outputs and was stored with 21; to train it from scratch, give it another name"),
        (NARROW, stored("c", (21, 3, 1, 1), (21,)),
         "blob 1: shape (21,) stored, (5,) expected: the layer has 5 outputs and was stored with"),
        (NARROW, StoredLayer("c", blobs=(blob((21, 3, 1, 1), True), blob((1, 1, 1, 21), True))),
         "blob 1: shape (1, 1, 1, 21) stored, (5,) expected: the layer has 5 outputs and was "
         "stored with 21"),
        (layer("f", "InnerProduct", "x", more=FC), stored("f", (3, 3, 6, 6), (3,)),
         "(3, 108) expected: the same number of values, of a Convolution layer; strict_dim: false "
         "in the layer takes them as they are"),
        (conv("c", "x", options="num_output: 3 kernel_size: 6"), stored("c", (3, 108), (3,)),
         "(3, 3, 6, 6) expected: the same number of values, of an InnerProduct layer; strict_di"),
        (BATCH_NORM, stored("n", (3,), (3,), (1,), (3,), (3,)),
         "layer 'n': 5 blobs stored, 3 expected: NVCaffe's BatchNorm with scale_bias: write "
         "batch_norm_param { scale_bias: true }"),
        (BARE, stored("c", (3, 3, 1, 1), (3,)),
         "layer 'c': 2 blobs stored, 1 expected: bias_term is true for the stored ones"),
        (NARROW, stored("c", (5, 3, 1, 1)),
         "layer 'c': 1 blobs stored, 2 expected: bias_term is false for the stored ones"),
    ],
)  # fmt: skip
def test_the_likely_cause_is_named(net, stored, words):
    with pytest.raises(WeightMismatchError) as caught:
        match(spec_of(INPUT + net), [stored]).check(strict=False)
    assert words in str(caught.value)


def test_no_cause_is_guessed():
    found = match(spec_of(INPUT + NARROW), [stored("c", (5, 4, 3, 3), (5,))])
    assert found.misfits == ["layer 'c', blob 0: shape (5, 4, 3, 3) stored, (5, 3, 1, 1) expected"]


def test_the_advice_for_an_inner_product_in_a_convolution_works():
    """VGG's fc6: an InnerProduct's values are a Convolution's of the same window, in one order."""
    given = StoredLayer(
        "c", blobs=(StoredBlob(np.arange(324, dtype="f4").reshape(3, 108)), blob(3))
    )
    net = conv("c", "x", options="num_output: 3 kernel_size: 6", more="strict_dim: false")
    whole = Net(spec_of(INPUT + net))
    whole.load_stored([given])
    x = torch.rand(2, 3, 6, 6)
    found = whole({"x": x})["c"].detach().view(2, 3)
    wanted = x.view(2, 108).double() @ torch.arange(324.0).double().view(3, 108).T
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=0)
