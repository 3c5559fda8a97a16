"""Scales, flips, windows and whole images give what the slow reference gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe_port.errors import UsageError
from caffe_port.evaluation.score_net import ScoreNet, interp
from caffe_port.evaluation.test_time import InferenceOptions, scaled_side, window_starts
from caffe_port.prediction import Segmenter
from caffe_port.spec import NetSpec
from tests.goldens_dir import ROOT
from tests.prediction import reference
from tests.prediction.nets import HALVING, halving, photo

pytestmark = pytest.mark.parity
MEAN = (104.008, 116.669, 122.675)
CROP = (17, 21)
VARIABLES = {"NUM_LABELS": "21", "NET_ID": "net", "EXP": "voc12"}
SIZES = [(17, 21), (11, 14), (1, 1), (30, 21), (45, 52), (16, 60)]
OPTIONS = [
    {},
    {"flip": True},
    {"scales": (0.5, 1.0, 1.5)},
    {"scales": (0.75, 1.25), "flip": True},
    {"scales": (0.5, 1.0), "flip": True, "merge": "max"},
    {"overlap": 0.0},
    {"overlap": 0.7},
]


def agree(segmenter, image, expected):
    """Scores within float32 rounding; labels equal where the two best are further apart."""
    result = segmenter(image)
    np.testing.assert_allclose(result.scores, expected, rtol=1e-4, atol=2e-3)
    best = np.sort(expected, axis=0)
    clear = best[-1] - best[-2] > 1e-2
    assert clear.mean() > 0.95
    assert (result.labels == expected.argmax(0))[clear].all()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_windows_equal_the_reference(tmp_path, size, options):
    net, image = halving(tmp_path), photo(*size)
    given = {"scales": (1.0,), "flip": False, "merge": "mean", **options}
    expected = reference.merged(net, "full", image, MEAN, crop=CROP, **given)
    agree(Segmenter(net, **options), image, expected)


@pytest.mark.parametrize("options", OPTIONS[:5], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_whole_images_equal_the_reference(tmp_path, size, options):
    net, image = halving(tmp_path), photo(*size)
    given = {"scales": (1.0,), "flip": False, "merge": "mean", **options}
    expected = reference.merged(net, "full", image, MEAN, crop=CROP, multiple=2, **given)
    agree(Segmenter(net, whole_image=True, **options), image, expected)


def test_a_custom_crop_equals_the_reference(tmp_path):
    net, image = halving(tmp_path), photo(40, 33)
    given = {"scales": (1.0,), "flip": True, "merge": "mean"}
    expected = reference.merged(net, "full", image, MEAN, crop=(9, 15), **given)
    agree(Segmenter(net, crop=(9, 15), flip=True), image, expected)


@pytest.mark.parametrize("whole_image", [False, True])
@pytest.mark.parametrize("batch", [2, 3, 7])
def test_a_batch_changes_no_label(tmp_path, batch, whole_image):
    net = halving(tmp_path)
    images = [photo(*size, seed)[:, :, ::-1] for seed, size in enumerate([*SIZES, *SIZES[:2]])]
    options = {"scales": (1.0, 0.5), "flip": True, "whole_image": whole_image}
    alone = list(Segmenter(net, **options).predict_scores(images))
    together = list(Segmenter(net, batch=batch, **options).predict_scores(images))
    assert [x.shape for x in together] == [(4, *image.shape[:2]) for image in images]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)
        assert (one.argmax(0) == other.argmax(0)).mean() > 0.999


def test_a_batch_holds_inputs_of_several_images(tmp_path):
    net, shapes = halving(tmp_path), []
    segmenter = Segmenter(net, batch=4)
    net.register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0]["data"].shape)))
    images = iter([photo(10, 10)] * 6)
    scores = segmenter.predict_scores(images)
    next(scores)
    assert len(list(images)) == 2  # four were taken for the first batch, no more
    list(scores)
    assert shapes == [(4, 3, *CROP)]


def test_windows_hold_memory_to_one_input_at_a_time(tmp_path):
    net, shapes = halving(tmp_path), set()
    net.register_forward_pre_hook(lambda module, args: shapes.add(tuple(args[0]["data"].shape)))
    assert Segmenter(net)(photo(129, 257)).labels.shape == (129, 257)
    assert shapes == {(1, 3, *CROP)}


def test_interp_equals_the_layer_and_the_reference():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 7, 5)).astype(np.float32))
    for size in ((7, 5), (13, 9), (4, 3), (1, 1), (20, 1)):
        expected = reference.resized(x.numpy().astype(np.float64), *size)
        np.testing.assert_allclose(interp(x, size).numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("side", "scale", "expected"),
    [(513, 0.5, 257), (513, 0.75, 385), (321, 1.25, 401), (500, 0.5, 250), (1, 0.5, 1), (2, 3, 4)],
)
def test_a_scaled_side_is_that_of_interp(side, scale, expected):
    assert scaled_side(side, scale) == expected


@pytest.mark.parametrize("overlap", [0.0, 0.2, 1 / 3, 0.5, 0.9])
@pytest.mark.parametrize(("side", "window"), [(10, 17), (17, 17), (18, 17), (100, 17), (2049, 513)])
def test_windows_cover_a_side_with_the_overlap(side, window, overlap):
    found = window_starts(side, window, overlap)
    assert found == reference.starts(side, window, overlap)
    assert found[0] == 0
    assert found[-1] == max(0, side - window)
    steps = np.diff(found)
    assert (steps > 0).all()
    assert (steps <= max(1, window * (1 - overlap))).all()


@pytest.mark.parametrize(
    ("name", "size", "taken"),
    [
        ("deeplab_v2_vgg16_largefov", (375, 500), (377, 505)),
        ("deeplab_v1_largefov", (513, 513), (513, 513)),
        ("fcn_8s", (375, 500), (375, 500)),
    ],
)
def test_the_smallest_input_of_published_nets(name, size, taken):
    spec = NetSpec.read(ROOT / "prototxt" / name / "deploy.prototxt", variables=VARIABLES)

    class Described:
        """A net without its weights."""

    net = Described()
    net.spec = spec
    scores = ScoreNet(net)
    assert scores.size_for(size) == taken
    assert scores.takes(taken)


def test_small_scores_are_enlarged_with_aligned_corners(tmp_path):
    net = halving(tmp_path)
    small = halving(tmp_path, HALVING[: HALVING.index('layer { name: "full"')])
    image = photo(25, 40)
    np.testing.assert_array_equal(Segmenter(small)(image).scores, Segmenter(net)(image).scores)


@pytest.mark.parametrize("last", ["Softmax", "ArgMax"])
def test_scores_are_read_before_the_softmax(tmp_path, last):
    text = HALVING + f'layer {{ name: "last" type: "{last}" bottom: "full" top: "last" }}'
    image = photo(25, 40)
    scores = Segmenter(halving(tmp_path, text))(image).scores
    np.testing.assert_array_equal(scores, Segmenter(halving(tmp_path))(image).scores)


def test_an_optimized_net_gives_the_same_labels(tmp_path):
    net, image = halving(tmp_path), photo(45, 52)
    plain, quick = (Segmenter(net, optimized=way, flip=True)(image) for way in (False, True))
    np.testing.assert_allclose(plain.scores, quick.scores, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, "scales are"),
        ({"scales": (0.0,)}, "expected numbers above 0"),
        ({"scales": (1.0, 1.0)}, "twice"),
        ({"scales": (float("nan"),)}, "expected numbers above 0"),
        ({"merge": "median"}, "expected 'mean' or 'max'"),
        ({"overlap": 1.0}, "not including, 1"),
        ({"batch": 0}, "expected 1 or more"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(UsageError, match=message):
        InferenceOptions(**options)


def test_a_crop_that_the_net_does_not_take(tmp_path):
    with pytest.raises(UsageError, match="the next size that fits is 17x21"):
        Segmenter(halving(tmp_path), crop=(16, 20))


def test_a_net_of_one_size_has_no_whole_images(tmp_path):
    text = (
        HALVING[: HALVING.index('layer { name: "full"')]
        + """
