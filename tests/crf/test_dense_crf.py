"""DenseCRF as a user meets it: what it takes, what it refuses, what it leaves alone."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffe_port.crf import DenseCRF, _kernels, map_labels
from caffe_port.crf._lattice import Kernel, exponential, mean_field
from caffe_port.errors import UsageError
from tests.crf.making import problem

IMAGE, UNARY = problem(9, 11, labels=4)


def crf(image=IMAGE, labels=4, **options):
    height, width = image.shape[:2]
    made = DenseCRF(height, width, labels, **options)
    return made.add_gaussian(3, weight=3).add_bilateral(20, 8, image, weight=4)


def test_probabilities_sum_to_one_and_the_same_call_gives_the_same_bits():
    made = crf()
    q = made.infer(UNARY)
    assert q.shape == UNARY.shape
    assert q.dtype == np.float32
    assert np.abs(q.sum(0) - 1).max() < 1e-6
    assert q.min() >= 0
    assert np.array_equal(made.infer(UNARY), q)
    assert np.array_equal(crf().infer(UNARY), q)


def test_it_smooths_a_stray_pixel_away():
    unary = np.zeros((2, 9, 9), np.float32)
    unary[1] = 2
    unary[:, 4, 4] = [1, 0]
    assert map_labels(DenseCRF(9, 9, 2).infer(unary))[4, 4] == 1
    labels = DenseCRF(9, 9, 2).add_gaussian(3, weight=3).map(unary)
    assert labels.shape == (9, 9)
    assert labels.dtype == np.int32
    assert not labels.any()


def test_the_lowest_label_wins_among_equals():
    assert not DenseCRF(3, 5, 7).add_gaussian(2, weight=3).map(np.zeros((7, 3, 5), "f4")).any()


@pytest.mark.parametrize(
    "unary",
    [
        UNARY.astype(np.float64),
        np.asfortranarray(UNARY),
        np.repeat(UNARY, 2, axis=2)[:, :, ::2],
        UNARY[::-1][::-1],
        UNARY.astype(">f4"),
        UNARY.tolist(),
    ],
    ids=["float64", "fortran", "strided", "reversed", "big-endian", "list"],
)
def test_layouts_do_not_matter(unary):
    assert np.array_equal(crf().infer(unary), crf().infer(UNARY))


def test_read_only_arrays_are_read_and_inputs_stay_as_they_were():
    image, unary = IMAGE.copy(), UNARY.copy()
    image.flags.writeable = unary.flags.writeable = False
    q = crf(image).infer(unary)
    assert np.array_equal(q, crf().infer(UNARY))
    assert np.array_equal(image, IMAGE)
    assert np.array_equal(unary, UNARY)
    assert not np.shares_memory(q, unary)


def test_float32_images_and_odd_layouts_equal_bytes():
    want = crf().infer(UNARY)
    for image in (IMAGE.astype(np.float32), np.asfortranarray(IMAGE), IMAGE[:, ::-1][:, ::-1]):
        assert np.array_equal(crf(image).infer(UNARY), want)


def test_changing_the_image_afterwards_changes_nothing():
    image = IMAGE.astype(np.float32)
    made = crf(image)
    image[:] = 0
    assert np.array_equal(made.infer(UNARY), crf().infer(UNARY))


def test_one_label_is_certain():
    q = DenseCRF(4, 5, 1).add_gaussian(3, weight=3).infer(np.full((1, 4, 5), 7.5, np.float32))
    assert np.array_equal(q, np.ones((1, 4, 5), np.float32))


@pytest.mark.parametrize("labels", [2, 3, 4, 5, 8, 9, 33, 300])
def test_any_number_of_labels(labels):
    unary = np.tile(UNARY[:1], (labels, 1, 1))
    unary[-2:] = UNARY[:2]
    q = crf(labels=labels).infer(unary, 2)
    equal = labels - 1 if labels > 2 else 1  # all but the last have the energies of the first
    assert np.array_equal(q[:equal], np.broadcast_to(q[:1], q[:equal].shape))
    assert np.abs(q.sum(0) - 1).max() < 1e-5


def test_infinity_rules_a_label_out():
    unary = UNARY.copy()
    unary[2] = np.inf
    q = crf().infer(unary)
    assert not q[2].any()
    assert np.abs(q.sum(0) - 1).max() < 1e-6
    three = crf(labels=3).infer(unary[[0, 1, 3]])
    # a softmax over four adds in another order than one over three, ten times over
    assert np.abs(q[[0, 1, 3]] - three).max() < 10 * 4 * np.finfo(np.float32).eps


def test_probabilities_below_e_to_the_minus_twenty_are_exactly_zero():
    unary = np.array([0, 19.9, 20.1], np.float32).reshape(3, 1, 1)
    q = DenseCRF(1, 1, 3).infer(unary, 0).ravel()
    assert q[2] == 0
    assert abs(q[1] / np.exp(-19.9) - 1) < 1e-5


@pytest.mark.parametrize(("kind", "bound"), [("exact", 5e-6), ("cut off", 2e-7), ("clamped", 2e-7)])
def test_the_exponential_s_error_is_bounded(kind, bound, choose_instructions):
    x = -np.concatenate([np.linspace(0, 20, 200_001), np.logspace(-30, 1, 10_000)])
    x = x.astype(np.float32)
    if kind == "clamped":
        x = np.concatenate([x, -np.linspace(20, 87, 100_001, dtype=np.float32)])
    y = np.empty_like(x)
    for choice in ("portable", "best"):
        choose_instructions(choice)
        exponential(x, y, kind)
        error = np.abs(y / np.exp(x.astype(np.float64)) - 1)
        assert (error <= bound * (1 + np.abs(x))).all()


@pytest.mark.parametrize("kind", ["exact", "cut off", "clamped"])
def test_the_exponential_far_down(kind):
    x = np.array([-19.999, -20.001, -87, -1e4, -3e38, -np.inf], np.float32)
    y = np.empty_like(x)
    exponential(x, y, kind)
    assert y[0] > 2e-9
    assert y[-1] == 0
    assert (y[1:5] > 0).all() if kind == "clamped" else not y[1:].any()
    assert kind != "clamped" or (y[2:5] == y[2]).all()


def test_the_exponential_is_accurate_in_the_whole():
    depth = np.linspace(0, 20, 4001, dtype=np.float32)
    unary = np.stack([np.zeros_like(depth), depth])[:, None, :]
    q = DenseCRF(1, len(depth), 2).infer(unary, 0)[:, 0].astype(np.float64)
    assert np.abs(q[1] / q[0] / np.exp(-depth.astype(np.float64)) - 1).max() < 5e-6


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.floats(0.5, 500),
    st.floats(0.5, 500), st.sampled_from([0.0, 1.0, 1e4, 1e30]), st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_results_are_finite_and_normalised(height, width, labels, sxy, srgb, scale, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    unary = (scale * rng.normal(size=(labels, height, width))).astype(np.float32)
    made = DenseCRF(height, width, labels).add_gaussian(sxy, weight=3)
    q = made.add_bilateral(sxy, srgb, image, weight=4).infer(unary, 3)
    assert np.isfinite(q).all()
    assert np.abs(q.sum(0) - 1).max() < 1e-5


@pytest.mark.parametrize("shape", [(4, 9), (4, 11, 9), (3, 9, 11), (1, 4, 9, 11), (0,), (4, 0, 11)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(UsageError, match=r"unary has shape .* expected \(4, 9, 11\)"):
        crf().infer(np.zeros(shape, np.float32))


@pytest.mark.parametrize("dtype", ["f2", "i4", "u1", "c8", "bool", "O", "U3"])
def test_wrong_dtypes_are_refused(dtype):
    with pytest.raises(UsageError, match=r"unary has dtype .* expected float32 or float64"):
        crf().infer(np.abs(UNARY).astype(dtype))  # arm64 warns of a negative uint8


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_values_that_are_not_energies_are_refused_with_their_place(value):
    unary = UNARY.copy()
    unary[1, 2, 3] = value
    with pytest.raises(UsageError, match=r"unary\[1, 2, 3\] is -?(nan|inf)"):
        crf().infer(unary)


def test_a_pixel_without_any_label_and_sums_beyond_float32_are_refused():
    unary = UNARY.copy()
    unary[:, 5, 6] = np.inf
    with pytest.raises(UsageError, match=r"unary\[:, 5, 6\]"):
        crf().infer(unary)
    huge = DenseCRF(9, 11, 4).add_gaussian(3, weight=3e38).add_gaussian(3, weight=3e38)
    with pytest.raises(UsageError, match="too large"):
        huge.infer(UNARY)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (IMAGE[:, :, :2], "shape"),
        (IMAGE[:, :-1], "shape"),
        (IMAGE.transpose(2, 0, 1), "shape"),
        (IMAGE[:, :, 0], "shape"),
        (IMAGE.astype(np.float64), "dtype float64"),
        (IMAGE.astype(np.int64), "dtype int64"),
        (np.where(IMAGE > 250, np.nan, 1).astype(np.float32) * np.float32(np.nan), "finite"),
        (IMAGE.astype(np.float32) + np.float32(np.inf), "finite"),
    ],
)
def test_wrong_images_are_refused(image, message):
    with pytest.raises(UsageError, match=f"image.*{message}"):
        DenseCRF(9, 11, 4).add_bilateral(20, 8, image, weight=4)


@pytest.mark.parametrize(
    "width", [0, -1, 0.0, np.nan, np.inf, 1e-50, 1e60, "3", None, True, (1,), (1, 2, 3), (1, 0)]
)
def test_widths_that_are_not_positive_numbers_are_refused(width):
    with pytest.raises(UsageError, match="sxy"):
        DenseCRF(9, 11, 4).add_gaussian(width, weight=3)


@pytest.mark.parametrize("width", [1e-4, 1e-30, (1e-40, 1)])
def test_a_lattice_beyond_sixteen_bits_is_refused_instead_of_wrapping(width):
    with pytest.raises(UsageError, match="too small"):
        DenseCRF(9, 11, 4).add_gaussian(width, weight=3)
    with pytest.raises(UsageError, match="too small"):
        DenseCRF(9, 11, 4).add_bilateral(20, 1e-3, IMAGE, weight=3)


@pytest.mark.parametrize("weight", [np.nan, np.inf, 1e39, "3", None])
def test_weights_that_are_not_numbers_are_refused(weight):
    with pytest.raises(UsageError, match="weight"):
        DenseCRF(9, 11, 4).add_gaussian(3, weight=weight)


@pytest.mark.parametrize(
    "size", [(0, 5, 2), (5, 0, 2), (5, 5, 0), (-1, 5, 2), (2.5, 5, 2), (5, 5, True)]
)
def test_sizes_must_be_positive_integers(size):
    with pytest.raises(UsageError, match="expected an integer of at least 1"):
        DenseCRF(*size)


def test_other_options_are_checked():
    with pytest.raises(UsageError, match="normalization is 'both'"):
        DenseCRF(5, 5, normalization="both")
    with pytest.raises(UsageError, match="flavour is 'caffe'"):
        DenseCRF(5, 5, flavour="caffe")
    with pytest.raises(UsageError, match="threads is 0"):
        DenseCRF(5, 5, threads=0)
    with pytest.raises(UsageError, match="iterations is -1"):
        crf().infer(UNARY, -1)
    with pytest.raises(UsageError, match=r"iterations is 2\.5"):
        crf().infer(UNARY, 2.5)


def test_the_compiled_part_checks_its_arguments():
    kernel = Kernel.of_features(np.zeros((1, 6, 2), np.float32), "after")
    assert (kernel.height, kernel.width, kernel.vertices) == (1, 6, 3)
    small, other = np.zeros((2, 1, 6), np.float32), np.zeros((2, 1, 5), np.float32)
    for wrong in ((0, 1, 2), (1, 0, 2), (1, 3, 17), (1, 3, 0)):
        with pytest.raises(ValueError, match="pixels, and 1 to 16 dimensions"):
            Kernel.of_features(np.zeros(wrong, np.float32), "after")
    with pytest.raises(ValueError, match="not in tuple"):
        Kernel.of_features(np.zeros((1, 6, 2), np.float32), "both")
    with pytest.raises(ValueError, match="2 or 5 widths"):
        Kernel.of_image(1, 6, np.ones(3, np.float32), None, None, "after")
    with pytest.raises(ValueError, match="colours"):
        Kernel.of_image(1, 6, np.ones(5, np.float32), None, other.reshape(1, 5, 2), "after")
    with pytest.raises(ValueError, match="the shape of unary"):
        mean_field(small, (), (), 1, q=other)
    with pytest.raises(ValueError, match="the shape of unary"):
        mean_field(small, (), (), 1, start=other)
    with pytest.raises(ValueError, match="best"):
        mean_field(small, (), (), 1, best=np.zeros((1, 5), np.int32))
    with pytest.raises(ValueError, match="each kernel"):
        mean_field(other, (kernel,), (1.0,), 1)
    with pytest.raises(ValueError, match="each kernel"):
        mean_field(small, (kernel,), (1.0,), 1, exact=True)
    with pytest.raises(ValueError, match="each kernel"):
        mean_field(small, (kernel,), (), 1)
    with pytest.raises(ValueError, match="labels by labels"):
        mean_field(small, (kernel,), (np.zeros((3, 3), np.float32),), 1)
    with pytest.raises(ValueError, match="threads"):
        mean_field(small, (kernel,), (1.0,), 1, threads=9)
    with pytest.raises(TypeError):
        mean_field(small, ("no kernel",), (1.0,), 1)


def test_numpy_numbers_are_accepted_and_absurd_ones_refused():
    want = DenseCRF(9, 11, 4).add_gaussian(3, weight=2).infer(UNARY)
    for three in (np.array(3.0), np.float32(3), np.array([3, 3]), [3, np.int64(3)]):
        crf = DenseCRF(9, 11, 4).add_gaussian(three, weight=np.array(2.0))
        assert np.array_equal(crf.infer(UNARY), want)
    with pytest.raises(UsageError, match="weight is 1000"):
        DenseCRF(9, 11, 4).add_gaussian(3, weight=10**400)
    with pytest.raises(UsageError, match="sxy is 1000"):
        DenseCRF(9, 11, 4).add_gaussian(10**400, weight=1)
    with pytest.raises(UsageError, match=r"sxy\[0\] is \[1"):
        DenseCRF(9, 11, 4).add_gaussian(np.ones((2, 2)), weight=1)


def test_a_ragged_list_is_not_an_array():
    with pytest.raises(UsageError, match="unary is not an array"):
        DenseCRF(1, 2, 2).infer([[[1.0, 2.0]], [[1.0]]])


def test_an_image_beyond_32_bit_numbers_is_refused_before_memory_is_taken():
    with pytest.raises(UsageError, match="expected at most 715,827,862"):
        DenseCRF(2**31 - 1, 2**31 - 1)


def test_one_pixel_and_one_label():
    made = DenseCRF(1, 1, 1).add_gaussian(3, weight=3)
    made.add_bilateral(20, 8, np.zeros((1, 1, 3), np.uint8), weight=4)
    assert made.infer(np.full((1, 1, 1), 7.0)) == [[[1.0]]]
    assert made.map(np.full((1, 1, 1), 7.0)) == [[0]]


def test_weights_of_zero_leave_the_softmax():
    want = DenseCRF(9, 11, 4).infer(UNARY)
    made = DenseCRF(9, 11, 4).add_gaussian(3, weight=0).add_bilateral(20, 8, IMAGE, weight=0)
    assert np.array_equal(made.infer(UNARY), want)


def test_a_width_beyond_the_image_sees_all_pixels_alike():
    mean = DenseCRF(9, 11, 4).add_gaussian(3e38, weight=1).filtered(UNARY, 0)
    assert np.abs(mean - UNARY.mean((1, 2), keepdims=True)).max() < 1e-5


def test_kernels_over_positions_are_kept_while_they_are_small(monkeypatch):
    def kernel(height, width):
        return _kernels.position_kernel(height, width, (3.0, 3.0), "after", False)

    monkeypatch.setattr(_kernels, "_kept", OrderedDict())
    monkeypatch.setattr(_kernels, "MOST_KEPT", 500)
    first = kernel(10, 20)
    assert kernel(10, 20) is first
    second = kernel(20, 10)
    assert kernel(10, 20) is first
    kernel(10, 15)  # 550 pixels: the one that was asked for longest ago goes
    assert kernel(10, 20) is first
    assert kernel(20, 10) is not second
    assert kernel(30, 20) is not kernel(30, 20)
    assert len(_kernels._kept) <= 3
    for width in range(1, 20):
        kernel(1, width)
    assert len(_kernels._kept) == _kernels.KEPT


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (
            (9, 11),
            r"a grey image; np.stack\(\[image\] \* 3, axis=2\) gives it three equal channels",
        ),
        ((9, 11, 1), r"a grey image; np.stack\(\[image\[:, :, 0\]\] \* 3, axis=2\)"),
        ((9, 11, 4), r"with opacity as fourth channel; take image\[:, :, :3\]"),
        ((3, 9, 11), r"its channels come first; take image.transpose\(1, 2, 0\)"),
        ((11, 9, 3), "height and width are exchanged"),
        ((9, 12, 3), r"expected \(9, 11, 3\)$"),
    ],
)
def test_an_image_of_another_shape_comes_with_advice(shape, words):
    with pytest.raises(UsageError, match=words):
        DenseCRF(9, 11, 3).add_bilateral(3, 3, weight=1, image=np.zeros(shape, np.uint8))


def test_the_advice_for_a_grey_image_works():
    grey = np.arange(99, dtype=np.uint8).reshape(9, 11)
    crf = DenseCRF(9, 11, 3).add_bilateral(3, 3, weight=1, image=np.stack([grey] * 3, axis=2))
    assert crf.infer(np.zeros((3, 9, 11), np.float32), 1).shape == (3, 9, 11)