layer { name: "ip" type: "InnerProduct" bottom: "score" top: "ip"
  inner_product_param { num_output: 1428 } }
layer { name: "map" type: "Reshape" bottom: "ip" top: "map"
  reshape_param { shape { dim: -1 dim: 4 dim: 17 dim: 21 } } }
"""
    )
    net = halving(tmp_path, text)
    assert Segmenter(net)(photo(30, 50)).labels.shape == (30, 50)
    with pytest.raises(UsageError, match="takes no input of 30 to"):
        Segmenter(net, whole_image=True)(photo(30, 50))


def test_scores_that_are_not_aligned_with_the_input(tmp_path):
    text = HALVING.replace("kernel_size: 3 pad: 1", "kernel_size: 3")
    with pytest.raises(UsageError, match=r"lie corner on corner with it: name the blob"):
        Segmenter(halving(tmp_path, text))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_output: 4", "num_output: 1", "2 to 255 classes"),
        ("dim: 1 dim: 3", "dim: 1 dim: 1", "3 channels"),
    ],
)
def test_nets_that_segment_no_photograph(tmp_path, old, new, message):
    with pytest.raises(UsageError, match=message):
        Segmenter(halving(tmp_path, HALVING.replace(old, new)))


def test_scores_that_are_not_finite(tmp_path):
    net = halving(tmp_path)
    torch.nn.init.constant_(net.layer_params("score")[1], float("nan"))
    with pytest.raises(UsageError, match="not finite"):
        Segmenter(net)(photo(10, 10))
